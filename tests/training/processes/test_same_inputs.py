"""Processes that are started each by itself, as on several machines: with recipes and disks of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import run_on_two, train_on_two, write_recipe

from instil.training.processes import same_inputs as shared

SHORT: dict[str, Any] = {"training": {"max_steps": 2}, "evaluate": {"every": 2, "max_new_tokens": 1}}


@pytest.mark.slow
def test_different_recipes_are_refused_by_every_process(tmp_path: Path, base: Path, rows: Path):
    recipe = write_recipe(tmp_path / "a", SHORT, base=base, rows=rows)
    other = write_recipe(tmp_path / "b", SHORT, {"optimizer": {"lr": 1e-3}}, base=base, rows=rows)
    codes, said = run_on_two(recipe, other=other)
    assert codes == [2, 2], said
    assert all(
        "error: optimizer.lr: 0.001 in process 1, 0.005 in the first. Expected one recipe" in one for one in said
    )
    assert not (tmp_path / "a" / "run").exists()


@pytest.mark.slow
@pytest.mark.long
def test_a_run_folder_that_is_not_shared_is_refused_before_the_first_step(
    tmp_path: Path, base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared, "APPEARS_WITHIN", 0.0)
    recipe = write_recipe(tmp_path / "a", SHORT, base=base, rows=rows)
    other = write_recipe(tmp_path / "b", SHORT, base=base, rows=rows)
    words = "process 1 of 2 does not see there what the first one writes"
    for folder in (None, tmp_path / "b" / "run"):  # one that is not there, and one that is another
        if folder is not None:
            folder.mkdir()
        codes, said = run_on_two(recipe, other=other)
        assert codes == [2, 2], said
        assert all(words in one for one in said), said
        assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == [".lock"]
    train_on_two(recipe)
    (tmp_path / "a" / "run" / "results.json").unlink()
    codes, said = run_on_two(recipe, "--resume", other=other)
    assert codes == [2, 2], said
    assert all(words in one for one in said), said


def test_a_run_folder_that_another_machine_sees_late_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    late: list[float] = []

    def appear(seconds: float) -> None:
        late.append(seconds)
        (tmp_path / "file").touch()

    monkeypatch.setattr(shared.time, "sleep", appear)
    assert shared._appears(tmp_path / "file")
    assert late == [shared.POLL_SECONDS]

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.command_line import exit_code, losses_of, train, write_recipe

from instil.errors import RunError
from instil.training.comparison import differing_settings, find_runs, settings_of, summarise
from instil.training.run_folder import Run


def test_runs_are_listed_and_compared_from_their_folders(
    tmp_path: Path, base: Path, rows: Path, reference: Run, capsys: pytest.CaptureFixture[str]
):
    other = train(write_recipe(tmp_path, {"training": {"max_steps": 1, "seed": 9}}, base=base, rows=rows))
    assert find_runs(reference.folder.parent) == [reference.folder]
    found = summarise(reference.folder)
    assert (found.steps, found.state) == (len(losses_of(reference)), "finished")
    assert found.heldout_loss == reference.results["heldout_loss"]
    changed = {name: (a, b) for name, a, b in differing_settings(reference.folder, other.folder)}
    assert changed["training.seed"] == (1, 9)
    assert "optimizer.lr" not in changed
    capsys.readouterr()
    assert exit_code("runs", str(reference.folder.parent)) == 0
    assert "finished" in capsys.readouterr().out
    assert exit_code("runs", "compare", str(reference.folder), str(other.folder)) == 0
    assert "training.seed" in capsys.readouterr().out


def test_no_run_folder_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match="no run folder"):
        settings_of(tmp_path)

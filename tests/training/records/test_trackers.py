from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import train, train_fails, write_recipe
from tests.training.stops import interrupted

from instil.errors import MissingPackageError, RunError
from instil.recipe import Recipe
from instil.training.records.run_folder import RunPaths
from instil.training.records.trackers import Tracker, open_trackers


def tracked(folder: Path, *trackers: str, done: int = 0, **settings: str) -> list[Tracker]:
    recipe = Recipe.from_mapping({"tracking": {"to": list(trackers), **settings}})
    return open_trackers(recipe.tracking, RunPaths(folder), settings=recipe.model_dump(mode="json"), done=done)


def own_run(number: str, took: list[Any] | None = None) -> Any:
    took = [] if took is None else took
    return types.SimpleNamespace(
        id=number, log=lambda numbers, step: took.append((step, numbers)), finish=lambda: took.append("end")
    )


def test_a_tracker_gets_every_number_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """W&B and Trackio count their own steps otherwise, and an evaluation would move what follows it."""
    took: list[Any] = []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **settings: own_run("a1", took)))
    (tracker,) = tracked(tmp_path, "wandb")
    tracker.add({"step": 4, "loss": 0.5, "seconds": {"total": 1.0}})
    tracker.add({"step": 4, "heldout_loss": 0.7, "best": True})
    tracker.close()
    assert took == [
        (4, {"step": 4.0, "loss": 0.5, "seconds/total": 1.0}),
        (4, {"step": 4.0, "heldout_loss": 0.7}),
        "end",
    ]


@pytest.mark.parametrize(
    ("tracker", "first", "later"),
    [("wandb", {}, {"id": "a1", "resume": "allow"}), ("trackio", {"resume": "never"}, {"resume": "allow"})],
)
def test_a_resumed_run_goes_on_in_the_trackers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, first: dict[str, str], later: dict[str, str]
):
    asked: list[dict[str, Any]] = []
    monkeypatch.setitem(
        sys.modules, tracker, types.SimpleNamespace(init=lambda **given: asked.append(given) or own_run("a1"))
    )
    for _ in range(2):
        tracked(tmp_path, tracker, project="p")
    assert [(one["project"], one["name"]) for one in asked] == [("p", tmp_path.name)] * 2
    assert [{key: one[key] for key in ("id", "resume") if key in one} for one in asked] == [first, later]


def test_trackios_latest_run_of_a_name_may_be_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = iter(["a1", "b2", "c3"])
    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=lambda **given: own_run(next(runs))))
    tracked(tmp_path, "trackio", name="x")
    with pytest.raises(RunError, match=r"tracking\.name: Trackio's latest run named 'x' is not the one"):
        tracked(tmp_path, "trackio", name="x")
    assert tracked(tmp_path, "trackio", name="y")


def read_tensorboard(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.slow
def test_tensorboard_reads_what_a_resumed_run_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path
):
    recipe = write_recipe(tmp_path, {"tracking": {"to": ["tensorboard"]}}, base=base, rows=rows)
    interrupted(monkeypatch, recipe, 5)
    run = train(recipe, "--resume")
    for tag, at in (("loss", list(range(1, 13))), ("heldout_loss", [0, 4, 8, 12])):
        written = {line["step"]: line[tag] for line in run.metrics() if tag in line}
        read = read_tensorboard(run.folder / "tensorboard", tag)
        assert [step for step, _ in read] == at
        assert [value for _, value in read] == pytest.approx([written[step] for step in at], abs=1e-6)


def test_steps_that_are_counted_again_stand_once_in_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboard")
    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        (tracker,) = tracked(tmp_path, "tensorboard", "tensorboard", done=done)
        for step in steps:
            tracker.add({"step": step, "loss": step + 0.5})
        tracker.close()
    assert read_tensorboard(tmp_path / "tensorboard", "loss") == [(step, step + 0.5) for step in (1, 2, 3, 4)]


def test_a_tracker_that_cannot_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def init(**settings: object) -> None:
        raise ValueError("api_key not configured (no-tty)\ncall wandb.login()")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with pytest.raises(RunError, match=r"tracking\.to: wandb cannot be started \(api_key not configured \(no-tty\)\)"):
        tracked(tmp_path, "wandb")


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Path,
    rows: Path,
    tracker: str,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'instil\[tracking\]'"):
        tracked(tmp_path, tracker)
    recipe = write_recipe(tmp_path, {"tracking": {"to": [tracker]}}, base=base, rows=rows)
    assert "pip install 'instil[tracking]'" in train_fails(recipe, capsys=capsys)
    assert not (tmp_path / "run").exists()


def test_nothing_is_tracked_unasked(tmp_path: Path):
    assert tracked(tmp_path) == []

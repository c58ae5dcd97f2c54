"""The end of a run names what it left and what to do next."""

from __future__ import annotations

import json
from pathlib import Path

from instil.recipe import Recipe
from instil.training.records.closing import RunTime, closing_block
from instil.training.records.run_folder import RunPaths


def test_the_end_of_a_run_names_model_plot_report_and_next_commands(tmp_path: Path):
    paths = RunPaths(tmp_path / "a")
    paths.folder.mkdir()
    paths.metrics.write_text("".join(json.dumps({"step": n, "loss": 9.0 - n}) + "\n" for n in range(1, 5)))
    done, following = closing_block(
        paths, Recipe(), written="written and loaded again: loss 1", heldout=None, time=RunTime(50, 61, False)
    )
    assert done.title == f"done: {paths.model}"
    assert ("plot", str(paths.picture)) in done.facts
    assert any("8.0000 at the first step, 5.0000 at the last  █" in value for _, value in done.facts)
    assert ("time", "50s in steps, 1m01s with evaluations and checkpoints") in done.facts
    commands = [value for _, value in following.facts]
    assert f"instil report {paths.folder}" in commands
    assert f"instil evaluate {paths.folder} --data ROWS --against demo" in commands

"""Claims about the workspace: what is found in it, and that no path leads out of it."""

from __future__ import annotations

import json
import os

import pytest

from instil.errors import ServeError
from instil.preparation.store import EXAMPLES, STORE
from instil.studio.workspace import STORE_FILES, OutsideError, contents, inside, open_workspace


def make_run(folder, *, finished=True, losses=(3.0, 2.0), heldout=()):
    """Write the files of a run that are looked at."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("model:\n  name: demo\n")
    (folder / "environment.json").write_text("{}")
    lines = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    lines += [{"step": step, "heldout_loss": loss} for step, loss in heldout]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "results.json").write_text('{"steps": 2}')


def test_names_of_a_store_are_those_of_the_store():
    assert set(STORE_FILES) == {STORE, EXAMPLES}


def test_runs_data_recipes_and_stores_are_found_and_what_lies_in_them_is_not(workspace):
    make_run(workspace / "runs" / "sweep" / "a")
    make_run(workspace / "runs" / "b", finished=False)
    (workspace / "runs" / "b" / "rows.jsonl").write_text("{}")
    (workspace / "data").mkdir()
    for name in ("rows.jsonl", "table.csv.gz", "picture.png", ".hidden.jsonl"):
        (workspace / "data" / name).write_bytes(b"12345")
    (workspace / "mine.yaml").write_text("")
    (workspace / "stored").mkdir()
    for name in STORE_FILES:
        (workspace / "stored" / name).write_bytes(b"")
    for folder, names in {
        "exports/a": ("parity.json", "config.json"),
        "base": ("config.json", "tokenizer_config.json"),
    }.items():
        (workspace / folder).mkdir(parents=True)
        for name in names:
            (workspace / folder / name).write_text("{}")  # of a model, and no data
    os.symlink("/etc", workspace / "link")
    found = contents(open_workspace(workspace))
    assert {(run.path, run.state) for run in found.runs} == {("runs/sweep/a", "finished"), ("runs/b", "not finished")}
    assert {(file.path, file.size) for file in found.data} == {("data/rows.jsonl", 5), ("data/table.csv.gz", 5)}
    assert [file.path for file in found.recipes] == ["mine.yaml"]
    assert [store.path for store in found.stores] == ["stored"]
    assert found.is_whole


def test_a_run_runs_while_a_process_holds_its_lock(workspace):
    make_run(workspace / "a", finished=False)
    root = open_workspace(workspace)
    (workspace / "a" / ".lock").write_text(str(os.getpid()))
    assert contents(root).runs[0].state == "running"


@pytest.mark.parametrize(
    "path",
    ["..", "../", "../x", "a/../../x", "/etc/passwd", "//etc/passwd", "~", "~root/x", "", "a\0b", "link/passwd", "inner/up", "loop/x", "x" * 300, ".instil-studio/session", "a/../.instil-studio/jobs.db", "hop/session"],
)  # fmt: skip
def test_no_path_leads_out_of_the_workspace(workspace, path):
    root = open_workspace(workspace)
    (workspace / "inner").mkdir()
    (workspace / "a").mkdir()
    os.symlink("/etc", workspace / "link")
    os.symlink("../..", workspace / "inner" / "up")
    os.symlink("loop", workspace / "loop")
    os.symlink(".instil-studio", workspace / "hop")
    with pytest.raises(OutsideError):
        inside(root, path)


def test_paths_and_links_inside_are_followed(workspace):
    root = open_workspace(workspace)
    (workspace / "rows.jsonl").write_text("{}")
    os.symlink("rows.jsonl", workspace / "same.jsonl")
    assert inside(root, "same.jsonl") == inside(root, "./x/../rows.jsonl") == root / "rows.jsonl"
    assert inside(root, "runs/new") == root / "runs" / "new"


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["../secret.jsonl", "%2e%2e/secret.jsonl", "..%2fsecret.jsonl", "/etc/passwd", "link/passwd"]
)
def test_a_route_answers_404_for_a_path_outside(served, workspace, path):
    (workspace.parent / "secret.jsonl").write_text("secret")
    os.symlink("/etc", workspace / "link")
    answer = served.get(f"/runs/run/curve?chart=loss&run={path}")
    assert answer.status == 404
    assert "root:" not in answer.text


def test_a_folder_that_cannot_be_a_workspace_is_one_error(tmp_path):
    with pytest.raises(ServeError, match="no such folder"):
        open_workspace(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match="no such folder"):
        open_workspace(tmp_path / "file")

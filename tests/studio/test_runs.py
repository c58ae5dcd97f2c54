"""Claims about the page of all runs: what a row has, when it is read, what can be compared, and what can be deleted."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
import yaml
from tests.studio.browser import assert_accessible, needs_chromium
from tests.studio.test_run import a_writer, step_line
from tests.studio.test_workspace import make_run

from instil.errors import RunError
from instil.reporting.runs import runs
from instil.studio.pages.runs import compare_view, runs_view
from instil.studio.runs.comparing import beside, samples_beside, wins_of
from instil.studio.runs.listing import Listing, shown_rows
from instil.studio.runs.notes import Notes, write_notes
from instil.studio.runs.removing import amount_of, check_removable, remove_run
from instil.studio.workspace import contents, open_workspace


def write_run(root, name, *, losses=(3.0, 2.0), heldout=1.5, finished=True, **settings):
    """Write a run with the lines and settings that the table shows."""
    folder = root / name
    make_run(folder, finished=finished)
    recipe = {"model": {"name": "demo"}, "optimizer": {"lr": settings.get("lr", 1e-4)}, "output": name}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    lines = [step_line(step, loss=loss) for step, loss in enumerate(losses, start=1)]
    lines.append(json.dumps({"step": len(losses), "heldout_loss": heldout, "best": True}) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def evaluate(folder, *answers, seconds=()):
    """Write an evaluation with answers to prompts, and whether each is right."""
    rows = [
        {
            "place": f"rows.jsonl:{number}",
            "turn": 1,
            "prompt": [{"role": "user", "content": f"question {number}"}],
            "reference": "yes",
            "answers": [{"text": text, "scores": {"exact_match": {"exact_match": float(text == "yes")}}}],
        }
        for number, text in enumerate(answers, start=1)
    ]
    share = sum(text == "yes" for text in answers) / len(answers)
    figure = {"value": share, "low": 0.0, "high": 1.0, "n": len(answers)}
    (folder / "evaluation").mkdir()
    value = {"model": {"figures": {"exact_match": {"exact_match": figure}}}, "rows": rows}
    (folder / "evaluation" / "evaluation.json").write_text(json.dumps(value))


def rows_of(root, **arguments):
    return Listing(root).rows(contents(root).runs, **arguments)


def test_rows_say_what_instil_runs_says(workspace):
    root = open_workspace(workspace)
    evaluate(write_run(root, "runs/a", lr=1e-3), "yes", "no")
    write_run(root, "runs/sweep/b", finished=False, losses=(3.0, 2.5, 2.25), heldout=1.25)
    ours = {row.path: row.summary for row in rows_of(root)}
    theirs = {f"runs/{run.name}": run for run in runs(root / "runs")}
    assert ours.keys() == theirs.keys() == {"runs/a", "runs/sweep/b"}
    for path, run in theirs.items():
        expected, found = run.to_json(), ours[path].to_json()
        for of_place in ("name", "folder", "seconds"):
            expected.pop(of_place), found.pop(of_place)
        assert found == expected
        assert ours[path].seconds == pytest.approx(run.seconds)
    assert ours["runs/a"].settings == {"optimizer.lr": 1e-3}


def test_a_row_is_read_again_when_a_file_of_it_has_changed_and_only_then(workspace, monkeypatch):
    root = open_workspace(workspace)
    folder = write_run(root, "a", finished=False)
    listing, read = Listing(root), []
    whole = Listing._read
    monkeypatch.setattr(
        Listing, "_read", lambda self, entry, *rest: read.append(entry.path) or whole(self, entry, *rest)
    )

    def row():
        (found,) = listing.rows(contents(root).runs)
        return found

    assert row().summary.state == "not finished"
    assert row().summary.loss == 2.0
    assert read == ["a"]
    with a_writer(folder) as writer:
        assert row().summary.state == "running"
        writer.stdin.write(step_line(3, loss=1.0))
        writer.stdin.close()
        writer.wait()
    assert row().summary.loss == 1.0
    assert row().summary.state == "not finished"
    write_notes(folder, Notes(("best",)))
    assert row().notes.tags == ("best",)
    count = len(read)
    row()
    assert len(read) == count


def test_runs_that_there_was_no_time_for_are_named_and_read_next_time(workspace):
    root = open_workspace(workspace)
    for name in "abc":
        write_run(root, name)
    listing = Listing(root)
    first = listing.rows(contents(root).runs, seconds=-1.0)
    assert [row.is_read for row in first] == [False] * 3
    view = runs_view(first)
    assert (view["unread"], len(view["rows"])) == (3, 3)
    assert all(row.is_read for row in listing.rows(contents(root).runs))


def test_what_a_page_asks_for_afterwards_may_take_longer_than_the_page_itself(served, monkeypatch):
    for name in "abc":
        write_run(served.root, f"runs/{name}")
    monkeypatch.setattr("instil.studio.pages.runs.READ_SECONDS", -1.0)
    assert "data-again" in served.get("/runs", **{"Sec-Fetch-Dest": "document"}).text
    assert "data-again" not in served.get("/runs", **{"Sec-Fetch-Dest": "empty"}).text


def test_a_damaged_run_has_a_row_that_says_so(workspace):
    root = open_workspace(workspace)
    write_run(root, "a")
    (write_run(root, "b") / "recipe.yaml").write_text("[")
    (write_run(root, "c") / "results.json").write_text("{")
    (write_run(root, "d") / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 1.0, "seconds": {"total": 1}}\n{"step": 2, "lo'
    )
    states = {row.path: row.summary.state for row in rows_of(root)}
    assert states == {"a": "finished", "b": "damaged", "c": "damaged", "d": "finished"}
    assert {row.path: row.summary.steps for row in rows_of(root)}["d"] == 1


def test_rows_are_filtered_searched_and_sorted(workspace):
    root = open_workspace(workspace)
    evaluate(write_run(root, "runs/a", lr=1e-3, heldout=2.0), "yes", "no")
    evaluate(write_run(root, "runs/b", heldout=1.0), "no", "no")
    write_run(root, "runs/c", heldout=float("nan"), finished=False)
    write_notes(root / "runs" / "b", Notes(("to ship",), "Better With Few Rows"))
    rows = rows_of(root)

    def shown(**filters):
        return [row.path[-1] for row in shown_rows(rows, **filters)]

    assert shown(sort="name") == ["a", "b", "c"]
    assert shown(sort="-name") == ["c", "b", "a"]
    assert shown(sort="heldout") == ["b", "a", "c"]
    assert shown(sort="exact_match.exact_match")[:2] == ["a", "b"]
    assert shown(query="few better") == ["b"]
    assert shown(query="0.001") == ["a"]
    assert shown(state="not finished") == ["c"]
    assert shown(tag="to ship") == ["b"]
    assert shown(tag="ship") == []
    with pytest.raises(RunError, match="sort: found 'nothing'"):
        shown(sort="nothing")
    view = runs_view(rows, sort="nothing")
    assert "sort: found" in view["problem"]
    assert len(view["rows"]) == 3


def test_runs_are_compared_on_the_prompts_that_they_share(workspace):
    root = open_workspace(workspace)
    a, b, c = (write_run(root, name) for name in "abc")
    evaluate(a, "yes", "no", "yes")
    evaluate(b, "yes", "yes")
    for folder, answer in ((a, "one"), (c, "two")):
        line = {"step": 2, "prompt": "p", "answer": answer}
        (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    found = beside([a, b, c])
    assert [(row.prompt, row.differs, [answer and answer.text for answer in row.answers]) for row in found] == [
        ("question 1", False, ["yes", "yes", None]),
        ("question 2", True, ["no", "yes", None]),
    ]
    (wins,) = wins_of(found, 3)
    assert (wins.figure, wins.run, wins.wins, wins.losses, wins.ties, wins.p_value) == ("exact_match", 1, 1, 0, 1, 1.0)
    assert [[answer and answer.text for answer in row.answers] for row in samples_beside([a, b, c])] == [
        ["one", None, "two"]
    ]
    view = compare_view(rows_of(root), only_different=True)
    assert (view["num_all"], view["num_answers"]) == (2, 1)
    (b / "evaluation" / "evaluation.json").write_text("{}")
    assert any("evaluation.json: damaged" in problem for problem in compare_view(rows_of(root))["problems"])


def test_only_a_run_that_has_ended_and_lies_in_the_workspace_is_deleted(workspace, tmp_path):
    root = open_workspace(workspace)
    outside = write_run(tmp_path, "outside")
    folder = write_run(root, "runs/a")
    (folder / "model").mkdir()
    os.symlink(outside, folder / "model" / "weights")
    os.symlink(outside / "metrics.jsonl", folder / "link.jsonl")
    os.symlink(folder, root / "alias")
    os.symlink(root / "runs", root / "others")
    (root / "data").mkdir()
    amount = amount_of(folder)
    assert (amount.files, amount.links) == (4, 2)
    assert amount.size == sum(
        path.stat().st_size for path in folder.iterdir() if path.is_file() and not path.is_symlink()
    )
    for path in ("alias", "others/a", "data", "runs", ".", "runs/../runs/a"):
        with pytest.raises(RunError, match="Delete it by hand"):
            check_removable(root, path)
    with a_writer(folder) as writer, pytest.raises(RunError, match=f"process {writer.pid} is writing"):
        remove_run(root, "runs/a")
    remove_run(root, "runs/a")
    assert list((root / "runs").iterdir()) == []
    assert (outside / "metrics.jsonl").exists()


def test_requests_that_delete_or_compare_the_wrong_thing_change_nothing(served):
    folder = write_run(served.root, "runs/a")
    assert served.post("/runs/delete", run="runs/a").status == 422  # not confirmed
    number = served.queue.add(["train", "x.yaml"], run="runs/a")
    for path in ("runs/a", "runs//a", "runs/./a"):
        assert served.post("/runs/delete", run=path, confirm="yes").status == 409, path
        assert served.get(f"/runs/delete?run={path}").status == 409
    served.queue.cancel(number)
    for path in ("../x", "/etc", ".instil-studio", "runs/none"):
        assert served.post("/runs/delete", run=path, confirm="yes").status == 404
    assert served.post("/runs/delete", run="runs", confirm="yes").status == 422
    assert served.get("/runs/compare?run=runs/a").status == 422
    assert served.get("/runs/compare?run=runs/a&run=runs").status == 404
    assert folder.exists()


@needs_chromium
@pytest.mark.long
def test_the_table_is_searched_sorted_chosen_from_and_compared_in_a_browser(opened, served):
    evaluate(write_run(served.root, "runs/a", lr=1e-3, heldout=2.0), "yes", "no", "</td><script>x")
    evaluate(write_run(served.root, "runs/b", heldout=1.0), "yes", "yes", "<b>")
    write_run(served.root, "runs/<i>c", finished=False)
    write_notes(served.root / "runs" / "b", Notes(("<u>tag",), "a note"))
    page = opened
    page.goto(f"{served.url}/runs")
    names = page.locator("td.name a")
    page.evaluate("window.stays = true")
    assert names.count() == 3
    page.get_by_role("link", name="Held-out loss").click()
    page.wait_for_url("**/runs?sort=heldout")
    assert names.all_text_contents() == ["runs/b", "runs/<i>c", "runs/a"]
    page.get_by_label("Choose runs/a").check()
    page.get_by_label("Choose runs/b").check()
    page.get_by_label("Search").fill("a note")
    page.get_by_text("1 of 3 runs").wait_for()
    assert names.all_text_contents() == ["runs/b"]
    page.get_by_label("Search").fill("")
    page.get_by_text("3 of 3 runs").wait_for()
    write_run(served.root, "runs/d")
    page.get_by_text("4 of 4 runs").wait_for()  # a new run appears, and what was chosen stays chosen
    assert page.evaluate("window.stays") is True
    assert page.get_by_label("Choose runs/a").is_checked()
    page.reload()
    assert page.get_by_label("Choose runs/b").is_checked()
    page.get_by_role("button", name="Compare").click()
    page.locator("#chart-loss[data-drawn]").wait_for()
    page.get_by_text("</td><script>x").wait_for()
    page.get_by_role("cell", name="no difference is shown").wait_for()
    page.get_by_role("link", name="Only prompts that were answered differently").click()
    page.get_by_role("link", name="All prompts").wait_for()
    assert page.locator("#answers tbody tr").count() == 2
    assert_accessible(page)
    page.goto(f"{served.url}/runs/delete?run=" + quote("runs/<i>c"))
    assert_accessible(page)
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("3 of 3 runs").wait_for()
    assert not (served.root / "runs" / "<i>c").exists()

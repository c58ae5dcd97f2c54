"""Claims about the page of a run: what it reads while the run writes, what it says of its end, and that all of it is there after a reload."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from tests.studio.browser import assert_accessible, browser_context, needs_chromium, watch
from tests.studio.served import Served, wait_until
from tests.studio.test_workspace import make_run

from instil.recipe import FROM_PYTHON
from instil.studio.jobs.queue import Queue
from instil.studio.jobs.records import Job
from instil.studio.runs.charts import CHARTS, chart_view, charts_of
from instil.studio.runs.curves import DRAFT_LINES, Curves
from instil.studio.runs.holder import holder_of
from instil.studio.runs.notes import Notes, read_notes, tags_of, write_notes
from instil.studio.runs.samples import read_samples, sampled_step
from instil.studio.runs.status import Status, phase_of, status_of, total_steps
from instil.studio.workspace import open_workspace
from instil.training.records.metrics import read_metrics, rewind_lines


def step_line(step, **values):
    seconds = {"seconds": {"total": 0.5}}
    return json.dumps({"step": step, "loss": 3.0 / step, "tokens": 100, "memory_mb": 700.0, **seconds, **values}) + "\n"


def a_job(**values):
    now = datetime.now(UTC)
    ended = {"state": "failed", "started": now - timedelta(seconds=90), "ended": now, "exit_code": 2, "stops": 0}
    given = {"number": 1, "argv": ("train",), "title": "", "lane": "device", "run": "a", "created": now}
    return Job(**given | ended | values)


def test_metrics_are_followed_from_where_the_last_reading_ended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curves = Curves(path)
    assert curves.read()
    assert curves.names() == []
    path.write_text(step_line(1) + step_line(2)[:20])
    curves.read()
    assert list(curves.steps) == [1]  # the line that is being written waits
    with path.open("a") as file:
        file.write(step_line(2)[20:] + '{"step": 2, "heldout_loss": 1.25, "best": true}\n' + "{cut\n" + "[1]\n")
    curves.read()
    assert list(curves.steps) == [1, 2]
    assert curves.line("loss") == [(1, 3.0), (2, 1.5)]
    assert curves.line("speed") == [(1, 200.0), (2, 200.0)]
    assert curves.heldout("heldout_loss") == [(2, 1.25)]
    assert (curves.damaged, curves.step, curves.seconds) == (2, 2, 1.0)
    assert set(curves.names()) == {"loss", "smooth", "speed", "memory_mb", "heldout_loss"}


def test_a_resumed_run_that_writes_its_metrics_anew_is_read_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(step_line, range(1, 11))))
    curves = Curves(path)
    curves.read()
    rewind_lines(path, step=6, sampled=6)
    with path.open("a") as file:
        file.write(step_line(7, loss=9.0))
    curves.read()
    assert list(curves.steps) == [1, 2, 3, 4, 5, 6, 7]
    assert curves.line("loss")[-1] == (7, 9.0)
    # The same file, and longer than before: only its bytes tell that it is another one.
    text = "".join(step_line(step, loss=1.0) for step in range(1, 20))
    with path.open("r+") as file:
        file.write(text)
        file.truncate()
    curves.read()
    assert len(curves.steps) == 19
    assert {y for _, y in curves.line("loss")} == {1.0}
    path.unlink()
    curves.read()
    assert len(curves.steps) == 0


def test_both_ways_of_reading_metrics_agree(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(step_line(step, loss=None if step == 3 else 1.0 / step) for step in range(1, 50)))
    curves = Curves(path)
    curves.read()
    lines = [(line["step"], line["loss"]) for line in read_metrics(path) if line["loss"] is not None]
    assert [x for x, _ in curves.line("loss")] == [step for step, _ in lines]
    assert [y for _, y in curves.line("loss")] == pytest.approx([loss for _, loss in lines], rel=1e-5)
    assert math.isnan(curves.columns["loss"][2])
    assert curves.line("loss", start=10, end=12) == [(10, 0.1), (11, pytest.approx(1 / 11, rel=1e-5)), (12, pytest.approx(1 / 12, rel=1e-5))]  # fmt: skip


def test_what_there_was_no_time_for_is_drawn_from_some_of_its_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        file.writelines(step_line(step, padding="x" * 100) for step in range(1, 20_001))
    curves = Curves(path)
    assert not curves.read(0.0)
    assert len(curves.steps) < 20_000
    assert curves.step == 20_000
    drawn = chart_view(curves, "loss", str)
    assert drawn["more"]
    assert drawn["series"][0]["points"][-1][0] > 20_000 * (1 - 5 / DRAFT_LINES)
    assert len(drawn["series"][0]["points"]) <= 1_000
    while not curves.read(0.0):
        pass
    whole = chart_view(curves, "loss", str)
    assert not whole["more"]
    assert [whole["series"][0]["points"][at][0] for at in (0, -1)] == [1, 20_000]
    assert len(curves.steps) == 20_000


def test_the_chart_has_raw_smoothed_and_heldout_losses_of_the_part_that_is_shown(tmp_path):
    metrics = [{"step": step, "loss": 1.0 / step} for step in range(1, 5001)]
    metrics += [
        {"step": 2500, "heldout_loss": 0.5},
        {"step": 2600, "heldout_loss": None},
        {"step": 5001, "loss": float("nan")},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in metrics))
    curves = Curves(path)
    assert curves.read()
    whole, part = chart_view(curves, "loss", str), chart_view(curves, "loss", str, start=2000, end=2100)
    assert [line["name"] for line in whole["series"]] == ["line_raw", "line_smooth", "line_heldout"]
    assert [len(line["points"]) for line in whole["series"]] == [1000, 1000, 1]
    assert [point[0] for point in part["series"][0]["points"]] == list(range(2000, 2101))
    assert json.loads(json.dumps(whole, allow_nan=False)) is not None


def test_a_smoothed_curve_begins_at_its_first_value(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(step_line(step, loss=loss) for step, loss in ((1, 4.0), (2, 4.0), (3, 0.0))))
    curves = Curves(path)
    curves.read()
    third = 0.9 * (0.9 * 0.4 + 0.4) / (1 - 0.9**3)  # weights 0.081, 0.09 and 0.1 of 4, 4 and 0
    assert curves.line("smooth") == [(1, 4.0), (2, 4.0), (3, pytest.approx(third, rel=1e-5))]


def test_a_run_has_the_charts_that_it_has_points_for(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("")
    curves = Curves(path)
    curves.read()
    assert charts_of(curves) == ["loss"]
    figures = {"accuracy": 0.5, "margin": 0.1, "chosen_reward": 0.1, "rejected_reward": 0.0, "drift": 0.01}
    tasks = {"exact_match.exact_match": {"value": 0.5}, "behaviour.stops": {"value": None}}
    path.write_text(
        step_line(1, learning_rate=1e-4, gradient_norm=2.0, **figures) + json.dumps({"step": 1, "tasks": tasks}) + "\n"
    )
    curves.read()
    assert charts_of(curves) == [*CHARTS, "tasks"]
    assert [line["name"] for line in chart_view(curves, "tasks", str)["series"]] == ["exact_match"]
    rewards = chart_view(curves, "rewards", str)["series"]
    assert [line["name"] for line in rewards] == ["line_chosen", "line_rejected"]


def write_lines(folder, *lines):
    (folder / "metrics.jsonl").write_text("".join(lines))
    curves = Curves(folder / "metrics.jsonl")
    curves.read()
    return curves


def save(folder, step):
    saved = folder / "checkpoints" / f"step-{step:06d}"
    saved.mkdir(parents=True)
    (saved / "manifest.json").write_text("{}")


def test_a_run_that_ended_says_why(tmp_path):
    folder = tmp_path / "a"
    make_run(folder, finished=False)
    curves = write_lines(folder, step_line(1), step_line(2))

    def told(job, log=""):
        found = status_of(folder, job, curves, log=log)
        return found.state, found.reason and found.reason[0]

    assert told(a_job()) == ("failed", "jobs.exit_code")
    assert told(a_job(exit_code=-9)) == ("failed", "jobs.killed_hard")
    assert told(a_job(exit_code=137)) == ("failed", "jobs.killed_hard")
    assert told(a_job(exit_code=1), "torch.OutOfMemoryError: CUDA out of memory") == ("failed", "run.no_memory")
    assert told(a_job(exit_code=None)) == ("failed", "jobs.lost")
    assert told(a_job(state="stopped", exit_code=143)) == ("stopped", "run.stopped_nothing")
    save(folder, 1)
    assert told(a_job(exit_code=143)) == ("stopped", "run.stopped_earlier")
    save(folder, 2)
    assert told(a_job(exit_code=143)) == ("stopped", "run.stopped_saved")
    assert told(None) == ("stopped", "run.stopped_saved")
    assert told(a_job(state="queued", ended=None)) == ("queued", None)
    # A later process has written to the folder: what became of the job says nothing about it.
    assert told(a_job(ended=datetime.now(UTC) - timedelta(hours=1))) == ("stopped", "run.stopped_saved")
    curves = write_lines(folder, step_line(1), step_line(2), step_line(3))
    assert told(None) == ("not finished", None)
    (folder / ".lock").write_text("4194305")
    assert told(None) == ("failed", "run.process_gone")
    (folder / "results.json").write_text("{}")
    assert told(a_job()) == ("finished", None)


def test_the_phases_of_a_run_come_from_what_is_in_its_folder(tmp_path):
    folder, running = tmp_path / "a", Status("running", a_job(state="running", ended=None))
    settings = {"evaluate.every": 2, "evaluate.at_start": True}

    def phase(*lines, log="", sampled=-1, status=running):
        curves = write_lines(folder, *lines) if folder.exists() else Curves(folder / "metrics.jsonl")
        total = total_steps(folder)
        return phase_of(status, folder, curves, total=total, settings=settings, sampled=sampled, log=log)

    heldout = [json.dumps({"step": step, "heldout_loss": 1.0}) + "\n" for step in range(5)]
    assert phase(status=Status("queued", None)) == "waiting"
    assert phase() == "reading"
    assert phase(log="rows in  3") == "loading"
    make_run(folder, finished=False)
    assert phase() == "preparing"
    facts = [["steps", "4 of 2 examples, 10 an epoch"]]
    (folder / "card.json").write_text(json.dumps({"groups": [{"title": "Training", "facts": facts}]}))
    assert total_steps(folder) == 4
    assert phase() == "evaluating"
    assert phase(heldout[0]) == "evaluating"
    assert phase(heldout[0], sampled=0) == "training"
    assert phase(heldout[0], step_line(1)) == "training"
    assert phase(heldout[0], step_line(1), step_line(2)) == "evaluating"
    assert phase(step_line(2), heldout[2]) == "saving"
    save(folder, 2)
    assert phase(step_line(2), heldout[2]) == "evaluating"
    assert phase(step_line(2), heldout[2], sampled=2) == "training"
    save(folder, 4)
    assert phase(step_line(4), heldout[4], sampled=4) == "saving"
    assert phase(status=Status("finished", None)) == "finished"
    assert phase(status=Status("failed", None)) is None


def test_answers_stand_beside_each_other_and_a_cut_line_is_left_out(tmp_path):
    path = tmp_path / "samples.jsonl"
    assert read_samples(path).rows == ()
    lines = [{"step": step, "prompt": p, "answer": f"{p}{step // 2}"} for step in (0, 1, 2) for p in ("a", "b")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "prompt": "a", "ans')
    samples = read_samples(path)
    assert samples.steps == (0, 1, 2)
    assert [prompt for prompt, _ in samples.rows] == ["a", "b"]
    assert [(answer.text, answer.is_changed) for answer in samples.rows[0][1]] == [("a0", False), ("a0", False), ("a1", True)]  # fmt: skip
    assert sampled_step(path) == 2
    assert read_samples(path, most_steps=2).steps == (0, 2)


def test_notes_are_kept_in_the_run_folder_and_damage_is_not_written_over(tmp_path):
    assert read_notes(tmp_path) == Notes()
    write_notes(tmp_path, Notes(tags_of("best,  to ship ,best"), "a\nb"))
    assert read_notes(tmp_path) == Notes(("best", "to ship"), "a\nb")
    for text in ("{", '{"tags": "x"}'):
        (tmp_path / "notes.json").write_text(text)
        with pytest.raises(Exception, match=r"notes\.json: damaged"):
            write_notes(tmp_path, Notes())
        assert (tmp_path / "notes.json").read_text() == text
    with pytest.raises(Exception, match="tags: found 21"):
        tags_of(",".join(map(str, range(21))))


WRITER = """
import sys, time
from pathlib import Path
from instil.files import locked
folder = Path(sys.argv[1])
with locked(folder):
    print("locked", flush=True)
    with (folder / "metrics.jsonl").open("a") as file:
        for line in sys.stdin:
            file.write(line)
            file.flush()
"""


@contextlib.contextmanager
def a_writer(folder):
    """Start a process that writes to a run folder as `instil train` in a terminal does."""
    words = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as writer:
        try:
            assert writer.stdout.readline() == "locked\n"
            yield writer
        finally:
            writer.kill()


def test_only_a_process_that_holds_the_lock_is_sent_a_signal(tmp_path):
    (tmp_path / ".lock").write_text(str(os.getppid()))  # alive, and none of ours
    assert holder_of(tmp_path) is None
    with a_writer(tmp_path) as writer:
        assert holder_of(tmp_path) == writer.pid
    assert holder_of(tmp_path) is None


def test_a_page_resumes_no_run_that_runs_foreign_code_or_needs_python(served):
    for name, recipe, status in (
        ("code", "model: {name: x, trust_remote_code: true}\n", 403),
        ("python", "# Rows passed from Python\nmodel: {name: demo}\n", 422),
        ("done", "model: {name: demo}\n", 409),
    ):
        make_run(served.root / "runs" / name, finished=name == "done")
        text = recipe.replace("# Rows passed from Python\n", FROM_PYTHON + "\n")
        (served.root / "runs" / name / "recipe.yaml").write_text(text)
        assert served.post("/runs/run/resume", run=f"runs/{name}").status == status, name
    assert served.queue.jobs() == []
    for path in ("runs/none", "../x", ".instil-studio"):
        assert served.get(f"/runs/run?run={quote(path)}").status == 404


@needs_chromium
def test_a_run_of_a_terminal_is_followed_stopped_and_its_death_is_told(opened, served):
    folder = served.root / "runs" / "a <b>"
    make_run(folder, finished=False, losses=[3.0 / step for step in range(1, 31)], heldout=[(0, 3.4)])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "lo')  # cut off in the middle of a line
    (folder / "card.json").write_text(json.dumps({"groups": [{"title": "Run", "facts": [["steps", "200 of 2 examples"], ["note", "</script><b>x"]]}]}))  # fmt: skip
    (folder / "samples.jsonl").write_text(json.dumps({"step": 0, "prompt": "<i>?", "answer": "</td>"}) + "\n")
    page = opened
    page.goto(f"{served.url}/runs/run?run=" + quote("runs/a <b>"))
    page.get_by_text("step 30 of 200").wait_for()
    assert page.locator(".phases").count() == 0
    (folder / "metrics.jsonl").write_bytes((folder / "metrics.jsonl").read_bytes().rpartition(b"\n")[0] + b"\n")
    with a_writer(folder) as writer:
        _follow_a_terminal(page, writer, folder)
    gone = page.get_by_text(f"Its process {writer.pid} has ended without a result")
    gone.wait_for()
    page.reload()
    gone.wait_for()
    assert page.get_by_label("Tags", exact=True).input_value() == "first, best"
    assert page.get_by_role("button", name="Resume").is_visible()
    with a_writer(folder) as writer:
        page.get_by_role("button", name="Stop and save").click()
        assert writer.wait(timeout=30) == -signal.SIGTERM


def _follow_a_terminal(page, writer, folder):
    page.get_by_text(f"started in a terminal, process {writer.pid}").wait_for()
    writer.stdin.write(step_line(31))
    page.get_by_text("step 31 of 200").wait_for()  # how soon: benchmarks/studio.py
    assert page.locator("[aria-current=step]").text_content() == "trains"
    page.get_by_text("</td>").wait_for()
    assert_accessible(page)
    page.get_by_label("Tags", exact=True).fill("first, best")
    page.get_by_label("Note", exact=True).fill("a note\nof two lines")
    writer.stdin.write(step_line(32))
    page.get_by_text("step 32 of 200").wait_for()
    assert page.get_by_label("Tags", exact=True).input_value() == "first, best"  # a step takes nothing from who types
    page.get_by_role("button", name="Save tags and note").click()
    wait_until(lambda: read_notes(folder) == Notes(("first", "best"), "a note\nof two lines"))


@needs_chromium
@pytest.mark.long
def test_a_training_job_lives_on_when_its_studio_is_killed_and_its_own_death_is_told(workspace):
    """Start, kill the studio with -9; the next one follows the run, which is killed then."""
    rows = [{"prompt": f"What is {n} plus {n}?", "completion": str(2 * n)} for n in range(40)]
    (workspace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workspace / "recipe.yaml").write_text(
        "model: {name: demo}\ndata: {sources: [rows.jsonl], heldout_share: 0.1}\n"
        "training: {max_steps: 20000, batch_size: 2}\nevaluate: {max_new_tokens: 4}\n"
    )
    studio = [sys.executable, "-m", "instil", "studio", str(workspace), "--port", "0"]
    with subprocess.Popen(studio, stdout=subprocess.PIPE, text=True) as first, contextlib.ExitStack() as stack:
        stack.callback(first.kill)
        address = first.stdout.readline().partition(": ")[2].split()[0]
        queue = Queue(open_workspace(workspace))
        stack.callback(_end_jobs, queue)
        number = queue.add(["train", "recipe.yaml", "--output=runs/a"], run="runs/a")
        with browser_context() as context:
            page = context.new_page()
            page.goto(address)
            page.goto(address.partition("?")[0] + "runs/run?run=runs/a")
            page.locator(".now", has_text="trains").wait_for()
            process = queue.folder(number).process
            first.kill()
            first.wait()
            page.close()
            with Served(workspace) as second:
                page = context.new_page()
                problems = watch(page, second.url)
                page.goto(second.first_url)
                page.goto(f"{second.url}/runs/run?run=runs/a")
                page.locator("#chart-loss[data-drawn] svg path").first.wait_for()
                label = page.locator(".progress label")
                before = label.text_content()
                wait_until(lambda: label.text_content() != before)
                assert queue.folder(number).process == process
                assert process.is_alive
                os.kill(process.pid, signal.SIGKILL)
                page.get_by_text("It was killed (SIGKILL)").wait_for()
                page.get_by_role("button", name="Resume").wait_for()
                assert problems == []
    metrics = read_metrics(workspace / "runs" / "a" / "metrics.jsonl")
    steps = [line["step"] for line in metrics if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))


def _end_jobs(queue):
    """End what a failed test has left running."""
    for job in queue.jobs():
        process = queue.folder(job.number).process
        if process is not None and process.is_alive:
            os.kill(process.pid, signal.SIGKILL)

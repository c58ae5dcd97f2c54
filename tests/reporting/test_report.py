"""The report of a run: what it shows of a real run, and that it exists for one that is unfinished, damaged or hostile."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.inspection.browser import Browser, needs_chromium
from tests.training.command_line import exit_code

import instil
from instil.errors import RunError
from instil.reporting.report import report_page
from instil.reporting.report_answers import evaluation_part
from instil.reporting.report_curves import curves
from instil.training.records.run_folder import Run

EVIL = '</script><script>window.evil=1</script><img src=x onerror="window.evil=2"><style>*{display:none}</style>\x1b[31m\u2028'


@pytest.fixture
def run(reference: Run, tmp_path: Path) -> Path:
    """A copy of a real run, without its weights."""
    folder = tmp_path / "runs" / "sweep" / "lr-1"
    shutil.copytree(reference.folder, folder, ignore=shutil.ignore_patterns("model", "checkpoints", ".lock"))
    return folder


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def evaluated(run: Path, *, text: str = "42") -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    answers = [{"text": text, "finish_reason": "stop"}, {"text": "base " + text, "finish_reason": "length"}]
    found = {
        "data": "test.jsonl",
        "num_prompts": 1,
        "tasks": {"numeric": "numeric"},
        "model": {"name": text, "figures": {"numeric": {"numeric": figure}}},
        "against": {"name": "demo", "figures": {"numeric": {"numeric": figure}}},
        "comparisons": {
            "numeric": {
                "wins": 3,
                "losses": 1,
                "ties": 36,
                "p_value": 0.625,
                "verdict": {"words": "no difference can be shown"},
            }
        },
        "contamination": {"said": "Of 1 prompt 0.0% occur in the training conversations."},
        "rows": [{"place": text, "prompt": [{"role": "user", "content": text}], "reference": text, "answers": answers}],
    }
    (run / "evaluation").mkdir()
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    (run / "evaluation" / "evaluation.html").write_text("", encoding="utf-8")


@pytest.mark.slow
def test_the_report_of_a_finished_run_has_everything(run: Path, reference: Run, capsys: pytest.CaptureFixture[str]):
    evaluated(run)
    assert exit_code("report", str(run)) == 0
    assert capsys.readouterr().out == f"wrote {run}/report.html\n"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', page)[-9:] == [
        "result", "card", "settings", "curves", "samples", "evaluation", "data", "environment", "files",
    ]  # fmt: skip
    text = text_of(page)
    assert "<title>sweep/lr-1 – run</title>" in page
    assert f"{reference.results['heldout_loss']:.4f}" in text
    assert "50.0% [40.0%, 60.0%] n=40" in text
    assert "no difference can be shown: 3 wins, 1 losses, 36 ties" in text
    assert "rows in" in text
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))["groups"]
    for name, value in (fact for group in card for fact in group["facts"] if group["title"] == "Model"):
        assert f"{name} {value}".replace("<", "&lt;").replace(">", "&gt;") in text
    assert "transformers" in text
    assert 'href="evaluation/evaluation.html"' in page
    assert page.count("<svg") >= 5
    assert "<script" not in page
    assert "style=" not in page


@pytest.mark.slow
def test_the_page_can_lie_elsewhere_and_python_returns_its_path(run: Path, tmp_path: Path):
    evaluated(run)
    path = instil.report(Run.open(run), tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert 'href="runs/sweep/lr-1/evaluation/evaluation.html"' in path.read_text(encoding="utf-8")
    assert not (run / "report.html").exists()


def test_a_run_that_is_not_finished_says_what_is_missing(run: Path):
    for name in ("results.json", "samples.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    text = text_of(report_page(run, beside=run))
    assert "not finished: there is no results.json" in text
    assert "Not in the folder: metrics.jsonl." in text
    assert "No step has been recorded yet." in text
    assert "There are no sample answers." in text
    assert "Not evaluated yet." in text
    assert "rows in" in text


@pytest.mark.parametrize(
    "name",
    ["recipe.yaml", "results.json", "ledger.json", "environment.json", "metrics.jsonl", "evaluation/evaluation.json"],
)
@pytest.mark.parametrize(
    "content", ["", "[", "[1]", '{"step": "x", "model": 3, "heldout": 5, "versions": 7}', "\x00\xff"], ids=ascii
)
def test_a_damaged_file_stops_no_other_section(run: Path, name: str, content: str):
    (run / "evaluation").mkdir()
    (run / name).write_bytes(content.encode("latin-1"))
    text = text_of(report_page(run, beside=run))
    if name != "ledger.json":
        assert "rows in" in text
    if name != "metrics.jsonl":
        assert "Learning rate" in text
    assert "Files" in text


def test_what_comes_from_data_is_text_everywhere(run: Path, tmp_path: Path):
    evaluated(run, text=EVIL)
    metrics = {"step": 4, "failures": [EVIL], "tasks": {EVIL: {"value": 0.5}}, "heldout_loss": 2.0}
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")
    (run / "samples.jsonl").write_text(json.dumps({"step": 0, "prompt": EVIL, "answer": EVIL}) + "\n", encoding="utf-8")
    for name in ("environment.json", "results.json", "ledger.json"):
        value = json.loads((run / name).read_text(encoding="utf-8"))
        value |= {"warnings": [{"text": EVIL}], "device": EVIL, "versions": {EVIL: EVIL}, "evidence": [EVIL]}
        (run / name).write_text(json.dumps(value), encoding="utf-8")
    page = report_page(run, beside=run)
    assert page.count("window.evil") >= 8
    assert not re.search(r"<(?:script|img)|<style>\*|\x1b", page)
    assert "default-src 'none'; script-src 'none'" in page


def test_a_folder_that_is_no_run_is_an_error_that_names_the_runs_in_it(run: Path, tmp_path: Path):
    with pytest.raises(RunError, match=r"sweep: 1 run in it, and it is none itself.*lr-1"):
        instil.report(run.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not a run folder"):
        instil.report(tmp_path / "empty")
    with pytest.raises(RunError, match="the report cannot be written"):
        instil.report(run, tmp_path / "no" / "such" / "page.html")


@pytest.mark.slow
@needs_chromium
def test_the_page_opens_at_every_width_and_loads_nothing(run: Path, tmp_path: Path):
    evaluated(run, text=EVIL + "word" * 100)
    path = instil.report(run)
    browser = Browser(tmp_path / "browser")
    try:
        for width, theme in ((1200, "light"), (500, "dark"), (360, "light")):
            browser.send(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            browser.open(path.as_uri())
            browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
            assert browser.run("document.documentElement.scrollWidth") <= width
            dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
            assert dark == (theme == "dark")
        assert browser.run("window.evil") is None
        assert browser.run("document.querySelectorAll('svg').length") >= 5
        assert {url.partition(":")[0] for url in browser.requests} == {"file"}
        assert len(set(browser.requests)) == 1
        assert browser.problems == []
    finally:
        browser.close()


def test_the_curves_of_tasks_say_what_each_figure_means():
    lines = [{"step": step, "tasks": {"numeric.numeric": {"value": step / 10}, "x.y": {"value": 1}}} for step in (1, 2)]
    html = curves(lines)
    assert html.count("answers whose final number is the reference&#x27;s") == 1
    assert "<dt>x.y</dt>" not in html


def test_a_figure_with_the_name_of_its_task_is_named_once():
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    figures = {"exact_match": {"exact_match": figure, "strict": figure}}
    page = evaluation_part({"model": {"name": "run", "figures": figures}, "data": "d"}, page=None)
    assert "exact_match: strict" in page
    assert "exact_match: exact_match" not in page
    assert ">exact_match<" in page
    drawn = curves([{"step": step, "tasks": {"exact_match.exact_match": figure}} for step in (1, 2)])
    assert "answers equal to the reference" in drawn
    assert "exact_match.exact_match" not in drawn

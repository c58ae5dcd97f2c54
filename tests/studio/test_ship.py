"""Claims about evaluating and shipping: what is started, what is shown of it, and what is taken along."""

from __future__ import annotations

import http.client
import inspect
import io
import json
import os
import re
import tarfile
from datetime import UTC, datetime
from typing import get_args

import pytest
from tests.studio.browser import assert_accessible, browser_context, needs_chromium, watch
from tests.studio.served import wait_until
from tests.studio.talking import make_talking_run
from tests.studio.test_workspace import make_run

from instil.cli.export import export
from instil.errors import ServeError
from instil.evaluation.dialogue import DIALOGUE_TASKS
from instil.evaluation.tasks import TASKS as JUDGED
from instil.exporting.gguf_types import DTYPES
from instil.studio.access import POLICY
from instil.studio.chat.models import read_model
from instil.studio.jobs.records import Job, check_argv
from instil.studio.pages.ship import SANDBOX, TASKS, evaluate_argv, export_argv
from instil.studio.problems import PageProblem
from instil.studio.ship.archive import archive, length_of, members_of
from instil.studio.ship.evaluations import evaluations_of, interval
from instil.studio.ship.exports import FORMS, available_types, commands_of, export_folders, files_of, read_export

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ANSWER = "Hi</script><b>you</b>"
FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}


@pytest.fixture
def studio(served):
    make_talking_run(served.root)
    (served.root / "rows.jsonl").write_text("{}\n")
    return served.server.app.state.studio


def fields(**values):
    return {"run": "runs/talker", "data": "rows.jsonl", "against": "base"} | values


def test_the_tasks_are_those_of_the_command_line():
    assert set(TASKS) == {*JUDGED, *DIALOGUE_TASKS, "preference"}


@pytest.mark.slow
def test_an_evaluation_has_what_the_form_says(studio):
    argv, run = evaluate_argv(studio, fields(limit="20"), ["exact_match"])
    assert run == "runs/talker"
    assert argv == ["evaluate", "--model=./runs/talker", "--data=./rows.jsonl", "--task=exact_match",
                    "--against=./base", "--limit=20"]  # fmt: skip
    argv, _ = evaluate_argv(studio, fields(judge="http://localhost:8000/v1", judge_model="--host"), [])
    assert argv[-2:] == ["--judge=http://localhost:8000/v1", "--judge-model=--host"]
    check_argv(argv)
    assert "--judge" not in " ".join(evaluate_argv(studio, fields(against=""), [])[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "tasks", "key"),
    [
        ({"run": ""}, [], "ship.no_run"),
        ({"run": "base:runs/talker"}, [], "ship.no_run"),
        ({"run": "../x"}, [], "problems.no_file"),
        ({"run": "rows.jsonl"}, [], "chat.no_run"),
        ({"data": ""}, [], "ship.no_data"),
        ({"data": "/etc/passwd"}, [], "problems.no_file"),
        ({"against": "../x"}, [], "problems.no_file"),
        ({"limit": "-1"}, [], "ship.no_limit"),
        ({"judge": "os:system"}, [], "ship.no_judge"),
        ({"judge": "https://api.example.com/v1"}, [], "ship.no_judge"),
        ({"judge": "http://127.0.0.1:80@api.example.com/"}, [], "ship.no_judge"),
        ({"judge": "http://x", "against": ""}, [], "ship.judge_needs_two"),
        ({}, ["--run-code"], "ship.no_task"),
    ],
)
def test_no_evaluation_is_started_that_reaches_further(studio, values, tasks, key):
    with pytest.raises(PageProblem) as problem:
        evaluate_argv(studio, fields(**values), tasks)
    assert problem.value.key == key


def test_no_model_and_no_data_are_used_of_which_a_part_lies_elsewhere(studio, tmp_path):
    (tmp_path / "elsewhere.safetensors").write_bytes(b"")
    (studio.root / "rows").mkdir()
    (studio.root / "rows" / "a.jsonl").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(PageProblem) as problem:
        evaluate_argv(studio, fields(data="rows"), [])
    assert problem.value.key == "data.links_out"
    (studio.root / "runs" / "talker" / "model" / "more.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    for name in ("runs/talker", "base:runs/talker"):
        with pytest.raises(PageProblem) as problem:
            read_model(studio, name)
        assert problem.value.key == "data.links_out"
    with pytest.raises(PageProblem):
        export_argv(studio, {"run": "runs/talker", "form": "merged", "dtype": "bf16", "out": "exports/x"})


def test_a_judge_that_is_code_is_refused_by_the_queue_too():
    for words in (["--judge=os:system"], ["--judge", "os:system"], ["--run-code"], ["--harness=x"]):
        with pytest.raises(ServeError):
            check_argv(["evaluate", *words])


def test_an_export_has_what_the_form_says_and_replaces_nothing(studio):
    wanted = {"run": "runs/talker", "form": "gguf", "dtype": "fp16", "out": " exports/--host ", "licence": "apache-2.0"}
    argv, _ = export_argv(studio, wanted)
    assert argv == ["export", "--model=./runs/talker", "--out=./exports/--host", "--as=gguf", "--dtype=fp16",
                    "--licence=apache-2.0"]  # fmt: skip
    for values, key in (
        ({"form": "exe"}, "ship.no_form"),
        ({"form": "merged", "dtype": "q8_0"}, "ship.no_type"),
        ({"dtype": "--push"}, "ship.no_type"),
        ({"out": ""}, "ship.no_out"),
        ({"out": "."}, "ship.no_out"),
        ({"out": "../x"}, "problems.no_file"),
        ({"out": "runs/talker"}, "ship.out_exists"),
        ({"out": ".instil-studio/x"}, "problems.no_file"),
        ({"licence": "--push x"}, "ship.no_licence"),
        ({"device": "cpu --push x"}, "ship.no_device"),
    ):
        with pytest.raises(PageProblem) as problem:
            export_argv(studio, wanted | values)
        assert problem.value.key == key


def test_the_page_offers_all_that_the_command_does_but_what_reaches_further(studio):
    options = inspect.signature(export, eval_str=True).parameters
    (choices, _) = get_args(options["target"].annotation)
    assert set(FORMS) == set(get_args(choices))
    assert list(available_types()) == list(DTYPES)
    wanted = {"run": "runs/talker", "form": "ollama", "dtype": "fp32", "out": "exports/x", "data": "rows.jsonl"}
    argv, _ = export_argv(studio, wanted | {"device": "cuda:1", "every_checkpoint": "yes", "licence": "mit"})
    check_argv(argv)
    set_here = {re.sub("^as$", "target", word.partition("=")[0][2:].replace("-", "_")) for word in argv[1:]}
    assert set_here == options.keys() - {"quiet", "push", "public", "tag", "check_with"}
    for name in ("push", "public", "tag", "check-with"):
        with pytest.raises(ServeError):
            check_argv([*argv, f"--{name}"])


def evaluation(rows):
    model = {"name": "a", "figures": {"numeric": {"numeric": FIGURE}}, "heldout": None}
    compared = {"difference": {"value": 0.1, "low": -0.1, "high": 0.3}, "verdict": {"words": "no difference is shown"}}
    return {
        "data": "rows.jsonl", "selection": "all 4 prompts", "tasks": {"numeric": "numeric"}, "model": model,
        "against": model | {"name": "b", "figures": {}}, "comparisons": {"numeric": compared},
        "meanings": {"numeric": {"numeric": "same number"}}, "warnings": ["few"], "rows": rows,
    }  # fmt: skip


def test_figures_are_read_without_the_answers(workspace):
    run = workspace / "runs" / "a"
    make_run(run)
    (run / "evaluation").mkdir()
    path = run / "evaluation" / "evaluation.json"
    text = json.dumps(evaluation([{"text": ' "rows": [\n'}] * 3), indent=1)
    path.write_text(text[: text.index('\n "rows"') + 12] + "\nnot JSON from here")
    (entry,) = evaluations_of(workspace, run)
    (figure,) = entry.figures
    assert (entry.models, entry.folder, entry.has_report) == (("a", "b"), "runs/a/evaluation", False)
    assert (figure.name, figure.values, figure.change) == (
        "numeric",
        ("0.500 [0.250, 0.750]", ""),
        "+0.100 [-0.100, +0.300]",
    )
    assert (figure.verdict, figure.is_main, entry.warnings) == ("no difference is shown", True, ("few",))
    path.write_text("[1")
    assert evaluations_of(workspace, run) == []
    assert interval({"value": None}) == ""


def make_export(folder, **files):
    folder.mkdir(parents=True)
    parity = {
        "prompts": 3,
        "stop_tokens": ["<|im_end|>"],
        "answers": 3,
        "answers_differ": 1,
        "logit_change": 0.01,
        "notes": ["n"],
    }
    (folder / "parity.json").write_text(json.dumps(parity))
    for name, text in ({"config.json": "{}"} | files).items():
        (folder / name.replace("_json", ".json")).write_text(text)


def test_an_export_is_read_with_its_check_and_its_commands(workspace):
    make_export(workspace / "exports" / "a b", **{"README.md": "# Card <b>", "Modelfile": "FROM ./model.gguf"})
    (folder,) = export_folders(workspace, [])
    entry = read_export(workspace, folder)
    assert (entry.form, entry.prompts, entry.equal, entry.answers, entry.notes) == ("ollama", 3, 2, 3, ("n",))
    assert entry.card == "# Card <b>"
    assert entry.commands[0] == ("Ollama", f"ollama create 'a b' -f '{folder}/Modelfile' && ollama run 'a b'")
    adapter = workspace / "adapter"
    make_export(adapter, adapter_config_json='{"base_model_name_or_path": "owner/base"}')
    assert commands_of(adapter, read_export(workspace, adapter).form)[0] == (
        "vLLM",
        f"vllm serve owner/base --enable-lora --lora-modules adapter={adapter}",
    )
    make_export(workspace / "out" / "step-4", adapter_config_json='{"base_model_name_or_path": "demo", "r": 64}')
    assert read_export(workspace, workspace / "out" / "step-4").commands[0][1].endswith(" --max-lora-rank 64")
    job = Job(1, ("export", "--out=./out"), "", "device", "", "done", NOW, NOW, NOW, 0, 0)
    assert set(export_folders(workspace, [job])) == {folder, workspace / "out" / "step-4"}
    (adapter / "parity.json").write_text("[")
    assert read_export(workspace, adapter) is None


def test_the_archive_is_as_long_as_it_says_and_unpacks(tmp_path):
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"x" * 1000)
    (folder / "sub" / ("é" * 80)).write_bytes(b"y" * 512)
    (folder / "empty").touch()
    (folder / "link").symlink_to("/etc/passwd")
    members = members_of(folder, files_of(folder))
    data = b"".join(archive(members))
    assert len(data) == length_of(members)
    with tarfile.open(fileobj=io.BytesIO(data)) as unpacked:
        found = {member.name: unpacked.extractfile(member).read() for member in unpacked}
    assert found == {"out/a.bin": b"x" * 1000, "out/empty": b"", f"out/sub/{'é' * 80}": b"y" * 512}
    os.truncate(folder / "a.bin", 10)
    with pytest.raises(OSError, match="became shorter"):
        list(archive(members))


def test_only_exports_are_sent_and_reports_are_in_a_sandbox(served):
    make_export(served.root / "exports" / "a")
    make_run(served.root / "runs" / "a")
    (served.root / "runs" / "a" / "evaluation").mkdir()
    (served.root / "runs" / "a" / "evaluation" / "evaluation.html").write_text("<script>alert(1)</script>")
    shown = served.get("/ship/report?folder=runs/a/evaluation")
    assert shown.headers[POLICY.lower()] == SANDBOX
    assert "allow-same-origin" not in SANDBOX
    assert shown.headers["x-content-type-options"] == "nosniff"
    kept = served.get("/ship/report?folder=runs/a/evaluation&download=true")
    assert kept.headers["content-disposition"].startswith("attachment")
    assert "sandbox" not in kept.headers[POLICY.lower()]
    for path, status in (
        ("/ship/download?folder=exports/a", 200),
        ("/ship/download?folder=runs/a", 404),
        ("/ship/download?folder=../x", 404),
        ("/ship/file?folder=exports/a&name=config.json", 200),
        ("/ship/file?folder=exports/a&name=../../runs/a/recipe.yaml", 404),
        ("/ship/file?folder=runs/a&name=recipe.yaml", 404),
        ("/ship/report?folder=exports/a", 404),
        ("/ship/tasks?data=../x", 404),
    ):
        assert served.get(path).status == status, path
    assert served.post("/ship/export", run="nothing", form="merged", dtype="bf16", out="x").status == 404
    assert served.queue.jobs() == []


@pytest.mark.long
@pytest.mark.parametrize("form", ["gguf", "ollama"])
def test_an_export_for_llama_cpp_and_ollama_has_its_check_its_command_and_its_download(served, form):
    pytest.importorskip("gguf")
    make_talking_run(served.root)
    assert served.post("/ship/export", run="runs/talker", form=form, dtype="fp16", out="exports/t").status == 303
    wait_until(lambda: all(job.state in ("done", "failed") for job in served.queue.jobs()))
    log = served.queue.folder(1).log.read_text()
    assert served.queue.job(1).state == "done", log
    text = served.get("/ship?run=runs/talker").text
    assert "What was trained is what is served" in text
    assert "llama-server -m" in text
    assert ("ollama create t -f" in text) == (form == "ollama")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("GET", "/ship/download?folder=exports/t", headers={"Cookie": served.cookie})
    sent = connection.getresponse().read()
    connection.close()
    with tarfile.open(fileobj=io.BytesIO(sent)) as unpacked:
        names = set(unpacked.getnames())
    assert {"t/model.gguf", "t/README.md", "t/parity.json"} <= names
    assert ("t/Modelfile" in names) == (form == "ollama")


@pytest.mark.long
@needs_chromium
def test_a_run_is_measured_to_the_end(served):
    make_talking_run(served.root)
    row = {"messages": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": ANSWER}]}
    (served.root / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with browser_context() as context:
        page = context.new_page()
        problems = watch(page, served.url)
        page.goto(served.first_url)
        page.goto(f"{served.url}/ship")
        page.get_by_label("Rows with questions").select_option("rows.jsonl")
        page.get_by_text("These fit the data: exact_match").wait_for()
        assert page.get_by_role("checkbox", name="exact_match").is_checked()
        page.get_by_label("At most this many prompts").fill("1")
        page.get_by_role("button", name="Start the evaluation").click()
        page.get_by_role("link", name="Open the whole page").wait_for()
        cells = page.locator("#evaluations tbody tr").first.text_content()
        assert "exact_match" in cells
        assert "1.000 [" in cells
        assert page.locator("#log").text_content().strip()
        assert_accessible(page)
        with context.expect_page() as opened:
            page.get_by_role("link", name="Open the whole page").click()
        report = opened.value
        report.get_by_text(ANSWER).first.wait_for()
        assert report.evaluate("origin") == "null"
        assert problems == []
        wait_until(lambda: all(job.state == "done" for job in served.queue.jobs()))

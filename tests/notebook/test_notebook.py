"""A notebook in a real kernel: what training shows while it goes on, and what records show."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel
from tests.notebook.kernels import environment, execute, html_of
from tests.tiny_chat import folders
from tests.views.parsed import assert_harmless, text_of

pytestmark = pytest.mark.slow
SETUP = """
import instil
HOSTILE = '</style></div><script>alert(1)</script><img src="http://x.invalid/p.png" onerror="alert(2)">'
rows = [{"question": f"{n}+1?", "answer": str(n + 1)} for n in range(60)]
settings = {"model": MODEL, "training.batch_size": 2, "evaluate.every": 20, "evaluate.max_new_tokens": 2, "threads": 1}
talk = instil.Conversation((instil.Message("user", HOSTILE), instil.Message("assistant", HOSTILE + "é 👋")))
chat = instil.ChatTokenizer.from_pretrained(MODEL)
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("notebook")
    cells = [
        SETUP.replace("MODEL", repr(str(folders()["tuned"]))),
        "run = instil.train(data=rows, output='runs/a', **{'training.max_steps': 40}, **settings)",
        "run",
        "talk",
        "chat.encode(talk)[0]",
        "chat.explain(talk)",
        "instil.evaluate(run, rows, limit=3, max_new_tokens=2)",
        "instil.train(data=rows, output='runs/b', quiet=True, **{'training.max_steps': 2}, **settings);",
        "for event in instil.train(data=rows, output='runs/c', follow=True, **{'training.max_steps': 4}, **settings):\n"
        "    if getattr(event, 'step', 0) == 2: break",
        "print(instil.Run.open('runs/c'))",
        "run.plot()",
        "%cd ..",
        "run",
    ]
    return execute(cells, folder), folder


def live(client, cell: int) -> list:
    """Return the messages of the outputs that replace themselves."""
    kinds = ("display_data", "update_display_data")
    return [
        message
        for message in client.messages
        if message["cell"] == cell
        and message["msg_type"] in kinds
        and "display_id" in message["content"].get("transient", {})
    ]


@pytest.mark.long
def test_training_shows_one_output_that_replaces_itself(executed):
    client, _ = executed
    messages = live(client, 1)
    assert [message["msg_type"] for message in messages].count("display_data") == 1
    assert messages[0]["msg_type"] == "display_data"
    assert len({message["content"]["transient"]["display_id"] for message in messages}) == 1
    assert len(messages) >= 2  # the empty bar, the end; a fast run has no step to show between them
    times = [message["header"]["date"].timestamp() for message in messages]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap >= 0.45 for gap in gaps[:-1]), gaps  # the end comes at once
    outputs = [output for output in client.nb.cells[1].outputs if output["output_type"] == "display_data"]
    with_bar = [output for output in outputs if 'class="bar"' in output["data"].get("text/html", "")]
    assert len(with_bar) == 1
    page = with_bar[0]["data"]["text/html"]
    assert "width:100.0%" in page
    assert "done · step 40 of 40" in text_of(page)
    assert "<svg" in page
    assert "held-out" in text_of(page)
    assert with_bar[0]["data"]["text/plain"].startswith("training: done")
    printed = "".join(output.get("text", "") for output in client.nb.cells[1].outputs)
    assert "optimizer" in printed  # the run card
    assert "step 1/" not in printed  # no line of a log beside it


def test_a_quiet_run_shows_nothing(executed):
    client, _ = executed
    assert client.nb.cells[7].outputs == []


def test_a_run_that_is_left_ends_its_output(executed):
    client, _ = executed
    page = live(client, 8)[-1]["content"]["data"]["text/html"]
    assert "ended after 2 of 4 steps" in text_of(page) or "ended after 3 of 4 steps" in text_of(page)
    assert "not finished" in client.nb.cells[9].outputs[0]["text"]


def test_every_record_shows_itself_and_nothing_in_it_can_run(executed):
    client, folder = executed
    shown = {2: "last held-out loss", 3: "2 assistant", 4: "trained", 5: "⟦trained⟧", 6: "loss per trained token"}
    for cell, words in shown.items():
        page = html_of(client, cell)
        assert_harmless(page)
        assert words in text_of(page), cell
        plain = client.nb.cells[cell].outputs[-1]["data"]["text/plain"]
        lines = plain.strip("[]").split("\n")
        assert all(len(line) <= 121 for line in lines), plain
        assert len(lines) == 1
    for cell in (3, 4, 5):
        assert "<script>alert(1)</script>" in text_of(html_of(client, cell))
    Path(folder / "shown.html").write_text("".join(html_of(client, cell) for cell in shown), encoding="utf-8")
    assert re.findall(r"https?://", (folder / "shown.html").read_text(encoding="utf-8")) != []  # only as text


def test_a_plot_is_a_picture(executed):
    client, _ = executed
    (output,) = client.nb.cells[10].outputs
    assert output["data"]["image/png"].startswith("iVBOR")


def test_a_run_that_is_not_found_any_more_says_so(executed):
    client, _ = executed
    assert "no such recipe file" in text_of(html_of(client, 12))


@pytest.mark.long
def test_the_stop_button_saves_the_run_and_keeps_the_kernel(tmp_path):
    """The button sends SIGINT: the run finishes its step and saves; `resume=True` continues it in the same kernel."""
    cells = [
        SETUP.replace("MODEL", repr(str(folders()["tuned"]))) + "run = None",
        "run = instil.train(data=rows, output='runs/x', **{'training.max_steps': 100_000}, **settings)",
        "print(run, run.metrics()[-1]['step'] < 1000)",
        "recipe = instil.Recipe.load('runs/x/recipe.yaml')\n"
        "for event in instil.train(data=rows, output='runs/x', resume=True, follow=True, quiet=False, **{'training.max_steps': 100_000}, **settings):\n"
        "    first = event\n"
        "    break\n"
        "print(first.step == run.metrics()[-1]['step'])",
    ]
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=environment(tmp_path))
    try:
        assert run_cell(client, cells[0])["status"] == "ok"
        client.execute(cells[1])
        steps = 0
        while steps < 2:  # the bar has moved
            message = client.get_iopub_msg(timeout=120)
            steps += message["msg_type"] == "update_display_data"
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=120)["content"]["status"] == "ok"
        printed = output_of(client, cells[2])
        assert "stopped by SIGINT" in printed
        assert printed.strip().endswith("True")
        assert output_of(client, cells[3]).strip().endswith("True")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run_cell(client, cell: str) -> dict:
    """Execute a cell and return the content of its reply."""
    return client.execute_interactive(cell, timeout=120, output_hook=lambda message: None)["content"]


def output_of(client, cell: str) -> str:
    """Execute a cell and return what it prints."""
    printed: list[str] = []

    def keep(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(cell, timeout=120, output_hook=keep)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)

"""A notebook in a real kernel: what training shows while it goes on, and what records show."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from tests.notebook.kernels import execute, html_of
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


def test_training_shows_one_output_that_replaces_itself(executed):
    client, _ = executed
    messages = live(client, 1)
    assert [message["msg_type"] for message in messages].count("display_data") == 1
    assert messages[0]["msg_type"] == "display_data"
    assert len({message["content"]["transient"]["display_id"] for message in messages}) == 1
    assert len(messages) >= 3  # the empty bar, a step, the end
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

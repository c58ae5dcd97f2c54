"""A full disk is one line in every verb that writes, and nothing half-written stays; plan and train foresee it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.faults.rows_on_disk import write_jsonl
from tests.forks import exit_code_of
from tests.training.command_line import exit_code, forked, write_recipe

from instil.conversation import Message
from instil.errors import GenerationError
from instil.generation.session import Session
from instil.generation.settings import SamplingSettings
from instil.training import disk_space
from instil.training.disk_space import DiskNeed, disk_warnings, num_saves

QUESTIONS = [{"messages": [{"role": "user", "content": f"What is {at}? " + "word " * 30}]} for at in range(48)]
CHAT = [
    {"messages": [*row["messages"], {"role": "assistant", "content": f"It is {at}. " + "word " * 40}]}
    for at, row in enumerate(QUESTIONS)
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 8 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def run(said: Path, *words: str, room: int | None = None) -> str:
    """Run a verb on a full disk: it fails with one line, which is returned."""
    assert exit_code_of(forked(*words, said=said, room=room)) == 2
    shown = said.read_text()
    assert "Traceback" not in shown
    (error,) = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in error
    return error


def whole_lines(path: Path) -> int:
    """Return the number of lines of a file, all of them whole rows."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return len([json.loads(line) for line in text.splitlines()])


def test_generate_keeps_whole_answers_and_continues(small_disk: Path, tmp_path: Path) -> None:
    prompts = write_jsonl(tmp_path / "prompts.jsonl", QUESTIONS[:12])
    out = small_disk / "answers.jsonl"
    words = ("generate", "demo", "--prompts", str(prompts), "--max-new-tokens", "2", "--out")
    (small_disk / "filler").write_bytes(b"x" * 4096)
    error = run(tmp_path / "said", *words, str(out))
    kept = whole_lines(out)
    assert 0 < kept < 12
    assert f"It holds {kept} answers" in error
    # With room, the same command answers only the others.
    (small_disk / "filler").unlink()
    elsewhere = Path(shutil.copy(out, tmp_path / "answers.jsonl"))
    assert exit_code_of(forked(*words, str(elsewhere), said=tmp_path / "again")) == 0
    assert f"({kept} were there already)" in (tmp_path / "again").read_text()
    assert whole_lines(elsewhere) == 12


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["convert", "fix", "page"])
def test_verbs_that_write_one_file_leave_none(verb: str, small_disk: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", CHAT)
    out = small_disk / {"convert": "out.jsonl", "fix": "fixed.jsonl", "page": "page.html"}[verb]
    words = {
        "convert": ("convert", str(rows), str(out), "--to", "sharegpt"),
        "fix": ("inspect", str(rows), "--fix", str(out)),
        "page": ("inspect", str(rows), "--html", str(out)),
    }[verb]
    assert str(out) in run(tmp_path / "said", *words)
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_evaluate_reports_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", CHAT[:4])
    out = small_disk / "report"
    run(tmp_path / "said", "evaluate", "demo", "--data", str(rows), "--max-new-tokens", "2", "--out", str(out))
    assert not [path for path in out.iterdir() if path.name.startswith(".tmp")]


@pytest.mark.parametrize("before", [None, "{}\n"])
def test_chat_saves_a_whole_conversation_or_nothing(before: str | None, small_disk: Path) -> None:
    path = small_disk / "saved.jsonl"
    if before is not None:
        path.write_text(before)
    turns = [Message("user", "Hi"), Message("assistant", "word " * 4000)]
    # Saving asks the engine for nothing, so a model would only cost time here.
    session = Session(engine=cast(Any, None), settings=SamplingSettings(), turns=turns)
    with pytest.raises(GenerationError, match="cannot be written"):
        session.save(path)
    assert (path.read_text() if path.exists() else None) == before


@pytest.mark.parametrize("words", [("template", "list"), ("template", "show", "chatml")])
def test_output_into_a_full_device_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "instil", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"error: instil {words[0]}: cannot be written (No space left on device). Free some disk space and run it again."
    ]


def test_plan_and_the_run_card_foresee_a_full_disk(
    tmp_path: Path, base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 2}}, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 0
    shown = capsys.readouterr().out
    assert "\ndisk  " in shown
    assert "the run writes" not in shown
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    for verb in ("plan", "train"):
        assert exit_code(verb, str(recipe)) == 0
        assert "the run writes" in capsys.readouterr().out


def test_what_a_resumed_run_has_written_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage._replace(free=500))
    need = DiskNeed(checkpoint=300, num_checkpoints=2, model=200)
    (warning,) = disk_warnings(need, tmp_path / "new")
    assert warning.figure == 800
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights").write_bytes(b"x" * 300)
    assert disk_warnings(need, tmp_path / "run") == []
    assert (num_saves(95, 10), num_saves(4, 10)) == (10, 1)

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
from tests.training.command_line import exit_code, forked, train, write_recipe

from instil.cli.list_options import with_lists
from instil.conversation import Message
from instil.errors import GenerationError, InstilError
from instil.files import write_texts_atomic
from instil.generation.session import Session
from instil.generation.settings import SamplingSettings
from instil.recipe import Recipe
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


@pytest.fixture
def read_only(small_disk: Path) -> Path:
    """Make the file system of 8 kB read-only, also for root."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Path:
    """Return the folder of a run with an adapter."""
    folder = tmp_path_factory.mktemp("trained")
    changes = {"training": {"max_steps": 1}, "adapter": {"kind": "lora", "rank": 2}}
    return train(write_recipe(folder, changes, base=base, rows=rows)).folder


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


@pytest.mark.slow
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


def test_a_report_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    (small_disk / "evaluation.json").write_text("of yesterday")
    # One page is left, for the first of the two files.
    with pytest.raises(OSError, match="No space"):
        write_texts_atomic({small_disk / f"evaluation.{kind}": "of today " * 200 for kind in ("json", "md")})
    assert {path.name: path.read_text() for path in small_disk.iterdir()} == {"evaluation.json": "of yesterday"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["merged", "adapter", "gguf", "ollama"])
def test_an_export_leaves_nothing_and_names_its_folder(target: str, trained: Path, small_disk: Path) -> None:
    out = small_disk / "deep" / "export"
    error = run(small_disk.parent / "said", "export", str(trained), str(out), "--as", target)
    assert error.startswith(f"error: {out}: cannot be written (No space left on device). Expected free space")
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_a_gguf_file_has_the_name_of_its_folder(trained: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    assert exit_code("export", str(trained), str(tmp_path / "small-chat"), "--as", "gguf") == 0
    name = gguf.GGUFReader(str(tmp_path / "small-chat" / "model.gguf")).get_field("general.name")
    assert name.contents() == "small-chat"


WRITERS = {
    "convert": ("convert", "{rows}", "{root}/out.jsonl", "--to", "sharegpt"),
    "fix": ("inspect", "{rows}", "--model", "{run}", "--fix", "{root}/fixed.jsonl"),
    "page": ("inspect", "{rows}", "--model", "{run}", "--html", "{root}/page.html"),
    "generate": ("generate", "{run}", "--prompts", "{rows}", "--max-new-tokens", "1", "--out", "{root}/answers.jsonl"),
    "evaluate": ("evaluate", "{run}", "--data", "{rows}", "--limit", "1", "--max-new-tokens", "1", "--out", "{root}/e"),
    "export": ("export", "{run}", "{root}/export"),
    "compare": ("runs", "compare", "{run}", "{run}", "--plot", "{root}/plot.png"),
    "prepare": ("prepare", "{recipe}", "--data.store", "{root}/store"),
    "train": ("train", "{recipe}", "--output", "{root}/run"),
    "demo": ("demo", "--output", "{root}/demo"),
}


def one_error(words: tuple[str, ...], capsys: pytest.CaptureFixture[str], **values: Path | str) -> str:
    """Run a verb that must fail with one line, and return the line."""
    capsys.readouterr()
    assert exit_code(*[word.format(**values) for word in words]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.slow
@pytest.mark.parametrize("verb", WRITERS)
def test_a_read_only_folder_is_one_line(
    verb: str, read_only: Path, trained: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"root": read_only, "run": trained, "rows": rows, "recipe": trained.parent / "recipe.yaml"}
    error = one_error(WRITERS[verb], capsys, **places)
    assert str(read_only) in error
    assert "Read-only file system" in error


@pytest.mark.slow
@pytest.mark.parametrize("verb", WRITERS)
def test_a_file_in_the_place_of_a_folder_is_one_line(
    verb: str, tmp_path: Path, trained: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    places = {"root": taken, "run": trained, "rows": rows, "recipe": trained.parent / "recipe.yaml"}
    assert str(taken) in one_error(WRITERS[verb], capsys, **places)
    assert taken.read_text() == "mine"


PASTED = "What is the capital of France and of all the other countries? " * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *WRITERS.values(),
        ("plan", "{recipe}", "--data.sources", "{pasted}"),
        ("plan", "{recipe}", "--model.name", "{pasted}"),
        ("plan", "{recipe}", "--model.template", "{pasted}"),
        ("plan", "{recipe}", "--data.heldout", "{pasted}"),
        ("inspect", "{pasted}"),
        ("inspect", "{rows}", "--template", "{pasted}"),
        ("convert", "{pasted}", "{run}/out.jsonl"),
        ("chat", "{pasted}"),
        ("chat", "{run}", "--tools", "{pasted}"),
        ("generate", "{run}", "--prompts", "{pasted}", "--out", "{run}/out.jsonl"),
        ("evaluate", "{run}", "--data", "{pasted}"),
        ("evaluate", "{run}", "--data", "{rows}", "--schema", "{pasted}"),
        ("serve", "{pasted}"),
        ("export", "{pasted}", "{run}/export"),
        ("runs", "list", "{pasted}"),
        ("runs", "compare", "{pasted}", "{run}"),
        ("template", "show", "{pasted}"),
        ("template", "prove", "{pasted}"),
    ],
    ids=lambda words: " ".join(word for word in words if "{" not in word),
)
def test_a_text_pasted_in_the_place_of_a_path_is_one_line(
    words: tuple[str, ...], trained: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"run": trained, "rows": rows, "recipe": trained.parent / "recipe.yaml", "pasted": PASTED}
    before = set(trained.iterdir())
    assert PASTED[:40] in one_error(words, capsys, root=PASTED, **places)
    assert set(trained.iterdir()) == before


def test_a_list_of_files_may_be_longer_than_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"rows-of-the-day-number-{at}.jsonl" for at in range(20)]
    for name in names:
        write_jsonl(tmp_path / name, CHAT[:1])
    monkeypatch.chdir(tmp_path)
    assert exit_code("prepare", "recipe.yaml", "--data.sources", ",".join(names)) == 2
    assert "recipe.yaml" in capsys.readouterr().err
    assert with_lists(["prepare", "recipe.yaml", "--data.sources", ",".join(names)])[-20:] == [
        f"--data.sources={name}" for name in names
    ]


@pytest.mark.parametrize("name", ["missing/recipe.yaml", "taken/recipe.yaml", "n" * 300, "a\0b"])
def test_a_recipe_that_cannot_be_saved_is_an_error_of_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    recipe = Recipe.from_mapping({"data": {"sources": ["rows.jsonl"]}}, source="test")
    with pytest.raises(InstilError, match=r"cannot be written|a name of 300 bytes|no path"):
        recipe.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_evaluate_reports_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", CHAT[:4])
    out = small_disk / "report"
    run(tmp_path / "said", "evaluate", "demo", "--data", str(rows), "--max-new-tokens", "2", "--out", str(out))
    assert not out.exists()


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


@pytest.mark.slow
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
        f"error: instil {words[0]}: cannot be written (No space left on device). Expected free space on the disk. "
        "Free some, and run it again."
    ]


@pytest.mark.slow
def test_plan_and_the_run_card_foresee_a_full_disk(
    tmp_path: Path, base: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, {"training": {"max_steps": 2}}, base=base, rows=rows)
    assert exit_code("plan", str(recipe)) == 0
    shown = "".join(capsys.readouterr())
    assert "\ndisk  " in shown
    assert "the run writes" not in shown
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    for verb in ("plan", "train"):
        assert exit_code(verb, str(recipe)) == 0
        assert "the run writes" in "".join(capsys.readouterr())


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

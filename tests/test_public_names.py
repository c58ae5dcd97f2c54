"""Every public name: documented with an example that runs, no shadow of a package, plain errors for wrong input."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_chat import folders, tiny_tokenizer

import instil
from instil import errors

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = {
    "read", "write", "Conversation", "Message", "ToolCall", "Example", "ChatTokenizer", "Recipe", "train", "Run",
    "load_model", "evaluate", "export", "write", "prepare", "plan", "inspect", "collate_padded", "collate_flat",
    "InstilError",
}  # fmt: skip
WRONG: list[Any] = [
    None, True, 0, -1, 3.5, float("nan"), b"bytes", bytearray(b"x"), "", "./no/such/file", "nul\0", "\ud800", [], [None], [5], [b"x"],
    {}, {"a": 1}, {5: 6}, (), set(), object(), object, len, range(3), Path("no/such/folder"), Path("."), Path(__file__),
]  # fmt: skip


def public_errors() -> set[str]:
    return {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.InstilError)
    }


def test_the_public_names_are_there_and_bring_no_torch() -> None:
    names = set(instil.__all__)
    assert names >= FUNCTIONS | public_errors()
    script = (
        "import sys, instil\n"
        "for name in instil.__all__: getattr(instil, name)\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_public_name_is_a_package_and_each_is_documented() -> None:
    packages = {path.parent.name for path in (ROOT / "src" / "instil").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "src" / "instil").glob("*.py")}
    assert len(packages) > 10
    assert set(instil.__all__) & (packages | modules) == set()
    for name in set(instil.__all__) - {"__version__"}:
        assert getattr(instil, name).__doc__, name


@pytest.fixture(scope="module")
def tuned() -> Path:
    return folders()["tuned"]


@pytest.fixture(scope="module")
def chat() -> instil.ChatTokenizer:
    return instil.ChatTokenizer.from_tokenizer(tiny_tokenizer())


def failure_of(call: Callable[[], Any]) -> BaseException | None:
    """Return what a call fails with, unless it is one of ours; what is returned lazily is read."""
    try:
        value = call()
        if hasattr(value, "__next__"):
            for _, item in zip(range(3), value, strict=False):
                assert item is not None
    except instil.InstilError as error:
        message = str(error)
        if not message or "Traceback" in message:
            return error
        return None
    except Exception as error:  # every other class is the fault that is looked for
        return error
    return None


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "ChatTokenizer.from_pretrained": lambda _, wrong: instil.ChatTokenizer.from_pretrained(wrong),
    "ChatTokenizer.from_pretrained template": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", wrong),
    "ChatTokenizer.from_pretrained settings": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", settings=wrong),
    "ChatTokenizer.from_pretrained revision": lambda _, wrong: instil.ChatTokenizer.from_pretrained("demo", revision=wrong),
    "ChatTokenizer.from_tokenizer": lambda _, wrong: instil.ChatTokenizer.from_tokenizer(wrong),
    "ChatTokenizer.from_tokenizer template": lambda _, wrong: instil.ChatTokenizer.from_tokenizer(tiny_tokenizer(), wrong),
    "encode": lambda chat, wrong: chat.encode(wrong),
    "encode train_on": lambda chat, wrong: chat.encode(TALK, wrong),
    "encode_many": lambda chat, wrong: chat.encode_many(wrong),
    "prompt": lambda chat, wrong: chat.prompt(wrong),
    "prompt tools": lambda chat, wrong: chat.prompt(TALK[:1], wrong),
    "prompt begun": lambda chat, wrong: chat.prompt([TALK[0], {"role": "assistant", "content": wrong}], continue_final_message=True),
    "begun_answer": lambda chat, wrong: chat.begun_answer(wrong),
    "render": lambda chat, wrong: chat.render(wrong),
    "explain": lambda chat, wrong: chat.explain(wrong),
    "explain_prompt": lambda chat, wrong: chat.explain_prompt(wrong),
    "decode": lambda chat, wrong: chat.decode(wrong),
    "with_settings": lambda chat, wrong: chat.with_settings(wrong),
    "message content": lambda chat, wrong: chat.encode([TALK[0], {"role": "assistant", "content": wrong}]),
    "message role": lambda chat, wrong: chat.encode([{"role": wrong, "content": "x"}]),
    "load_model": lambda _, wrong: instil.load_model(wrong),
    "Run.open": lambda _, wrong: instil.Run.open(wrong),
    "read": lambda _, wrong: instil.read(wrong),
    "evaluate model": lambda _, wrong: instil.evaluate(wrong, "no-rows.jsonl"),
    "evaluate data": lambda _, wrong: instil.evaluate("no/model", wrong),
    "evaluate tasks": lambda _, wrong: instil.evaluate("no/model", ROWS, tasks=wrong),
    "evaluate against": lambda _, wrong: instil.evaluate("no/model", ROWS, against=wrong),
    "evaluate turns": lambda _, wrong: instil.evaluate("no/model", ROWS, turns=wrong),
    "evaluate limit": lambda _, wrong: instil.evaluate("no/model", ROWS, limit=wrong),
    "evaluate too_long": lambda _, wrong: instil.evaluate("no/model", ROWS, too_long=wrong),
    "evaluate schema": lambda _, wrong: instil.evaluate("no/model", ROWS, schema=wrong),
    "evaluate run_code": lambda _, wrong: instil.evaluate("no/model", ROWS, run_code=wrong),
    "evaluate out": lambda _, wrong: instil.evaluate("no/model", ROWS, out=wrong),
    "evaluate temperature": lambda _, wrong: instil.evaluate("no/model", ROWS, temperature=wrong),
    "evaluate device": lambda _, wrong: instil.evaluate("no/model", ROWS, device=wrong),
    "export model": lambda _, wrong: instil.export(wrong, "no-such-out"),
    "export out": lambda _, wrong: instil.export("no/model", wrong),
    "export target": lambda _, wrong: instil.export("no/model", "no-such-out", target=wrong),
    "export dtype": lambda _, wrong: instil.export("no/model", "no-such-out", dtype=wrong),
    "export data": lambda _, wrong: instil.export("no/model", "no-such-out", data=wrong),
    "export device": lambda _, wrong: instil.export("no/model", "no-such-out", device=wrong),
    "export licence": lambda _, wrong: instil.export("no/model", "no-such-out", licence=wrong),
    "export check_with": lambda _, wrong: instil.export("no/model", "no-such-out", check_with=wrong),
}  # fmt: skip
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ROWS = str(ROOT / "tests" / "no-rows.jsonl")


@pytest.mark.parametrize("name", CALLS)
def test_wrong_input_is_an_error_in_plain_words(
    name: str, chat: instil.ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    failures = {
        repr(wrong): repr(failure)
        for wrong in WRONG
        if (failure := failure_of(lambda wrong=wrong: CALLS[name](chat, wrong))) is not None  # type: ignore[misc]
    }
    assert failures == {}
    assert list(tmp_path.iterdir()) == []


def test_each_function_has_an_example_in_the_docs_that_is_run() -> None:
    # tests/test_docs_commands.py runs every Python block of the pages.
    blocks = "\n".join(
        block
        for page in (ROOT / "docs").glob("*.md")
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
    missing = {name for name in FUNCTIONS if not re.search(rf"\binstil\.{name}\b", blocks)}
    assert missing == set()

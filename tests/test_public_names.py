"""Every public name: documented with an example that runs, no shadow of a package, plain errors for wrong input."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Callable
from inspect import isfunction
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.public_calls import CALLS, FILE, ROOT, TALK, WRONG, Things
from tests.test_docs_commands import programs_of
from tests.tiny_chat import tiny_llama, tiny_tokenizer

import instil
from instil import errors
from instil.api.inspecting import Inspected
from instil.generation.chat_model import ChatModel
from instil.preparation.store import ExampleStore

FUNCTIONS = {
    "read", "write", "Conversation", "Message", "ToolCall", "Example", "ChatTokenizer", "Recipe", "train", "Run",
    "load_model", "evaluate", "export", "write", "prepare", "plan", "sweep", "Sweep", "inspect", "collate_padded", "collate_flat",
    "InstilError", "env", "Environment",
}  # fmt: skip


def public_errors() -> set[str]:
    return {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.InstilError)
    }


@pytest.mark.slow
def test_the_public_names_are_there_and_bring_no_torch() -> None:
    names = set(instil.__all__)
    assert names >= FUNCTIONS | public_errors()
    # Calls that load a tokenizer or a model import transformers, which imports torch.
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
def its(tmp_path_factory: pytest.TempPathFactory) -> Things:
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("output: runs/run\n")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    model = instil.load_model(tiny_llama(layers=1), tiny_tokenizer())
    chat = instil.ChatTokenizer.from_tokenizer(tiny_tokenizer())
    return Things(
        chat, model, instil.Run.open(folder), ExampleStore.from_examples(chat.encode(TALK)), instil.inspect([TALK])
    )


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


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_wrong_input_is_an_error_in_plain_words(
    name: str, its: Things, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / FILE).write_text("")
    monkeypatch.chdir(work)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("INSTIL_CACHE", str(tmp_path / "cache"))
    failures = {
        f"{wrong!r:.80}": repr(failure)
        for wrong in WRONG
        if (failure := failure_of(lambda wrong=wrong: CALLS[name](its, wrong))) is not None  # type: ignore[misc]
    }
    assert failures == {}
    assert [path.name for path in work.iterdir()] == [FILE]


NO_EXAMPLE = {
    "ChatTokenizer.of": "takes a record that is not public",
    "ChatTokenizer.conversation": "what `encode` does first, shown by it",
    "Example.facts": "the words of its repr",
    "Sweep.shows_won": "decides a column of the table, which has an example",
}
"""Methods without an example of their own, with the reason."""


def examples_in(value: Any) -> str:
    """Return the examples in a docstring that doctest runs."""
    parsed = doctest.DocTestParser().get_examples(value.__doc__ or "")
    return "".join(example.source for example in parsed if doctest.SKIP not in example.options)


def test_each_public_name_has_an_example_in_the_docs_that_is_run() -> None:
    # tests/test_docs_commands.py runs every Python block of these pages.
    blocks = "\n".join(
        program for page in (ROOT / "docs").rglob("*.md") for program in programs_of(page.relative_to(ROOT).as_posix())
    )
    names = set(instil.__all__) - {"__version__"}
    assert len(names) > 35
    assert {name for name in names if not re.search(rf"\binstil\.{name}\b", blocks)} == set()

    without, looked_at = set(), 0
    values = [*(getattr(instil, name) for name in names), ChatModel, Inspected]
    for kind in [value for value in values if isinstance(value, type) and not issubclass(value, Exception)]:
        for name, member in vars(kind).items():
            method = getattr(member, "__func__", member)
            inherited = name in dir(BaseModel)
            if name.startswith("_") or inherited or not (isfunction(method) or isinstance(method, property)):
                continue
            looked_at += 1
            assert method.__doc__, f"{kind.__name__}.{name}"
            shown = blocks + examples_in(kind) + examples_in(method)
            if not re.search(rf"\.{name}\b", shown):
                without.add(f"{kind.__name__}.{name}")
    assert looked_at > 50
    assert sorted(without - NO_EXAMPLE.keys()) == []

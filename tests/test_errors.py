from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import instil
from instil.errors import InstilError, MissingPackageError


def subclasses(above: type[InstilError]) -> Iterator[type[InstilError]]:
    yield above
    for below in above.__subclasses__():
        yield from subclasses(below)


def made(kind: type[InstilError]) -> InstilError:
    if issubclass(kind, MissingPackageError):
        return kind("bitsandbytes", needed_for="model.quantize: 4bit", extra="qlora")
    return kind("train.jsonl:4: found nothing. Expected a row. Fix the row.")


@pytest.mark.parametrize("kind", list(subclasses(InstilError)), ids=lambda kind: kind.__name__)
def test_every_error_travels_between_processes(kind: type[InstilError]):
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)


def literal_ends(tree: ast.AST, kinds: set[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the last literal text of every error that is made; a text that ends in a value has none."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") not in kinds or not call.args:
            continue
        text = call.args[0]
        end = text.values[-1] if isinstance(text, ast.JoinedStr) else text
        if isinstance(end, ast.Constant) and isinstance(end.value, str):
            yield call.lineno, end.value


@pytest.mark.slow
def test_the_text_of_every_error_ends_in_a_full_stop():
    """Or in a command behind `Run:`, to which a full stop would be copied."""
    kinds = {kind.__name__ for kind in subclasses(InstilError)} - {"MissingPackageError"}
    root = Path(instil.__file__).parent
    ends = [
        (f"{path.relative_to(root)}:{line}", end)
        for path in sorted(root.rglob("*.py"))
        for line, end in literal_ends(ast.parse(path.read_text(encoding="utf-8")), kinds)
    ]
    assert len(ends) > 200
    assert [place for place, end in ends if not end.endswith((".", "!")) and "Run: " not in end] == []

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

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

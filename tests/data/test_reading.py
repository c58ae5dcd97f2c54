from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.corpus import corpus_path, needs_corpus

import instil
from instil.api.writing import write as write_any_target
from instil.data import detect, read
from instil.errors import DataError


def test_detection_says_what_it_saw_and_why(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}] * 9 + [{"messages": [{"role": "user", "content": "q"}]}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    seen = detect(path)[0]
    assert str(seen) == f"{path}: question_answer (columns question, answer in 9 of 11 rows; 1 messages; 1 broken)"
    assert seen.formats == {"question_answer": 9, "messages": 1, "broken": 1}
    assert len(list(read(path, on_bad_row="skip"))) == 10
    with pytest.raises(DataError, match=r"a\.jsonl:11: not valid JSON"):
        list(read(path))


def test_detection_names_the_columns_that_nothing_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "context": "c", "answer": "a", "id": 1}\n{"question": "q", "answer": "a"}\n')
    assert str(detect(path)[0]) == (
        f"{path}: question_answer (columns question, answer in 2 of 2 rows; columns that nothing reads: context, id)"
    )
    path.write_text(
        '{"instruction": "i", "input": "n", "output": "o"}\n{"chosen": "c", "rejected": "r", "prompt": "p"}\n'
    )
    assert "nothing reads" not in str(detect(path)[0])


def test_public_names() -> None:
    assert instil.read is read
    assert instil.write is write_any_target  # which adds rendered text to what `data.write` writes


REFUSED = ("bfcl_", "mt_bench_", "oasst_", "tau_bench_", "toolalpaca_", "toolbench_", "xtuner_qwen35_")


@pytest.mark.slow
@needs_corpus(36)
def test_every_corpus_file_is_read_or_refused_by_name() -> None:
    corpus = corpus_path()
    assert corpus is not None
    files = [path for path in sorted((corpus / "datasets").iterdir()) if path.name != "index.json"]
    for path in files:
        count = _count(lambda path=path: read(path))
        if path.name.startswith(REFUSED):
            assert isinstance(count, str), path.name
            assert count.startswith((f"{path}:", f"{path}[")), path.name
        else:
            assert isinstance(count, int), (path.name, count)
            assert count >= detect(path)[0].formats[detect(path)[0].format], path.name
    assert len(files) == 36


def _count(make: Callable[[], Any]) -> int | str:
    try:
        return sum(1 for _ in make())
    except DataError as error:
        return str(error)

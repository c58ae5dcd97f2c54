from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.data.formats.rows import PLACE, A, U, check_conversion, check_reading, one

from instil.conversation import Message
from instil.data import write
from instil.data.formats import FORMATS
from instil.errors import DataError, FormatError

READ: list[tuple[Any, tuple[Message, ...]]] = [
    ({"prompt": "p", "completion": "c"}, (U("p"), A("c"))),
    (
        {
            "prompt": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "r"},
            ],
            "completion": [{"role": "assistant", "content": "c"}],
        },
        (U("q"), Message("assistant", "a", weight=0.0), U("r"), A("c")),
    ),
    ({"prompt": "p", "completion": [{"role": "assistant", "content": "c"}]}, (U("p"), A("c"))),
    ({"prompt": [{"role": "user", "content": "p"}], "response": "c"}, (U("p"), A("c"))),
]


@pytest.mark.parametrize(("row", "messages"), READ)
def test_rows_are_recognised_and_read(row: Any, messages: tuple[Message, ...]) -> None:
    check_reading(row, messages, format="prompt_completion")


@pytest.mark.parametrize(("row", "messages"), READ)
@pytest.mark.parametrize("through", ["messages", "sharegpt"])
def test_rows_survive_conversion_there_and_back(
    row: Any, messages: tuple[Message, ...], through: str, tmp_path: Path
) -> None:
    check_conversion(row, tmp_path, format="prompt_completion", through=through)


def test_prompt_and_completion_can_be_plain() -> None:
    row = {"prompt": "p", "completion": "c"}
    assert one(row, prompt_completion="plain").plain
    written = next(each for each in FORMATS if each.name == "prompt_completion").write(
        one(row, prompt_completion="plain")
    )
    assert one(written).plain


@pytest.mark.parametrize("label", [False, "False"])
@pytest.mark.parametrize("prompt", ["p", [{"role": "user", "content": "p"}]])
def test_an_answer_judged_bad_is_no_answer_to_learn(label: Any, prompt: Any) -> None:
    completion = "c" if prompt == "p" else [{"role": "assistant", "content": "c"}]
    with pytest.raises(DataError, match=f"{PLACE}: has label false.*Expected label true.*Set training.objective: kto"):
        one({"prompt": prompt, "completion": completion, "label": label})
    assert one({"prompt": prompt, "completion": completion, "label": True}).messages == (U("p"), A("c"))


def test_a_column_that_would_make_an_answer_bad_is_not_written(tmp_path: Path) -> None:
    conversation = one({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": False})  # fmt: skip
    with pytest.raises(FormatError, match="label"):
        write([conversation], tmp_path / "a.jsonl", format="prompt_completion")

from __future__ import annotations

from typing import Any

import pytest

from instil.conversation import Place
from instil.data.sources.rows import read_raw_rows
from instil.errors import DataError


def test_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: dict[str, Any] = {}

    def load_dataset(path: str, **options: Any) -> list[dict[str, Any]]:
        asked.update(options, path=path)
        if path == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist on the Hub")
        return [{"question": "q", "answer": "a", "none": None}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = list(read_raw_rows("hf://openai/gsm8k", split="test", subset="main", revision="v1"))
    assert rows == [(Place("openai/gsm8k", 1), {"question": "q", "answer": "a"})]
    assert asked == {"path": "openai/gsm8k", "name": "main", "split": "test", "revision": "v1", "streaming": True}
    with pytest.raises(DataError, match="no/such: no such file or folder, and as a Hub data set it cannot be read"):
        list(read_raw_rows("no/such"))

"""Rows of the lessons: from a corpus folder, from the Hub, or made in the same shape; the source is printed."""

from __future__ import annotations

import json

import datasets
import huggingface_hub
import pytest

from course_rows import MADE, rows_of

COLUMNS = {
    "HuggingFaceTB/smoltalk": {"full_topic", "messages"},
    "openai/gsm8k": {"question", "answer"},
    "tatsu-lab/alpaca": {"instruction", "input", "output", "text"},
    "anon8231489123/ShareGPT_Vicuna_unfiltered": {"id", "conversations"},
    "bigcode/the-stack-smol": {
        "content", "avg_line_length", "max_line_length", "alphanum_fraction", "licenses", "repository_name", "path", "size",
        "lang",
    },
}  # fmt: skip


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("INSTIL_CORPUS", raising=False)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("hub_id", MADE)
def test_made_rows_have_the_columns_of_the_hub_and_differ_by_split(hub_id, capsys):
    train, test = rows_of(hub_id, split="train", limit=60), rows_of(hub_id, split="test", limit=20)
    assert len(train) == 60
    assert len(test) == 20
    assert {frozenset(row) for row in train + test} == {frozenset(COLUMNS.get(hub_id, train[0]))}
    assert rows_of(hub_id, split="train", limit=60) == train
    printed = capsys.readouterr().out
    assert f"{hub_id}, split train: 60 rows, made here, because HF_HUB_OFFLINE is set" in printed


def test_rows_of_the_corpus_come_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "datasets").mkdir()
    rows = [{"question": f"{number}?", "answer": "#### 1"} for number in range(9)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "datasets" / "gsm8k_train.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setenv("INSTIL_CORPUS", str(tmp_path))
    assert rows_of("openai/gsm8k", "main", limit=4) == rows[:4]
    assert "4 rows, read from the corpus folder" in capsys.readouterr().out


def test_a_hub_that_answers_gives_the_rows(monkeypatch, capsys):
    """The Hub's two calls are replaced, because tests have no network; what is passed to them is what is looked at."""
    called = []

    def load_dataset(*arguments, **keywords):
        called.append((arguments, keywords))
        return iter([{"content": "print(1)"}, {"content": "print(2)"}])

    monkeypatch.delenv("INSTIL_CORPUS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, hub_id, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert rows_of("bigcode/the-stack-smol", data_dir="data/python", limit=1) == [{"content": "print(1)"}]
    assert called == [
        (("bigcode/the-stack-smol", None), {"split": "train", "streaming": True, "data_dir": "data/python"})
    ]
    assert "1 rows, loaded from the Hub" in capsys.readouterr().out


def test_a_hub_that_refuses_is_named_with_its_reason(monkeypatch, capsys):
    def refuse(self, hub_id, timeout):
        raise ConnectionError("no route to host")

    monkeypatch.delenv("INSTIL_CORPUS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    assert len(rows_of("openai/gsm8k", "main", limit=3)) == 3
    assert "made here, because the Hub gave none (ConnectionError: no route to host)" in capsys.readouterr().out
    with pytest.raises(KeyError):
        rows_of("no/such-data")

"""Rows for the lessons: from a corpus folder, from the Hugging Face Hub, or made here in the same shape.

`rows_of("openai/gsm8k", "main", split="train")` takes the arguments of `datasets.load_dataset`. It prints where the rows
come from. `enter_new_folder` starts a lesson in an empty folder, so that a lesson can be run again from its first cell.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

# A library that transformers imports asks for ipywidgets in each notebook; the lessons need none.
warnings.filterwarnings("ignore", message="IProgress not found")
Row = dict[str, Any]
CORPUS_FILES = {
    ("openai/gsm8k", "train"): "gsm8k_train.jsonl",
    ("openai/gsm8k", "test"): "gsm8k_test.jsonl",
    ("tatsu-lab/alpaca", "train"): "alpaca_1k.json",
    ("bigcode/the-stack-smol", "train"): "stack_smol_like_code.jsonl.gz",
}
"""Hub id and split to the file in the ``datasets`` folder of a corpus, which ``INSTIL_CORPUS`` names."""

GREETING = [{"content": "Hi!", "role": "user"}, {"content": "Hello! How can I help you today?", "role": "assistant"}]


def enter_new_folder() -> Path:
    """Make an empty folder, change into it and return its path."""
    folder = Path(tempfile.mkdtemp(prefix="instil-lesson-"))
    os.chdir(folder)
    return folder


def rows_of(
    hub_id: str, subset: str | None = None, *, split: str = "train", limit: int = 200, **loading: Any
) -> list[Row]:
    """Return the first rows of a data set, and print where they come from.

    The corpus folder is taken first, then the Hub, then rows of the same shape that are made here.

    Args:
        hub_id: Name of the data set on the Hub.
        subset: Its subset, as in `datasets.load_dataset`.
        split: Its split.
        limit: Number of rows at most.
        **loading: Further arguments of `datasets.load_dataset`.

    Raises:
        KeyError: If the Hub cannot be reached and no rows of this shape can be made.
    """
    rows = _from_corpus(hub_id, split, limit)
    source = "read from the corpus folder"
    if rows is None:
        rows, source = _from_hub(hub_id, subset, split, limit, loading)
    if rows is None:
        rows = MADE[hub_id](split)[:limit]
    print(f"{hub_id}, split {split}: {len(rows)} rows, {source}")
    return rows


def capitals(split: str = "train") -> dict[str, str]:
    """Return countries and their capitals, which the demo's base model has read about.

    Args:
        split: ``train``, or ``test``: other countries, for questions that no lesson trains on.

    Example:
        >>> capitals()["Malaysia"], "Peru" in capitals(), "Peru" in capitals("test")
        ('Kuala Lumpur', False, True)
    """
    from instil.demo.split import held_out, trained

    countries = trained() if split == "train" else sorted(held_out(), key=lambda entity: entity.name)
    return {entity.called: entity.attributes["capital"] for entity in countries if entity.kind == "country"}


def _from_corpus(hub_id: str, split: str, limit: int) -> list[Row] | None:
    name, corpus = CORPUS_FILES.get((hub_id, split)), os.environ.get("INSTIL_CORPUS")
    if name is None or not corpus or not (Path(corpus) / "datasets" / name).is_file():
        return None
    path = Path(corpus) / "datasets" / name
    with (gzip.open if name.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        if name.endswith(".json"):
            return list(json.load(file)[:limit])
        return [json.loads(line) for line in islice(file, limit)]


def _from_hub(
    hub_id: str, subset: str | None, split: str, limit: int, loading: dict[str, Any]
) -> tuple[list[Row] | None, str]:
    """Return rows of the Hub, or None and the reason."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return None, "made here, because HF_HUB_OFFLINE is set"
    import datasets
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(hub_id, timeout=5)  # asks once; load_dataset would try for minutes
        stream = datasets.load_dataset(hub_id, subset, split=split, streaming=True, **loading)
        return [dict(row) for row in islice(stream, limit)], "loaded from the Hub"
    except Exception as error:  # network, proxy, login, a data set that was moved: the lesson goes on, with the reason
        return None, f"made here, because the Hub gave none ({type(error).__name__}: {str(error).splitlines()[0]:.100})"


def _everyday_conversations(split: str) -> list[Row]:
    rows = []
    for row in _demo_rows("messages.jsonl", split):
        turns = [{"content": turn["content"], "role": turn["role"]} for turn in row["messages"]]
        if turns[0]["role"] != "system":  # everyday-conversations has none: each begins with a greeting
            rows.append({"full_topic": "Facts/Everyday questions/One subject", "messages": GREETING + turns})
    return rows


def _word_problems(split: str) -> list[Row]:
    numbers = random.Random(f"word problems, {split}")
    rows = []
    for _ in range(400):
        first, more = numbers.randint(2, 40), numbers.randint(2, 40)
        name, thing = numbers.choice(("Tom", "Ana", "Linh", "Wei")), numbers.choice(("apples", "books", "clips"))
        total = first + more
        question = f"{name} has {first} {thing} and buys {more} more. How many {thing} does {name} have now?"
        answer = f"{name} has {first}+{more} = <<{first}+{more}={total}>>{total} {thing}.\n#### {total}"
        rows.append({"question": question, "answer": answer})
    return rows


def _alpaca(split: str) -> list[Row]:
    rows = []
    for row in _demo_rows("alpaca.json", split):
        inputs = f"### Input:\n{row['input']}\n\n" if row["input"] else ""
        text = f"### Instruction:\n{row['instruction']}\n\n{inputs}### Response:\n{row['output']}"
        rows.append({**row, "text": text})
    return rows


def _sharegpt(split: str) -> list[Row]:
    rows = _demo_rows("sharegpt.json", split)
    return [{"id": f"made_{number}", "conversations": row["conversations"]} for number, row in enumerate(rows)]


def _python_files(split: str) -> list[Row]:
    """Return the source files of instil itself, with the columns of the-stack-smol."""
    import instil

    folder = Path(instil.__file__).parent
    paths = [path for path in sorted(folder.rglob("*.py")) if path.stat().st_size > 400]
    rows = []
    for path in paths if split == "train" else paths[::10]:
        content = path.read_text(encoding="utf-8")
        lengths = [len(line) for line in content.splitlines()]
        rows.append(
            {
                "content": content,
                "avg_line_length": sum(lengths) / len(lengths),
                "max_line_length": max(lengths),
                "alphanum_fraction": sum(letter.isalnum() for letter in content) / len(content),
                "licenses": ["apache-2.0"],
                "repository_name": "instil",
                "path": path.relative_to(folder.parent).as_posix(),
                "size": path.stat().st_size,
                "lang": "Python",
            }
        )
    return rows


def _demo_rows(name: str, split: str) -> list[Row]:
    """Return rows that the demo writes; every tenth of them is the test split."""
    text = _demo_texts()[name]
    rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    random.Random(0).shuffle(rows)
    return [row for number, row in enumerate(rows) if (number % 10 == 0) == (split != "train")]


@cache
def _demo_texts() -> dict[str, str]:
    """Return the files that the demo writes, by name."""
    from instil.demo.instructions import write_instructions

    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_text(encoding="utf-8") for path in write_instructions(Path(folder))}


MADE: dict[str, Callable[[str], list[Row]]] = {
    "HuggingFaceTB/smoltalk": _everyday_conversations,
    "openai/gsm8k": _word_problems,
    "tatsu-lab/alpaca": _alpaca,
    "anon8231489123/ShareGPT_Vicuna_unfiltered": _sharegpt,
    "bigcode/the-stack-smol": _python_files,
}
"""Hub id to the function that makes rows of the same shape for a split."""

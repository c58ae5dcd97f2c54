"""``instil convert``: conversations from one format into another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from instil.recipe import Format

FileOrDash = Annotated[str, Parameter(allow_leading_hyphen=True)]
Target = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "preference", "text"]


def convert(
    data: FileOrDash,
    out: FileOrDash,
    *,
    to: Target = "messages",
    format: Annotated[Format, Parameter(name=["--from", "--format"])] = "auto",
    columns: dict[str, str] | None = None,
    prompt_completion: Literal["chat", "plain"] = "chat",
    on_bad_row: Literal["stop", "skip"] = "stop",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
) -> None:
    """Rewrite conversations in another format, without a loss or not at all.

    Args:
        data: File, folder, glob, `-` for standard input, or Hub id.
        out: File to write: .jsonl, .json, .csv or .tsv, each also .gz or .zst; `-` is standard output.
        to: Format to write.
        format: Format of the data; `auto` reads each row as what it is.
        columns: Role to text with {column} in it, such as --columns.user "{title}" --columns.assistant "{summary}".
        prompt_completion: Whether prompt/completion rows of text are a chat exchange or plain continuation.
        on_bad_row: A row that cannot be read: stop with its place, or leave it out and count it.
        split: Split of a Hub data set.
        subset: Configuration of a Hub data set.
        revision: Branch, tag or commit of a Hub data set.
    """
    from instil.conversation import EMPTY
    from instil.data import read, write
    from instil.errors import DataError
    from instil.units import counted

    _refuse_own_input(data, out)
    bad: list[DataError] = []
    conversations = read(
        data,
        format,
        columns=columns or EMPTY,
        prompt_completion=prompt_completion,
        on_bad_row=on_bad_row,
        split=split,
        subset=subset,
        revision=revision,
        on_error=bad.append,
    )
    count = write(conversations, out, format=to)
    if bad:
        print(f"{counted(len(bad), 'row')} left out; the first: {bad[0]}", file=sys.stderr)
    print(f"{counted(count, 'row')} in {out} as {to}", file=sys.stderr)


def _refuse_own_input(data: str, out: str) -> None:
    """Refuse to write over the file that is read: what a format drops by reading is then gone."""
    from instil.errors import DataError

    if "-" not in (data, out) and Path(data).is_file() and Path(out).exists() and Path(data).samefile(out):
        raise DataError(f"{out}: is the file that is read; expected another one; choose another name")

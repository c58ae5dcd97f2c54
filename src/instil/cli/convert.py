"""``instil convert``: rewrite conversations in another format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from instil.files import home_path
from instil.recipe import Format, Objective, Recipe

if TYPE_CHECKING:
    from instil.conversation import Conversation
    from instil.screen import Bar

FileOrDash = Annotated[str, Parameter(allow_leading_hyphen=True)]


def convert(
    data: FileOrDash,
    out: FileOrDash,
    *,
    to: str = "messages",
    format: Annotated[Format, Parameter(name=["--from", "--format"])] = "auto",
    columns: dict[str, str] | None = None,
    prompt_completion: Literal["chat", "plain"] = "chat",
    on_bad_row: Literal["stop", "skip"] = "stop",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    model: str | None = None,
    template: str | None = None,
    objective: Objective = "sft",
    rejected: Literal["all", "worst"] = "all",
    quiet: bool = False,
) -> None:
    """Rewrite conversations in another format. Stops where the format cannot hold everything.

    Args:
        data: File, folder, glob, `-` for standard input, or Hub id.
        out: File to write: .jsonl, .json, .csv or .tsv, each also .gz or .zst; `-` is standard output.
        to: Format to write: messages, sharegpt, alpaca, prompt_completion, question_answer, preference, kto or text. Or
            the text that a chat template prints for training: chatml-text, llama-3-text, gemma-text … (the names of
            `instil template list`), or template-text for --template or the model's own.
        format: Format of the data; `auto` detects it row by row.
        columns: A text with {column} for each role, such as --columns.user "{title}" --columns.assistant "{summary}".
        prompt_completion: Read prompt/completion rows of text as a chat exchange or as plain continuation.
        on_bad_row: When a row cannot be read: stop and report its place, or leave it out and count it.
        split: Split of a Hub dataset or of a folder; `all` for every file of a folder.
        subset: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        encoding: Encoding of text files, such as gb18030; found by default.
        delimiter: Character between the fields of a CSV file; found by default.
        sheet: Sheet of a workbook; the first by default.
        model: Model whose template and begin and end tokens rendered text has; only its tokenizer is read.
        template: Template of template-text: a .jinja file, Jinja source, a format string or a model folder.
        objective: What the rows are read for: dpo, ipo, simpo and orpo read pairs, kto reads judged answers. They are
            written as preference or kto.
        rejected: Of several rejected answers, make a pair with each, or with the worst.
        quiet: Print warnings only, and no bar.
    """
    from instil.api.writing import TARGETS, write
    from instil.conversation import EMPTY
    from instil.data import read
    from instil.data.formats.registry import target_named
    from instil.data.sources.files import left_in
    from instil.errors import DataError
    from instil.screen import Screen, hide_work, work
    from instil.units import counted

    screen = Screen(stderr=True, quiet=quiet)

    if to not in TARGETS and not to.endswith("-text"):
        target_named(to)  # a wrong name is reported before the data are read
    _refuse_own_input(data, out)
    source = {"path": data, "encoding": encoding, "delimiter": delimiter, "sheet": sheet}
    files = Recipe.from_mapping({"data": {"sources": [source]}}, source="instil convert").data.sources[0]
    bad_rows: list[DataError] = []
    conversations = read(
        data,
        format,
        columns=columns or EMPTY,
        prompt_completion=prompt_completion,
        on_bad_row=on_bad_row,
        split=split,
        subset=subset,
        revision=revision,
        encoding=files.encoding,
        delimiter=files.delimiter,
        sheet=files.sheet,
        on_error=bad_rows.append,
        objective=objective,
        rejected=rejected,
    )
    changes: list[str] = []
    if out == "-":
        hide_work()  # the rows may be on the same terminal
    with work("converting", unit="rows") as bar:
        read_so_far = _counted(conversations, bar)
        count = write(read_so_far, out, format=to, model=model, template=template, on_change=changes.append)
    for change in changes:
        screen.note(f"as {to}, {change}")
    left = "" if data == "-" else left_in(data, split=split, subset=subset)
    if left:
        screen.warn(f"{data}: only split {split} is read; not read: {left}")
    if bad_rows:
        screen.warn(f"{counted(len(bad_rows), 'row')} left out; the first: {bad_rows[0]}")
    screen.done(f"{counted(count, 'row')} in {out} as {to}")
    if out != "-":
        screen.hint(f"next: instil inspect {out} shows them as a model will see them")


def _refuse_own_input(data: str, out: str) -> None:
    """Raise DataError if the output is the input file, because rows that reading leaves out would be lost."""
    from instil.errors import DataError
    from instil.remote.urls import is_url

    if (
        "-" not in (data, out)
        and not is_url(data)
        and home_path(data).is_file()
        and home_path(out).exists()
        and Path(data).samefile(out)
    ):
        raise DataError(f"{out}: is the file to read. Expected another one. Choose another name.")


def _counted(conversations: Iterator[Conversation], bar: Bar) -> Iterator[Conversation]:
    """Yield the conversations and count them on a bar."""
    for conversation in conversations:
        yield conversation
        bar.advance()

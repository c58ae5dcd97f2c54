"""Read rows that a Python program passes: a list, a generator, a `datasets.Dataset`, a table of pandas or polars.

`read` and `write` take the rows as they come. Preparation reads a source several times and in several processes, so
`save_rows` first writes the rows once, as a file that is named after its content.

Why: pandas, polars and datasets are recognised by the module of the object's type, so that none of them is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from instil.conversation import ROWS, Conversation, Message, Place
from instil.conversation.message_parts import kind_of
from instil.data.formats.registry import is_by_id, read_row
from instil.data.formats.row_format import ReadOptions
from instil.data.json_values import json_list_of, json_of
from instil.data.messages import as_conversation
from instil.data.sides import are_pair, reading_for, with_other_side
from instil.data.sources.tables import rows_of_batch, without_nulls
from instil.data.writing import checked_line, write_conversations
from instil.errors import DataError, InstilError, first_line_of
from instil.files import aside_of, new_folders, sweep_dead, sync_path
from instil.recipe import MEMORY_ROWS, Objective, Recipe
from instil.refused_writes import refused_writes
from instil.remote.urls import clean_url

EXPECTED = (
    "Expected a path, or rows: a list of dicts or Conversations, a datasets.Dataset, a generator or a pandas frame."
)
OTHER_STORE = "set data.store, or INSTIL_CACHE, to another folder"
"""What else can be done if the folder of the stores cannot be written to."""
_BATCH_ROWS = 256
_TABLES = ("pandas", "polars", "pyarrow", "datasets")


def is_path(source: object) -> bool:
    """Return whether a source is a path or name rather than rows."""
    return isinstance(source, (str, os.PathLike))


def is_table(source: object) -> bool:
    """Return whether a source is a table of datasets, pandas, polars or Arrow, or a set of them."""
    return bool(_library_of(source))


def is_rows(value: object) -> bool:
    """Return whether a value is rows or a list of sources, rather than a path, settings or anything else.

    Example:
        >>> is_rows([{"text": "x"}]), is_rows({"model": "demo"}), is_rows("rows.jsonl"), is_rows(5)
        (True, False, False, False)
    """
    if is_path(value) or isinstance(value, (bytes, bytearray, memoryview, Message, Recipe)):
        return False
    return is_table(value) or isinstance(value, Conversation) or (not isinstance(value, Mapping) and _has_rows(value))


def check_source(source: object, *, name: str = "data") -> None:
    """Check that a source is a path or something that has rows.

    Raises:
        DataError: If not. A single dict, a message and a set of splits are named as what they are.
    """
    if isinstance(source, (str, os.PathLike)):
        if isinstance(os.fspath(source), str):
            return
    elif _library_of(source) == "datasets" and isinstance(source, Mapping):
        splits = ", ".join(map(repr, source))
        raise DataError(f"{name}: found a DatasetDict with the splits {splits}. Expected one split. Choose one.")
    elif isinstance(source, Mapping):
        remedy = "Pass list(rows.values())" if is_by_id(source) else "Put it in a list, or use Dataset.from_dict"
        raise DataError(f"{name}: found one dict. Expected a list of rows. {remedy}.")
    elif isinstance(source, Recipe):
        raise DataError(
            f"{name}: found a Recipe. Expected data. Pass its data.sources, or the recipe as the first argument."
        )
    elif not isinstance(source, (bytes, bytearray, memoryview, Conversation, Message)) and _has_rows(source):
        return
    raise DataError(f"{name}: found {kind_of(source)}. {EXPECTED} Pass one of them.")


def sources_in(data: Any, *, name: str = "data") -> list[Any]:
    """Return the sources in data: paths, or rows. A list that holds a path or a table is a list of sources.

    Raises:
        DataError: If one is neither.

    Example:
        >>> sources_in(["a.jsonl", "b.jsonl"]), sources_in([{"text": "x"}])
        (['a.jsonl', 'b.jsonl'], [[{'text': 'x'}]])
    """
    is_list = isinstance(data, (list, tuple)) and any(is_path(part) or is_table(part) for part in data)
    parts = list(data) if is_list else [data]
    for part in parts:
        check_source(part, name=name)
    return parts


def name_of_sources(data: Any) -> str:
    """Return what data is called: its paths, and "rows" for rows from memory.

    Example:
        >>> name_of_sources(["a.jsonl", "b.jsonl"]), name_of_sources([{"text": "x"}])
        ('a.jsonl, b.jsonl', 'rows')
    """
    return ", ".join(clean_url(os.fspath(part)) if is_path(part) else ROWS for part in sources_in(data))


def _has_rows(source: object) -> bool:
    return not isinstance(source, type) and (isinstance(source, Iterable) or hasattr(source, "to_batches"))


def rows_of(source: Any, *, may_be_empty: bool = False) -> Iterator[tuple[Place, Any]]:
    """Yield each row with its place: a dict, a list of messages, or a `Conversation`.

    Args:
        source: The rows.
        may_be_empty: Whether no row is allowed.

    Raises:
        DataError: If there is no row, one of them is something else, or the source itself raises an error.
    """
    check_source(source)
    number = 0
    rows = _values_of(source)
    while True:
        place = Place(ROWS, number + 1)
        try:
            row = next(rows)
        except StopIteration:
            break
        except InstilError:
            raise
        except Exception as error:  # the program's own generator may raise anything
            raise DataError(
                f"{place}: the source of the rows raised {type(error).__name__}: {first_line_of(error)}. "
                "Expected a row. Fix the code that makes it."
            ) from error
        number += 1
        if isinstance(row, Message) or (number == 1 and _is_message(row)):
            raise DataError(f"{place}: found one message. Expected a conversation. Pass a list of lists of messages.")
        if not isinstance(row, (Mapping, list, tuple, Conversation)):
            raise DataError(f"{place}: found {kind_of(row)}. Expected a dict, a list of messages or a Conversation.")
        yield place, row
    if not number and not may_be_empty:
        raise DataError(f"{ROWS}: holds no row. Expected at least one. A generator can be read only once.")


def _is_message(row: Any) -> bool:
    return isinstance(row, Mapping) and row.keys() >= {"role", "content"} and "messages" not in row


def _values_of(source: Any) -> Iterator[Any]:
    """Yield the rows of any source; in tables a null is a value that is missing, as in a Parquet file."""
    library = _library_of(source)
    if library == "datasets":
        # Another format than Python's would yield tensors.
        yield from map(without_nulls, source.with_format(None))
    elif library == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns"):
        yield from _pandas_rows(source)
    elif library == "polars" and hasattr(source, "iter_rows"):
        yield from map(without_nulls, source.iter_rows(named=True))
    elif library == "pyarrow" and hasattr(source, "to_batches"):
        for batch in source.to_batches(max_chunksize=_BATCH_ROWS):
            yield from rows_of_batch(batch)
    else:
        yield from source


def _library_of(source: object) -> str:
    """Return the library that a table comes from, or an empty string."""
    modules = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    return next((library for library in _TABLES if library in modules), "")


def _pandas_rows(frame: Any) -> Iterator[dict[str, Any]]:
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{ROWS}: the frame has two columns {twice!r}. Expected unique names. Rename one.")
    for start in range(0, len(frame), _BATCH_ROWS):
        part = frame.iloc[start : start + _BATCH_ROWS].astype(object)
        yield from map(without_nulls, part.where(part.notna(), None).to_dict("records"))


def json_row(row: Any, place: Place) -> Any:
    """Return a row as JSON values, as reading it from a file of JSON lines would give it.

    Raises:
        DataError: If JSON cannot hold a value. The message names the row and the column.
    """
    return json.loads(line_of(row, place))


def line_of(row: Any, place: Place) -> str:
    """Return a row as a line of JSON.

    Raises:
        DataError: If JSON cannot hold a value. The message names the row and the column.
    """
    if isinstance(row, Conversation):
        return checked_line(row, place)
    if isinstance(row, Mapping):
        return json_of(row, place=place)
    if any(isinstance(message, Message) for message in row):
        return checked_line(as_conversation(row, place=place), place)
    return json_list_of(list(row), place=place)


def conversations_of(source: Any, objective: Objective = "sft") -> Iterator[Conversation]:
    """Yield the conversations of rows in any format that `read` recognises; a `Conversation` stays as it is.

    Args:
        source: The rows.
        objective: What the rows are read for.

    Raises:
        DataError: As `rows_of`, or if a row cannot be read.
    """
    options = ReadOptions(reading=reading_for(objective), remedies="convert")
    for place, row in rows_of(source, may_be_empty=True):
        if isinstance(row, Conversation):
            yield row if row.place else replace(row, place=place)
        else:
            yield from read_row(json_row(row, place), place, format_name="auto", options=options)[1]


def save_rows(source: Any, folder: Path) -> str:
    """Write rows to a file of JSON lines named after its content, and return the path that a recipe names it by.

    Args:
        source: The rows.
        folder: Folder of the prepared stores.

    Raises:
        DataError: As `rows_of` and `line_of`, or if the folder cannot be written to. Nothing is left then.
    """
    digest = hashlib.blake2b(digest_size=16)
    with (
        refused_writes(folder, raises=DataError, found="cannot hold the rows", otherwise=OTHER_STORE),
        new_folders(folder),
    ):
        sweep_dead(folder / "rows.jsonl")
        aside = aside_of(folder / "rows.jsonl")
        try:
            with aside.open("wb") as file:
                for line in _lines_of(source):
                    digest.update(line)
                    file.write(line)
            sync_path(aside)
            os.replace(aside, _file_of(digest.hexdigest(), folder))
        finally:
            aside.unlink(missing_ok=True)
    return MEMORY_ROWS + digest.hexdigest()


def _lines_of(source: Any) -> Iterator[bytes]:
    """Yield the lines of a file of saved rows. A row's line has the row's number, as its place has it later."""
    for place, row, rejected in with_other_side(rows_of(source), are_pair):
        assert place is not None
        if rejected is None:
            yield line_of(row, place).encode() + b"\n"
        else:
            # The empty line is the other side's, so that later rows keep their numbers.
            yield checked_line(row, place, rejected=rejected).encode() + b"\n\n"


def is_saved_rows(path: str) -> bool:
    """Return whether the path of a source names rows that `save_rows` wrote.

    Example:
        >>> is_saved_rows("rows:0123456789abcdef0123456789abcdef"), is_saved_rows("rows.jsonl")
        (True, False)
    """
    return path.startswith(MEMORY_ROWS)


def find_saved_rows(path: str, folder: Path) -> Path:
    """Return the file of saved rows.

    Raises:
        DataError: If it is not there.
    """
    file = _file_of(path.removeprefix(MEMORY_ROWS), folder)
    if not file.is_file():
        raise DataError(
            f"{path}: these rows came from a Python program and are not in {folder}. Expected the rows. "
            "Pass them again: instil.train(recipe, data=rows)."
        )
    return file


def _file_of(digest: str, folder: Path) -> Path:
    # A digest from a recipe is a file name, and never a path to another folder.
    return folder / f"rows-{Path(digest).name}.jsonl"


def write(rows: Any, path: str | Path, *, format: str = "messages", objective: Objective = "sft") -> int:
    """Write conversations or rows to a file in any format. The file appears complete, or not at all.

    Args:
        rows: What `read` takes except paths: `Conversation`s, dicts in any format, lists of messages, a table.
        path: A .jsonl, .json, .csv or .tsv file, each also as .gz or .zst. ``-`` writes lines to standard output.
        format: Name of the format to write.
        objective: What rows are read for: with ``dpo`` a row of chosen and rejected is a pair.

    Returns:
        The number of rows written.

    Raises:
        FormatError: If the format would lose a part of a conversation. Nothing is written then.
        DataError: If a row cannot be read, the file cannot be written, or has a suffix that is not supported.

    Example:
        >>> write([{"question": "2+2?", "answer": "4"}], "-")
        {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
        1
    """
    check_destination(rows, path)
    return write_conversations(conversations_of(rows, objective), path, format=format)


def check_destination(rows: object, path: object) -> None:
    """Check the two arguments of `write` that are mixed up most.

    Raises:
        DataError: If the rows are a path or no rows, or the file is no path.
    """
    if is_path(rows):
        raise DataError(f"instil.write: found the path {str(rows)!r}. Expected rows. Write instil.read({str(rows)!r}).")
    check_source(rows, name="instil.write")
    if not is_path(path):
        raise DataError(f"instil.write: found {kind_of(path)} as the file. Expected a path. Pass the rows first.")

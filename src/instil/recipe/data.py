"""The settings of the data: where rows come from, and how they become examples."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from instil.conversation.field_checks import template_input_in
from instil.recipe.settings import Number, PathText, Settings, unless_empty

Format = Literal[
    "auto",
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "question_answer",
    "preference",
    "scored",
    "kto",
    "text",
    "pattern",
]
MEMORY_ROWS = "rows:"
"""What the path of a source begins with that is rows from memory; the fingerprint of the rows follows."""
_FILE_KEYS = ("encoding", "delimiter", "sheet")


def _known_encoding(name: str) -> str:
    """Check that Python has a text encoding of that name."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError("input should be an encoding such as utf-8, cp1252, gb18030, big5 or shift_jis") from None
    return name


def delimiter_named(name: str) -> str:
    r"""Return the character that a delimiter names; some have names, because they are hard to type.

    Raises:
        ValueError: If it is not one character.

    Example:
        >>> delimiter_named("tab"), delimiter_named(";")
        ('\t', ';')
    """
    character = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(name.lower(), name)
    if len(character) != 1 or character in '"\n\r':
        raise ValueError("input should be one character, such as ; or tab")
    return character


class Source(Settings):
    """One place that rows come from."""

    path: PathText = Field(
        min_length=1,
        description="File, folder, glob, the address of one (s3://, gs://, az://, hf://, https://), `-` for standard input, or Hub dataset id.",
    )
    format: Format = Field("auto", description="Format of the rows; `auto` detects and reports it.")
    split: str = Field(
        "train",
        min_length=1,
        description="Split of a Hub dataset or of a folder with train and test files; `all`: every file of a folder.",
    )
    subset: str | None = Field(None, description="Configuration of a Hub dataset, or of a folder cloned from the Hub.")
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub dataset.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=(
            'For `format: pattern`: a text with {column} for each role, such as user: "{title}[[ ({year})]]". '
            "Text in [[ ]] is left out where its column is empty."
        ),
    )
    encoding: str | None = Field(
        None,
        description=(
            "Encoding of the text files of this source, such as gb18030 or cp1252. "
            "Empty: a byte order mark, UTF-8, or what the bytes certainly are."
        ),
    )
    delimiter: str | None = Field(
        None, description="Character between the fields of CSV files, such as ';' or 'tab'. Empty: as the header shows."
    )
    sheet: str | None = Field(None, description="Sheet of .xlsx workbooks. Empty: the first one.")
    rows: int | None = Field(
        None, ge=1, description="Use this many rows, drawn at random with the run's seed. Empty: all."
    )
    repeat: int = Field(1, ge=1, description="Use every row this many times in an epoch.")
    weight: Number = Field(
        1.0, ge=0, description="Loss weight of every trained token of this source; 0.5 halves its influence."
    )

    _is_an_encoding = field_validator("encoding")(unless_empty(_known_encoding))
    _is_one_character = field_validator("delimiter")(unless_empty(delimiter_named))

    @model_validator(mode="after")
    def _columns_and_pattern_go_together(self) -> Source:
        if self.columns and self.format not in ("auto", "pattern"):
            raise ValueError(f"columns are read by format pattern, not {self.format}. Leave out one of them")
        if self.format == "pattern" and not self.columns:
            raise ValueError(
                'format pattern needs columns, such as {user: "{title}", assistant: "{summary}"}. Add them'
            )
        return self


class DataSettings(Settings):
    """The data and how it becomes examples."""

    sources: list[Source] = Field(
        default_factory=list,
        description=(
            "Training data: a path, or a list of paths or of mappings with path, format, rows, repeat, weight and"
            " so on."
        ),
    )
    heldout: list[Source] = Field(
        default_factory=list, description="Held-out data to evaluate on. Empty: `heldout_share` of the sources."
    )
    format: Format = Field(
        "auto", description="Format of every source that sets no format of its own; `auto` detects it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "For `format: pattern`, in every source without columns of its own: a text with {column} for each role, "
            'such as user: "{title}".'
        ),
    )
    encoding: str | None = Field(
        None,
        description=(
            "Encoding of the text files of every source without one of its own, such as gb18030 or cp1252. "
            "Empty: a byte order mark, UTF-8, or what the bytes certainly are."
        ),
    )
    delimiter: str | None = Field(
        None, description="Character between the fields of CSV files, such as ';' or 'tab'. Empty: as the header shows."
    )
    sheet: str | None = Field(None, description="Sheet of .xlsx workbooks. Empty: the first one.")
    heldout_share: Number = Field(
        0.05,
        ge=0,
        lt=1,
        description=(
            "Share of the rows to hold out where `heldout` is empty. A row's content decides, so the same row is "
            "always held out."
        ),
    )
    heldout_max: int = Field(500, ge=0, description="Largest number of held-out rows.")
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="When a row cannot be used: stop and report its place, or leave it out and count it."
    )
    rejected: Literal["all", "worst"] = Field(
        "all",
        description=(
            "When a row has several rejected answers: a pair with each of them, or one pair with the worst: the lowest "
            "score, or the last of a list without scores."
        ),
    )
    train_on: Literal["assistant", "last", "all"] = Field(
        "assistant",
        description="Which tokens are trained: those of every assistant turn, of the last one only, or all tokens but "
        "the first, also in turns of weight 0.",
    )
    max_tokens: int | None = Field(
        None, ge=8, description="Longest example in tokens. Empty: the model's context length."
    )
    too_long: Literal["drop", "keep_last_turns", "truncate_answer", "split", "refuse"] | None = Field(
        None,
        description=(
            "When an example exceeds max_tokens: leave it out, drop its oldest exchanges, cut the answer (and train no "
            "stop token), split plain text, or stop. Empty: `drop`, but `split` for text without a prompt."
        ),
    )
    history_rewritten: Literal["every_turn", "last_turn", "refuse"] = Field(
        "every_turn",
        description=(
            "When the template changes earlier turns as a conversation grows: train every turn after the prompt that "
            "serving would see, train only the last group of turns that share a prompt, or stop."
        ),
    )
    inline_reasoning: Literal["split", "keep"] = Field(
        "split",
        description=(
            "When an answer contains <think>…</think>: move that text into `reasoning`, or keep it in the answer."
        ),
    )
    typed_control_tokens: Literal["escape", "keep", "refuse"] = Field(
        "escape",
        description=(
            "When text in the data spells a control token: encode it as ordinary text, keep the control token, or stop."
        ),
    )
    rendered_rows: Literal["read", "keep", "refuse"] = Field(
        "read",
        description=(
            "When a row is text that a chat template has rendered already: read it back into messages, and stop where "
            "that is not exact; keep the text as it is, headers included; or stop."
        ),
    )
    dropped_text: Literal["refuse", "accept"] = Field(
        "refuse",
        description=(
            "When the template does not print some text of a conversation: refuse the row, or accept the loss and "
            "count it."
        ),
    )
    template_variables: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Variables for the chat template, such as enable_thinking. Training and serving use the same values."
        ),
    )
    date: str | None = Field(
        None,
        description=(
            "Date that templates print, as YYYY-MM-DD. Empty: the day when the run's data is first prepared; the "
            "run saves it."
        ),
    )
    prompt_completion: Literal["chat", "plain"] = Field(
        "chat",
        description="Train prompt/completion rows of text as one chat exchange, or as plain text without the template.",
    )
    deduplicate: bool = Field(
        False, description="Leave out rows whose content occurred before. Duplicates are counted in any case."
    )
    workers: int = Field(
        1,
        ge=0,
        description=(
            "Processes that prepare the data; 0 means one for each core. The result does not depend on the number."
        ),
    )
    cluster: Literal["none", "ray"] = Field(
        "none",
        description=(
            "Prepare on this machine, or on the Ray cluster that RAY_ADDRESS names. Without that variable, Ray is "
            "started on this machine, with one process for each core if `workers` is 1. Changes no result."
        ),
    )
    store: PathText | None = Field(None, description="Folder for prepared data. Empty: a folder in the user's cache.")

    @field_validator("template_variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = template_input_in(value)
        if name is not None:
            raise ValueError(
                f"expected variables of the template, without {name}; rows bring their own messages and tools"
            )
        return value

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        try:
            return value if value is None else date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError("input should be a day such as 2026-11-25") from None

    _is_an_encoding = field_validator("encoding")(unless_empty(_known_encoding))
    _is_one_character = field_validator("delimiter")(unless_empty(delimiter_named))

    @model_validator(mode="before")
    @classmethod
    def _paths_are_sources(cls, values: Any) -> Any:
        """Make a mapping of every source that is a path, with the format and columns that apply to all sources."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        shared = {key: values[key] for key in ("format", "columns", *_FILE_KEYS) if values.get(key)}
        for key in ("sources", "heldout"):
            sources = values.get(key)
            # One source needs no list around it.
            if isinstance(sources, str | Mapping):
                sources = [sources]
            # Anything else stays as it is: pydantic reports its type with the right key.
            if isinstance(sources, list):
                values[key] = [_with_shared(source, shared) for source in sources]
        return values

    @property
    def holds_out(self) -> bool:
        """Whether any row is held out: from files of their own, or as a share of the sources."""
        return self.heldout_max > 0 and (bool(self.heldout) or self.heldout_share > 0)


def _with_shared(source: Any, shared: Mapping[str, Any]) -> Any:
    """Return a source as a mapping; one that sets its own format or columns takes neither from `shared`."""
    if isinstance(source, str):
        source = {"path": source}
    if not isinstance(source, Mapping):
        return source
    if not {"format", "columns"}.isdisjoint(source):
        shared = {key: value for key, value in shared.items() if key in _FILE_KEYS}
    return {**shared, **source}


def source_name(path: str) -> str:
    """Return the name of a source for people: its path, or that it is rows from memory.

    Example:
        >>> source_name("rows.jsonl"), source_name("rows:5f2c")
        ('rows.jsonl', 'rows from memory')
    """
    return "rows from memory" if path.startswith(MEMORY_ROWS) else path

"""Words advice for the way in that the user took: an option of the command line, or an argument of Python.

Errors are written with options, such as ``--resume``. Outside of the command line, options become arguments when the
error is shown. A whole command, from ``instil`` or ``pip`` on, stays as it is, because a shell runs it.

Why: one place decides it, at the end. Errors travel between processes, so a variable of the environment says which way
was taken; the processes of a command inherit it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

VARIABLE = "INSTIL_COMMAND_LINE"
ARGUMENTS = {"as": "target", "tag": "tags", "task": "tasks", "to": "format", "json-object": "json", "from": "format"}
"""Arguments of Python whose name is not that of the option."""
SWITCHES = {
    "resume", "public", "quiet", "every-checkpoint", "run-code", "refresh", "trust-remote-code", "json-object",
}  # fmt: skip
WORDS = {
    "as", "load", "precision", "to", "adapter", "model", "too-long", "dtype", "search", "best-by", "dropped-text",
    "training.gradient-checkpointing", "on-bad-row", "from", "objective",
}  # fmt: skip
"""Options whose value may be a plain word."""
_NO_VALUES = "or|and|to|with|where|if|does|for|beside|alone|out|allows?"
_COMMAND = re.compile(r"`[^`]*`|\b(?:instil [a-z]+|pip install|vllm|llama-quantize)\b.*?(?=[.:;,](?:\s|$)|`|$)")
_OPTION = re.compile(
    r"(?<![\w-])--(?P<name>[a-z][a-z-]*(?:\.[a-z_-]+)*)"
    rf"(?:[ =](?P<value>'[^']*'|(?!(?:{_NO_VALUES})\b)(?:[^\s'().,;:]|[.:](?=\w))+))?"
)


@contextlib.contextmanager
def on_the_command_line() -> Iterator[None]:
    """Word advice as options while the context is open, in this process and in those that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def worded(text: str) -> str:
    """Return advice as the user's way in has it: as it is on the command line, else with arguments of Python."""
    return text if "--" not in text or VARIABLE in os.environ else as_arguments(text)


def as_arguments(text: str) -> str:
    """Return a text whose options are arguments of Python.

    Example:
        >>> as_arguments("Continue with --resume, or choose another --out.")
        'Continue with resume=True, or choose another out.'
        >>> as_arguments("Add --as gguf, or --training.gradient-checkpointing on.")
        'Add target="gguf", or **{"training.gradient_checkpointing": "on"}.'
    """
    parts, end = [], 0
    for command in _COMMAND.finditer(text):
        parts += [_OPTION.sub(_argument, text[end : command.start()]), command[0]]
        end = command.end()
    replaced = "".join([*parts, _OPTION.sub(_argument, text[end:])])
    return _merged_columns(replaced)


def _argument(match: re.Match[str]) -> str:
    option, value = match["name"], match["value"]
    name = ARGUMENTS.get(option, option.replace("-", "_"))
    if option in SWITCHES:
        return f"{name}=True" + (f" {value}" if value else "")
    if value is not None and value.isalpha() and value.islower() and option not in WORDS:
        return f"{name} {value}"  # the next word of the sentence
    if value is None:
        return name
    bare = value.strip("'")
    shown = bare if re.fullmatch(r"-?\d[\d.e+-]*|[A-Z]+", bare) else f'"{bare}"'
    return f'**{{"{name}": {shown}}}' if "." in name else f"{name}={shown}"


_COLUMNS = re.compile(
    r'\*\*\{"(?P<setting>data\.)?columns\.(\w+)": ("[^"]*")\}(?: \*\*\{"(?:data\.)?columns\.(\w+)": ("[^"]*")\})?'
)


def _merged_columns(text: str) -> str:
    """Return a text whose columns are one argument, as a dict may hold a key once and settings have one dot."""

    def merged(match: re.Match[str]) -> str:
        pairs = [
            f'"{role}": {column}'
            for role, column in zip(match.groups()[1::2], match.groups()[2::2], strict=True)
            if role
        ]
        columns = f"{{{', '.join(pairs)}}}"
        return f'**{{"data.columns": {columns}}}' if match["setting"] else f"columns={columns}"

    return _COLUMNS.sub(merged, text)

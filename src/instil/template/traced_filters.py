"""jinja2's filters that build strings, rewritten so that they keep origins.

Each returns the same text as jinja2's own filter, or transformers' own `tojson`. Filters that only call string methods
or pass values on (``trim``, ``upper``, ``map``, ``default``, ``select`` …) need no rewriting.

Why: ``urlize``, ``urlencode``, ``xmlattr``, ``striptags``, ``wordwrap`` and ``pprint`` are not rewritten. Their text is
correct but has no origins, and no published template uses them on a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from jinja2 import filters as plain
from jinja2.nodes import EvalContext
from jinja2.utils import pass_eval_context
from markupsafe import Markup, soft_str

from instil.template.quoting import with_strings_located
from instil.template.traced_text import as_markup, escaped, joined, percent, runs_of

_WORD_BEGINNINGS = re.compile(r"([-\s({\[<]+)")  # jinja2.filters._word_beginning_split_re


@pass_eval_context
def join(context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Join a sequence as jinja2's ``join`` does."""
    if context.autoescape:
        return plain.sync_do_join(context, value, d, attribute)
    if attribute is not None:
        value = map(plain.make_attrgetter(context.environment, attribute), value)
    separator, pieces = str(d), []
    for number, item in enumerate(value):
        pieces += [separator, str(item)] if number else [str(item)]
    return joined(pieces)


@pass_eval_context
def replace(context: EvalContext, s: str, old: str, new: str, count: int | None = None) -> str:
    """Replace as jinja2's ``replace`` does."""
    if context.autoescape:
        return plain.do_replace(context, s, old, new, count)
    text, old, new = str(s), str(old), str(new)
    times = -1 if count is None else count
    if old and runs_of(new) and not runs_of(text):
        pieces = text.split(old, times)
        return joined([part for piece in pieces for part in (new, piece)][1:])
    return text.replace(old, new, times)


def title(s: str) -> str:
    """Capitalise every word as jinja2's ``title`` does."""
    text = soft_str(s)
    pieces, position = [], 0
    for match in [*_WORD_BEGINNINGS.finditer(text), None]:
        word = text[position : match.start() if match else len(text)]
        if word:
            pieces += [word[0].upper(), word[1:].lower()]
        if match:
            gap = text[match.start() : match.end()]
            pieces += [gap[0].upper(), gap[1:].lower()]
            position = match.end()
    return joined([str(piece) for piece in pieces])


def indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Indent lines as jinja2's ``indent`` does."""
    if isinstance(s, Markup) or not runs_of(s):
        return plain.do_indent(s, width, first, blank)
    indention = width if isinstance(width, str) else " " * width
    lines = (s + "\n").splitlines()
    pieces: list[str] = []
    for number, line in enumerate(lines):
        if number:
            pieces.append("\n")
        if first if number == 0 else blank or line:
            pieces.append(indention)
        pieces.append(line)
    return joined(pieces)


def format_(value: str, *args: Any, **kwargs: Any) -> str:
    """Format with ``%`` as jinja2's ``format`` does."""
    if args and kwargs:
        return plain.do_format(value, *args, **kwargs)
    template: Any = soft_str(value)
    return template % (kwargs or args) if isinstance(template, Markup) else percent(template, kwargs or args)


def forceescape(value: Any) -> Any:
    """Escape as jinja2's ``forceescape`` does, including text that is already markup."""
    return escaped(str(value.__html__() if hasattr(value, "__html__") else value))


def tojson(
    x: Any, ensure_ascii: bool = False, indent: int | str | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Return JSON as transformers' ``tojson`` does (`json.dumps`). An escape has the origin of its character."""
    text = json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    strings: list[str] = []
    _collect_strings(x, strings, sort_keys)
    if not any(runs_of(string) for string in strings):
        return text
    return with_strings_located(text, strings, encode_basestring_ascii if ensure_ascii else encode_basestring)


def _collect_strings(value: Any, into: list[str], sort_keys: bool) -> None:
    """Append every string that `json.dumps` writes for the value, keys included, in the order of writing."""
    if isinstance(value, str):
        into.append(value)
    elif isinstance(value, dict):
        for key, item in sorted(value.items()) if sort_keys else value.items():
            into.append(key if isinstance(key, str) else json.dumps(key))
            _collect_strings(item, into, sort_keys)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect_strings(item, into, sort_keys)


TRACED_FILTERS: Mapping[str, Callable[..., Any]] = {
    "e": escaped,
    "escape": escaped,
    "forceescape": forceescape,
    "format": format_,
    "indent": indent,
    "join": join,
    "replace": replace,
    "safe": as_markup,
    "title": title,
    "tojson": tojson,
}

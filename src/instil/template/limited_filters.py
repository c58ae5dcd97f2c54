"""jinja2's filters that can make far more than they are given, with a check before each.

Why: the check is put around the filter that an environment has, so its text stays what it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sized
from typing import Any

from jinja2 import filters as plain
from jinja2.nodes import EvalContext
from jinja2.utils import pass_eval_context

from instil.template.limits import check_percent, checked_sum, nested_size, replaced_size, size_of, spend, text_of

_MAX_INDENT = 1000


def _size(value: Any) -> int:
    if isinstance(value, str):
        return size_of(value)
    return 8 * len(value) if isinstance(value, Sized) else 0


def _center(value: Any, width: int = 80, *rest: Any) -> int:
    return int(width) + _size(value)


def _format(value: Any, *args: Any) -> int:
    check_percent(str(value), args)
    return 0


def _indent(s: Any, width: int | str = 4, *rest: Any) -> int:
    lines = str.count(s, "\n") + 2 if isinstance(s, str) else 2
    return _size(s) + lines * (len(width) if isinstance(width, str) else int(width))


def _wordwrap(s: Any, width: int = 79, break_long_words: bool = True, wrapstring: str | None = None, *rest: Any) -> int:
    return _size(s) * (1 + len(wrapstring or "\n"))


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> int:
    return replaced_size(text_of(s), str(old), str(new), -1 if count is None else count)


def _tojson(x: Any, ensure_ascii: bool = False, indent: int | str | None = None, *rest: Any) -> int:
    width = len(indent) if isinstance(indent, str) else indent or 0
    if isinstance(x, str):
        return 6 * size_of(x)
    return nested_size(x, indent=width)


def _sum(iterable: Any, attribute: Any = None, start: Any = 0) -> int:
    if not isinstance(start, list | tuple) or not isinstance(iterable, list | tuple):
        return 0
    return 8 * len(iterable) * sum(len(item) for item in iterable if isinstance(item, Sized))


_COSTS: Mapping[str, Callable[..., int]] = {
    "batch": lambda value, linecount, *rest: 8 * int(linecount) + _size(value),
    "center": _center,
    "e": lambda value: 6 * _size(value),
    "escape": lambda value: 6 * _size(value),
    "forceescape": lambda value: 6 * _size(value),
    "format": _format,
    "indent": _indent,
    "list": lambda value: 8 * len(value) if isinstance(value, Sized) else 0,
    "pprint": lambda value: 4 * nested_size(value),
    "replace": _replace,
    "slice": lambda value, slices, *rest: 64 * int(slices),
    "string": lambda value: 0 if isinstance(value, str) else nested_size(value),
    "sum": _sum,
    "tojson": _tojson,
    "truncate": lambda s, *rest: _size(s),
    "urlencode": lambda value: 12 * nested_size(value),
    "urlize": lambda value, *rest: 16 * _size(value),
    "wordwrap": _wordwrap,
    "xmlattr": lambda value, *rest: 6 * nested_size(value),
}


def _limited(function: Callable[..., Any], cost: Callable[..., int], *, names: tuple[str, ...]) -> Callable[..., Any]:
    """Return a filter that accounts for what it makes before it makes it."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        named = {name: value for name, value in kwargs.items() if name in names}
        try:
            size = cost(*args[skipped:], **named)
        except (TypeError, ValueError):
            size = 0  # the filter itself says what is wrong with its arguments
        spend(size)
        return function(*args, **kwargs)

    return call


_NAMES: Mapping[str, tuple[str, ...]] = {
    "batch": ("value", "linecount"),
    "center": ("value", "width"),
    "indent": ("s", "width"),
    "replace": ("s", "old", "new", "count"),
    "slice": ("value", "slices"),
    "sum": ("iterable", "attribute", "start"),
    "tojson": ("x", "ensure_ascii", "indent"),
    "wordwrap": ("s", "width", "break_long_words", "wrapstring"),
}


@pass_eval_context
def join(context: EvalContext, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    """Join a sequence as jinja2's ``join`` does, checked before it is joined."""
    if context.autoescape:
        return plain.sync_do_join(context, value, d, attribute)
    if attribute is not None:
        value = map(plain.make_attrgetter(context.environment, attribute), value)
    items = [text_of(item) for item in value]
    spend(_size(str(d)) * max(len(items) - 1, 0))
    return str(d).join(checked_sum(items))


def limit_filters(filters: MutableMapping[str, Any]) -> None:
    """Put a check before the filters of an environment that can make far more than they are given."""
    for name, cost in _COSTS.items():
        filters[name] = _limited(filters[name], cost, names=_NAMES.get(name, ()))


LIMITED = frozenset(_COSTS)
"""Names of the filters with a check."""

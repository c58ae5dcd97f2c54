"""Limits of one rendering: the text it prints, what it makes on the way, and the time it takes.

Whatever could take memory asks the meter first (`spend`); loops, macros and blocks call `tick`. `bounded_environment`
puts these calls into jinja2. Beyond a limit a rendering ends with `LimitError`.

Why: time is the thread's own CPU time. Serving renders in worker threads, where no alarm rings, and a busy machine
must not fail a template.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from string import Formatter
from typing import Any

from instil.errors import TemplateError
from instil.template.traced_text import TracedStr

MAX_TEXT = 64 * 2**20
"""Characters that one rendering may print."""
MAX_MADE = 8 * MAX_TEXT
"""Characters that one rendering may make on the way; texts outside ASCII count four times."""
MAX_SECONDS = 10.0
_TICK_COST = 64
_TICKS_A_CLOCK = 64
_LARGE = 2**16
_USUAL = frozenset({str, TracedStr})
"""The classes of nearly all texts that a template adds. Their `__len__` is `str`'s own."""
_PIECES_A_CHECK = 512
_MAX_BITS = 100_000
_MAX_PRODUCT = 10**10
_NUMBERS = re.compile(r"\d+")
_PERCENT = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


class LimitError(TemplateError):
    """A rendering went beyond a limit."""


class _Meter:
    __slots__ = ("deadline", "made", "num_ticks")

    def __init__(self, seconds: float) -> None:
        self.made, self.num_ticks = 0, 0
        self.deadline = time.thread_time() + seconds

    def check_time(self) -> None:
        if time.thread_time() > self.deadline:
            raise LimitError(
                f"rendering takes more than {MAX_SECONDS:.0f} seconds. Expected a template that prints its input. "
                "Fix it or choose another template."
            )


class _Local(threading.local):
    meter: _Meter | None = None


_local = _Local()


class Metered:
    """Bounds everything that is rendered inside, in this thread. A class, because a generator costs three times more."""

    __slots__ = ("_outer", "_seconds")

    def __init__(self, seconds: float = MAX_SECONDS) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._outer, _local.meter = _local.meter, _Meter(self._seconds)

    def __exit__(self, *error: object) -> None:
        _local.meter = self._outer


def spend(size: int) -> None:
    """Account for characters that are about to be made.

    Raises:
        LimitError: If they are too many, or the rendering takes too long.
    """
    if size > MAX_TEXT:
        raise _too_large()
    meter = _local.meter
    if meter is None:
        return
    meter.made += size
    if meter.made > MAX_MADE:
        raise _too_large()
    if size > _LARGE:
        meter.check_time()


def tick(weight: int) -> None:
    """Account for one round of a loop, or one call of a macro or block."""
    meter = _local.meter
    if meter is None:
        return
    meter.made += _TICK_COST * weight
    if meter.made > MAX_MADE:
        raise _too_large()
    meter.num_ticks += 1
    if not meter.num_ticks % _TICKS_A_CLOCK:
        meter.check_time()


def _too_large() -> LimitError:
    return LimitError(
        f"rendering makes more than {MAX_TEXT // 2**20} MB. Expected a template that prints its input. Fix it or "
        "choose another template."
    )


def size_of(text: str) -> int:
    """Return what a text counts; its own `__len__` is not asked, because a watched text would record that."""
    length = str.__len__(text)
    return length if length < _LARGE or str.isascii(text) else 4 * length


def checked_pieces(pieces: Iterator[str]) -> list[str]:
    """Return the pieces of a rendering as a list, and check their number and length as they come."""
    out: list[str] = []
    total = 0
    while some := list(islice(pieces, _PIECES_A_CHECK)):
        total += sum(map(str.__len__, some)) + 8 * len(some)
        if total > MAX_TEXT:
            raise _too_large()
        out += some
    return out


def checked_sum(pieces: list[str]) -> list[str]:
    """Check the size of strings that are about to be joined, and return them."""
    total = sum(map(str.__len__, pieces))
    if total > _LARGE:
        spend(sum(map(size_of, pieces)))
    return pieces


def text_of(value: Any) -> str:
    """Return ``str(value)``, checked first if the value is a container, whose text may be far larger."""
    if value.__class__ is str:
        return value
    if isinstance(value, str):
        return value.__str__()  # a traced text returns itself
    if value is None or isinstance(value, int | float):
        return str(value)
    spend(nested_size(value))
    return str(value)


def nested_size(value: Any, *, indent: int = 0) -> int:
    """Return about how many characters a nested value prints.

    Raises:
        LimitError: As soon as they are too many; shared parts count each time they are printed.
    """
    total, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str):
            total += size_of(item) + 2
        elif isinstance(item, dict):
            stack.extend((part, depth + 1) for pair in item.items() for part in pair)
        elif isinstance(item, list | tuple | set | frozenset) or item.__class__.__name__ in _VIEWS:
            stack.extend((part, depth + 1) for part in item)
        elif item.__class__.__name__ == "Namespace":
            stack.append((item._Namespace__attrs, depth + 1))
        total += _TICK_COST + indent * depth
        if total > MAX_TEXT or len(stack) > MAX_TEXT // _TICK_COST:
            raise _too_large()
    return total


_VIEWS = frozenset({"dict_items", "dict_keys", "dict_values"})


def add(left: Any, right: Any) -> Any:
    """Add as ``+`` does."""
    if left.__class__ in _USUAL and right.__class__ in _USUAL:
        if len(left) + len(right) > _LARGE:
            spend(size_of(left) + size_of(right))
    elif isinstance(left, str) and isinstance(right, str):
        if str.__len__(left) + str.__len__(right) > _LARGE:
            spend(size_of(left) + size_of(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        spend(8 * (len(left) + len(right)))
    return left + right


def multiply(left: Any, right: Any) -> Any:
    """Multiply as ``*`` does."""
    for one, times in ((left, right), (right, left)):
        if isinstance(times, int) and times > 0:
            if isinstance(one, str | bytes):
                spend(times * (size_of(one) if isinstance(one, str) else len(one)))
            elif isinstance(one, list | tuple):
                spend(times * 8 * max(len(one), 1))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_BITS:
        raise _too_large()
    return left * right


def power(left: Any, right: Any) -> Any:
    """Raise to a power as ``**`` does."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MAX_BITS:
        raise _too_large()
    return left**right


def check_percent(template: str, values: Any) -> None:
    """Check the widths of a ``%`` format."""
    widths = [width for match in _PERCENT.finditer(str.__str__(template)) for width in match.groups() if width]
    spend(sum(map(_number, (width for width in widths if width != "*"))))
    if "*" in widths:
        spend(
            sum(value for value in values if isinstance(value, int) and value > 0) if isinstance(values, tuple) else 0
        )


def check_format(template: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check the widths of a `str.format` template. A width that is an argument is taken to be the largest of them."""
    total = 0
    for _, _, specification, _ in Formatter().parse(str.__str__(template)):
        if not specification:
            continue
        total += sum(map(_number, _NUMBERS.findall(specification)))
        if "{" in specification:
            values = (*args, *kwargs.values())
            total += sum(_number(digits) for value in values for digits in _digits_of(value))
    if total:
        spend(total)


def _digits_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return _NUMBERS.findall(value) if str.__len__(value) < _LARGE else []
    return [str(value)] if isinstance(value, int) and value > 0 else []


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MAX_TEXT + 1


def replaced_size(text: str, old: str, new: str, count: int = -1) -> int:
    """Return the size of a text after `str.replace`."""
    found = str.count(text, old) if count < 0 else min(count, str.count(text, old))
    return size_of(text) + found * size_of(new)


def _width(self: Any, args: tuple[Any, ...]) -> int:
    return args[0] if args and isinstance(args[0], int) else 0


def _join(self: Any, args: tuple[Any, ...]) -> int:
    items = args[0] if args and isinstance(args[0], list | tuple) else ()
    return sum(size_of(item) for item in items if isinstance(item, str)) + len(self) * len(items)


def _translate(self: Any, args: tuple[Any, ...]) -> int:
    table = args[0] if args and isinstance(args[0], dict) else {}
    return size_of(self) * max((len(new) for new in table.values() if isinstance(new, str)), default=1)


def _replace(self: Any, args: tuple[Any, ...]) -> int:
    if len(args) < 2 or not all(isinstance(arg, str) for arg in args[:2]) or not isinstance(self, str):
        return 0
    return replaced_size(self, args[0], args[1], args[2] if len(args) > 2 and isinstance(args[2], int) else -1)


def _parts(self: Any, args: tuple[Any, ...]) -> int:
    if args and isinstance(args[0], str) and args[0] and isinstance(self, str):
        return 8 * str.count(self, args[0])
    return 4 * len(self)


def _tabs(self: Any, args: tuple[Any, ...]) -> int:
    size = args[0] if args and isinstance(args[0], int) else 8
    return len(self) + (str.count(self, "\t") * size if isinstance(self, str) else 0)


METHODS: dict[str, Callable[[Any, tuple[Any, ...]], int]] = {
    "center": _width,
    "ljust": _width,
    "rjust": _width,
    "zfill": _width,
    "to_bytes": _width,
    "replace": _replace,
    "join": _join,
    "translate": _translate,
    "expandtabs": _tabs,
    "split": _parts,
    "rsplit": _parts,
    "splitlines": _parts,
    "encode": lambda self, args: 4 * len(self),
}
"""What a method of a string, of bytes or of a number may make, by its name."""


def check_method(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check a call of a method before it is made.

    Raises:
        LimitError: If it would make too much, or compare two long texts in too much time.
    """
    owner = getattr(function, "__self__", None)
    if not isinstance(owner, str | bytes | int):
        return
    cost = METHODS.get(function.__name__)
    if cost is not None:
        spend(cost(owner, (*args, *kwargs.values())))
    other = args[0] if args else None
    if isinstance(owner, str) and isinstance(other, str) and str.__len__(owner) * str.__len__(other) > _MAX_PRODUCT:
        raise _too_large()

"""Strings that record what a template asks about them.

A template's output depends on a message's text in two ways: the text is printed, and the template asks questions
about it (``'</think>' in content``). `WatchedStr` records the questions with their answers. Texts with the same
answers are rendered the same way, so one proof serves every conversation of a shape.

Why: any operation that is not one of the few understood makes the log *opaque*, and then nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

from jinja2 import nodes

Question = Literal["contains", "starts", "ends", "equals"]

_FILTERS = frozenset(
    [
        "trim",
        "default",
        "d",
        "string",
        "length",
        "count",
        "list",
        "first",
        "last",
        "join",
        "map",
        "select",
        "selectattr",
        "reject",
        "rejectattr",
        "items",
        "dictsort",
        "tojson",
        "upper",
        "lower",
        "capitalize",
        "title",
        "replace",
        "sort",
        "unique",
        "sum",
        "min",
        "max",
        "indent",
    ]
)
_NAMES_OUT = frozenset({"lipsum"})


@dataclass(frozen=True, slots=True)
class RecordedQuestion:
    """One question about one message's content, with the answer."""

    message: int
    question: Question
    about: Any
    answer: bool

    def has_same_answer(self, content: str) -> bool:
        """Return whether another content gives the same answer."""
        return _ANSWERS[self.question](content, self.about) is self.answer


_ANSWERS: dict[Question, Callable[[str, Any], bool]] = {
    "contains": lambda content, about: about in content,
    "starts": lambda content, about: content.startswith(about),
    "ends": lambda content, about: content.endswith(about),
    "equals": lambda content, about: content == about,
}


@dataclass(slots=True)
class Log:
    """The questions; `opaque` if something was done that is not understood."""

    questions: dict[RecordedQuestion, None] = field(default_factory=dict)
    opaque: bool = False


class WatchedStr(str):
    """A message's content, or (with no message) a text made of one, whose use is recorded.

    Example:
        >>> log = Log()
        >>> "</think>" in WatchedStr("plain", message=1, log=log)
        False
        >>> list(log.questions)
        [RecordedQuestion(message=1, question='contains', about='</think>', answer=False)]
    """

    __slots__ = ("log", "message")
    log: Log
    message: int | None

    def __new__(cls, text: str, *, message: int | None, log: Log) -> WatchedStr:
        """Return a text that records in `log` what is asked about it."""
        watched = str.__new__(cls, text)
        watched.message, watched.log = message, log
        return watched

    def _record(self, question: Question, about: Any, answer: bool) -> bool:
        is_plain = about.__class__ is str or (about.__class__ is tuple and all(text.__class__ is str for text in about))
        if self.message is None or not is_plain:
            self.log.opaque = True
        else:
            self.log.questions[RecordedQuestion(self.message, question, about, answer)] = None
        return answer

    def __contains__(self, key: object) -> bool:
        return self._record("contains", key, str.__contains__(self, key))  # type: ignore[operator]

    def startswith(self, prefix: Any, *span: SupportsIndex | None) -> bool:
        """Return whether it starts with a text, and record that."""
        if span:
            self.log.opaque = True
        return self._record("starts", prefix, str.startswith(self, prefix, *span))

    def endswith(self, suffix: Any, *span: SupportsIndex | None) -> bool:
        """Return whether it ends with a text, and record that."""
        if span:
            self.log.opaque = True
        return self._record("ends", suffix, str.endswith(self, suffix, *span))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        return self._record("equals", other, str.__eq__(self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        self.log.opaque = True
        return str.__hash__(self)

    def __bool__(self) -> bool:
        return str.__len__(self) > 0  # contents are never empty where this is used

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> WatchedStr:
        return WatchedStr(str.__add__(self, other), message=None, log=self.log)

    def __radd__(self, other: str) -> WatchedStr:
        return WatchedStr(str.__add__(other, self), message=None, log=self.log)

    def __getitem__(self, key: Any) -> str:
        part = str.__getitem__(self, key)  # a key that is a text raises for every string: nothing is learned from that
        self.log.opaque = True
        return part

    def __iter__(self) -> Iterator[str]:
        self.log.opaque = True
        yield from str.__iter__(self)

    def strip(self, chars: str | None = None, /) -> str:
        """Strip; an operation that cannot change the text is not recorded."""
        return self._stripped(str.strip(self, chars), chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        """Strip on the left."""
        return self._stripped(str.lstrip(self, chars), chars)

    def rstrip(self, chars: str | None = None, /) -> str:
        """Strip on the right."""
        return self._stripped(str.rstrip(self, chars), chars)

    def _stripped(self, text: str, chars: str | None) -> str:
        if self.message is not None and (chars is None or not chars.strip()):
            return self  # contents have no white space at their ends where this is used
        self.log.opaque = True
        return text


def _trapped(name: str) -> Callable[..., Any]:
    def method(self: WatchedStr, *args: Any, **kwargs: Any) -> Any:
        self.log.opaque = True
        return getattr(str, name)(self, *args, **kwargs)

    return method


_OWN = set(vars(WatchedStr)) | set(dir(object)) - {"__format__", "__lt__", "__le__", "__gt__", "__ge__"}
for _name in (*dir(str), "__rmod__"):
    if _name not in _OWN and callable(getattr(str, _name, None)):
        setattr(WatchedStr, _name, _trapped(_name))


def can_be_watched(tree: nodes.Template) -> bool:
    """Return whether nothing in a template can look at a text without that being recorded.

    Operations that join texts return plain strings, so their results may only be printed. Filters must be among those
    that use a string's own methods.
    """
    # Other filters work on a plain copy of a text, whose use is not recorded.
    if any(node.name not in _FILTERS for node in tree.find_all(nodes.Filter)):
        return False
    if any(node.name in _NAMES_OUT for node in tree.find_all(nodes.Name)):
        return False
    # These collect printed text into a plain string, which the template can then question.
    if next(tree.find_all((nodes.AssignBlock, nodes.CallBlock, nodes.FilterBlock)), None) is not None:
        return False
    # Joined text is a plain string too: it must be printed at once, and nothing else done with it.
    macros = {node.name for node in tree.find_all(nodes.Macro)}
    printed = {id(part) for output in tree.find_all(nodes.Output) for node in output.nodes for part in _printed(node)}
    return all(id(node) in printed for node in tree.find_all(nodes.Expr) if _joins(node, macros))


def _printed(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield an expression and those of its parts that are printed unchanged."""
    yield node
    if isinstance(node, nodes.Concat):
        for part in node.nodes:
            yield from _printed(part)
    elif isinstance(node, nodes.Add):
        yield from _printed(node.left)
        yield from _printed(node.right)
    elif isinstance(node, nodes.CondExpr):
        yield from _printed(node.expr1)
        if node.expr2 is not None:
            yield from _printed(node.expr2)


def _joins(node: nodes.Expr, macros: set[str]) -> bool:
    """Return whether an expression joins texts without using their own methods."""
    if isinstance(node, nodes.Concat) or (isinstance(node, nodes.Filter) and node.name in ("join", "map", "sum")):
        return True
    if isinstance(node, nodes.Mod):
        return isinstance(node.left, nodes.Const) and isinstance(node.left.value, str)
    if not isinstance(node, nodes.Call):
        return False
    called = node.node
    if isinstance(called, nodes.Name):
        return called.name in macros
    return isinstance(called, nodes.Getattr) and (
        isinstance(called.node, nodes.Const) or called.attr in ("join", "format", "replace")
    )

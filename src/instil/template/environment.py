"""The jinja2 environments in which chat templates run: transformers' own, and a second one that keeps origins.

The second takes extensions, filters, globals and options from the installed transformers, whatever its version. It
replaces only what builds strings: concatenation, ``~``, ``%``, `str.format` and the filters of `traced_filters`. Both
are sandboxed and immutable.

Why: the configuration is read from transformers' private `_compile_jinja_template`, because no public function
guarantees the same text. Templates are not compiled with it: the template may be anybody's, and theirs has no limits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from string import Formatter
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any, TypeVar

from jinja2 import Template, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Environment
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from markupsafe import Markup

from instil.template.limited_filters import join, limit_filters
from instil.template.limits import (
    add,
    check_format,
    check_method,
    check_percent,
    checked_sum,
    multiply,
    power,
    text_of,
    tick,
)
from instil.template.quoting import TracedDict
from instil.template.traced_filters import TRACED_FILTERS
from instil.template.traced_text import TracedStr, joined, percent

_Kind = TypeVar("_Kind", bound=ImmutableSandboxedEnvironment)
_MAPPINGS = frozenset({dict, TracedDict})
_MAPPING_ATTRIBUTES = frozenset(dir(TracedDict))
_LOOP_VALUES = frozenset(name for name, value in vars(LoopContext).items() if isinstance(value, property)) | {
    "index0",
    "depth0",
}
_STRING_METHODS = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}


class _Limited(CodeGenerator):
    """jinja2's compiler, which also writes a `tick` into every loop, macro and block."""

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        for body_owner in node.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)):
            statements = sum(1 for _ in body_owner.find_all((nodes.Output, nodes.Assign, nodes.ExprStmt)))
            body: Any = body_owner.body  # type: ignore[attr-defined]  # each of these kinds has one
            body.insert(0, nodes.ExprStmt(nodes.Const(_Tick(1 + statements)), lineno=body_owner.lineno))
        super().visit_Template(node, frame)

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        if isinstance(node.node, nodes.Const) and isinstance(node.node.value, _Tick):
            self.writeline(f"tick({node.node.value.weight})", node)
        else:
            super().visit_ExprStmt(node, frame)

    def visit_Add(self, node: nodes.Add, frame: Frame) -> None:  # type: ignore[override]
        """Write a call of `add`: shorter than jinja2's way to intercept an operator."""
        self.write("add(")
        self.visit(node.left, frame)
        self.write(", ")
        self.visit(node.right, frame)
        self.write(")")


class _Tick:
    """Stands in a syntax tree for a call of `tick`."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


class _LimitedTemplate(Template):
    """A compiled template whose texts are checked before they are made."""

    joined: Callable[[list[str]], str] = staticmethod("".join)

    @classmethod
    def from_code(
        cls, environment: Environment, code: CodeType, globals: Any, uptodate: Any = None
    ) -> _LimitedTemplate:
        namespace: dict[str, Any] = {"environment": environment, "__file__": code.co_filename}
        exec(code, namespace)  # as jinja2 does it; the code comes from jinja2's compiler
        escaping = namespace["markup_join"]
        namespace["str"] = text_of
        namespace["tick"], namespace["add"] = tick, add
        namespace["str_join"] = lambda items: cls.joined(checked_sum([text_of(item) for item in items]))
        namespace["markup_join"] = lambda items: escaping(checked_sum([text_of(item) for item in items]) and items)
        # Every rendering copies the globals. jinja2's chain of mappings is slow to copy, a dict is not.
        template = cls._from_namespace(environment, namespace, dict(globals))
        template._uptodate = uptodate
        return template  # type: ignore[return-value]


class _TracedTemplate(_LimitedTemplate):
    """A compiled template whose ``~`` operator keeps origins."""

    joined = staticmethod(joined)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """jinja2's immutable sandbox, in which a rendering has limits (`limits`)."""

    template_class = _LimitedTemplate
    code_generator_class = _Limited
    intercepted_binops = frozenset({"%", "*", "**"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.binop_table |= {"%": _modulo, "*": multiply, "**": power}

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join the pieces of a macro or block."""
        return "".join(checked_sum(list(pieces)))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function as jinja2's sandbox does, checked first."""
        owner = __obj.__self__ if isinstance(__obj, MethodType | BuiltinMethodType) else None
        if owner is not None:
            if isinstance(owner, str) and __obj.__name__ == "join" and args and not isinstance(args[0], str | list):
                args = (list(args[0]), *args[1:])
            check_method(__obj, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute as jinja2's sandbox does. Values of a loop, such as ``loop.first``, take a shorter path."""
        if obj.__class__ is LoopContext and attribute in _LOOP_VALUES:
            return getattr(obj, attribute)  # the sandbox allows all of them
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        """Wrap `str.format` as jinja2's sandbox does, with its widths checked."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> Any:
            check_format(value.__self__, args, kwargs)
            return wrapped(*args, **kwargs)

        return formatted


class TracedEnvironment(LimitedEnvironment):
    """jinja2's immutable sandbox, in which string operations keep origins."""

    template_class = _TracedTemplate

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join the pieces of a macro or block with their origins."""
        return joined(checked_sum(list(pieces)))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.binop_table["%"] = _traced_modulo

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute as jinja2's sandbox does.

        Keys of mappings take a shorter path, and string methods of plain strings keep the origins of their arguments.
        """
        kind = obj.__class__
        if kind in _MAPPINGS:
            if attribute not in _MAPPING_ATTRIBUTES:
                try:
                    return obj[attribute]
                except KeyError:
                    return self.undefined(obj=obj, name=attribute)
        elif kind is TracedStr and attribute in _STRING_METHODS:
            return getattr(obj, attribute)  # the sandbox allows all of them
        elif kind is str and attribute in ("join", "replace"):  # their arguments may be traced
            obj = TracedStr(obj)
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        """Wrap `str.format` so that it is sandboxed, as in jinja2, and keeps origins."""
        if (
            isinstance(value, MethodType | BuiltinMethodType)
            and value.__name__ == "format"
            and isinstance(value.__self__, str)
            and not isinstance(value.__self__, Markup)
        ):
            template, formatter = value.__self__, _TracedFormatter(self)

            def formatted(*args: Any, **kwargs: Any) -> str:
                check_format(template, args, kwargs)
                return formatter.traced(template, args, kwargs)

            return formatted
        return super().wrap_str_format(value)


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        check_percent(left, right)
    return operator.mod(left, right)


def _traced_modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str) and not isinstance(left, Markup):
        check_percent(left, right)
        return percent(left, right)
    return _modulo(left, right)


class _TracedFormatter(SandboxedFormatter):
    """The sandbox's `str.format`. Plain ``{}`` and ``{name}`` keep the origins of what they print."""

    def traced(self, template: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Format a string; keep origins if no field has a conversion or a format specification."""
        text = self.vformat(template, args, kwargs)
        pieces: list[str] = []
        automatic = 0
        for literal, field, specification, conversion in Formatter.parse(self, str.__str__(template)):
            pieces.append(literal)
            if field is None:
                continue
            if specification or conversion not in (None, "s"):
                return text
            if field == "" or field[0] in ".[":
                field, automatic = f"{automatic}{field}", automatic + 1
            value, _ = self.get_field(field, args, kwargs)
            pieces.append(str(value))
        made = joined(pieces)
        return made if made == text else text


@lru_cache(maxsize=1)
def traced_environment() -> TracedEnvironment:
    """Return the environment that keeps origins, configured like the installed transformers' own."""
    return _configured(TracedEnvironment, TRACED_FILTERS)


@lru_cache(maxsize=1)
def _plain_environment() -> LimitedEnvironment:
    return _configured(LimitedEnvironment, {"join": join})


def _configured(kind: type[_Kind], filters: Mapping[str, Any]) -> _Kind:
    """Return an environment like the installed transformers' own, with other filters and with limits."""
    from transformers.utils.chat_template_utils import _compile_jinja_template  # Why: keeps `import instil` fast

    theirs = _compile_jinja_template("").environment
    ours = kind(
        block_start_string=theirs.block_start_string,
        trim_blocks=theirs.trim_blocks,
        lstrip_blocks=theirs.lstrip_blocks,
        newline_sequence=theirs.newline_sequence,
        keep_trailing_newline=theirs.keep_trailing_newline,
        undefined=theirs.undefined,
        autoescape=theirs.autoescape,
        extensions=[type(extension) for extension in theirs.extensions.values()],
    )
    ours.filters.update(theirs.filters)
    ours.tests.update(theirs.tests)
    ours.globals.update(theirs.globals)
    ours.filters.update(filters)
    limit_filters(ours.filters)
    return ours


@lru_cache(maxsize=256)
def traced_template(source: str) -> Template:
    """Compile a template with origins; compiled templates are cached.

    Raises:
        jinja2.TemplateSyntaxError: If the source does not compile.
    """
    return traced_environment().from_string(source)


@lru_cache(maxsize=256)
def plain_template(source: str) -> Template:
    """Compile a template as the installed transformers does, with limits; compiled templates are cached.

    Raises:
        jinja2.TemplateSyntaxError: If the source does not compile.
    """
    return _plain_environment().from_string(source)

"""The jinja2 environments in which chat templates run: transformers' own, and a second one that keeps origins.

The second takes extensions, filters, globals and options from the installed transformers, whatever its version. It
replaces only what builds strings: concatenation, ``~``, ``%``, `str.format` and the filters of `traced_filters`. Both
are sandboxed and immutable.

Why: transformers' private `_compile_jinja_template` is called, because no public function guarantees the same text.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any

from jinja2 import Template
from jinja2.environment import Environment
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from markupsafe import Markup

from instil.template.quoting import TracedDict
from instil.template.traced_filters import TRACED_FILTERS
from instil.template.traced_text import TracedStr, joined, percent

_MAPPINGS = frozenset({dict, TracedDict})
_MAPPING_ATTRIBUTES = frozenset(dir(TracedDict))
_STRING_METHODS = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}


class _TracedTemplate(Template):
    """A compiled template whose ``~`` operator keeps origins."""

    @classmethod
    def from_code(cls, environment: Environment, code: CodeType, globals: Any, uptodate: Any = None) -> _TracedTemplate:
        namespace: dict[str, Any] = {"environment": environment, "__file__": code.co_filename}
        exec(code, namespace)  # as jinja2 does it; the code comes from jinja2's compiler
        namespace["str_join"] = lambda items: joined([str(item) for item in items])
        template = cls._from_namespace(environment, namespace, globals)
        template._uptodate = uptodate
        return template  # type: ignore[return-value]


class TracedEnvironment(ImmutableSandboxedEnvironment):
    """jinja2's immutable sandbox, in which string operations keep origins."""

    template_class = _TracedTemplate
    intercepted_binops = frozenset({"%"})
    concat = staticmethod(joined)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.binop_table["%"] = _modulo

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
            return lambda *args, **kwargs: formatter.traced(template, args, kwargs)
        return super().wrap_str_format(value)


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str) and not isinstance(left, Markup):
        return percent(left, right)
    return operator.mod(left, right)


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
    theirs = plain_template("").environment
    ours = TracedEnvironment(
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
    ours.filters.update(TRACED_FILTERS)
    return ours


@lru_cache(maxsize=256)
def traced_template(source: str) -> Template:
    """Compile a template with origins; compiled templates are cached.

    Raises:
        jinja2.TemplateSyntaxError: If the source does not compile.
    """
    return traced_environment().from_string(source)


def plain_template(source: str) -> Template:
    """Compile a template with the installed transformers, which has its own cache."""
    from transformers.utils.chat_template_utils import _compile_jinja_template  # Why: keeps `import instil` fast

    return _compile_jinja_template(source)  # type: ignore[no-any-return]

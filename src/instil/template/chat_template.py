"""Render a conversation with a chat template, as transformers does, and record the origin of every character.

The template is never edited. The text equals `apply_chat_template(tokenize=False)` of the installed transformers, byte
for byte. The input is a list of `Message`; the encoder reads the output, a `Rendering`.

Why: the input that a template expects (`Shape`) is found by rendering probes with it. Finding it in the source would
require understanding all of Jinja.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from instil.conversation import EMPTY, Message
from instil.errors import TemplateError
from instil.template.environment import plain_template, traced_environment, traced_template
from instil.template.limits import MAX_SECONDS, LimitError, Metered, checked_pieces
from instil.template.message_dicts import Shape, plain_value, to_template_messages, traced_value
from instil.template.template_inputs import find_shape, prints_reasoning
from instil.template.traced_text import joined, runs_of
from instil.template.tracing import NOT_A_MESSAGE, Rendering

_PROBE_SECONDS = 3.0
_MAX_WORDS = 2000


class ChatTemplate:
    """A compiled chat template.

    Example:
        >>> source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
        >>> rendering = ChatTemplate(source).render([Message("user", " Hi ")])
        >>> rendering.text, rendering.segments[1]
        ('<user>Hi', (6, 8, Origin(message=0, field='content', start=1)))
    """

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str] = EMPTY,
        date: str | None = None,
        name: str | None = None,
        tool_use: str | None = None,
    ) -> None:
        """Compile a template.

        Args:
            source: Jinja source.
            special_tokens: ``bos_token``, ``eos_token`` …, as in a tokenizer's `special_tokens_map`.
            date: The day that ``strftime_now`` prints, YYYY-MM-DD. None: today, as in transformers.
            name: Name of the template in error messages.
            tool_use: Source of the template that renders conversations with tools, where a tokenizer has one.

        Raises:
            TemplateError: If the source does not compile (the message names the line), or the date is not a date.
        """
        self.source = source
        self.name = name or "chat template"
        self.special_tokens = dict(special_tokens)
        self.date = date
        self.with_tools = (
            None
            if tool_use is None
            else ChatTemplate(tool_use, special_tokens=special_tokens, date=date, name=f"{self.name} for tools")
        )
        self._broken: str | None = None
        self._clock = {} if date is None else {"strftime_now": _pinned(date, self.name)}
        try:
            self._traced = traced_template(source)
            self._plain = plain_template(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{self.name}, line {error.lineno}: {error.message}. Expected a Jinja chat template that transformers "
                "compiles. Fix that line or choose another template."
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Return the constructor's arguments, because a compiled template cannot be pickled."""
        return {
            "source": self.source,
            "special_tokens": self.special_tokens,
            "date": self.date,
            "name": self.name,
            "tool_use": None if self.with_tools is None else self.with_tools.source,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the sources."""
        return hashlib.sha256("\0".join(self.sources).encode()).hexdigest()

    @property
    def sources(self) -> tuple[str, ...]:
        """The source, and the source of the template for tools if there is one."""
        return (self.source,) if self.with_tools is None else (self.source, self.with_tools.source)

    @property
    def as_published(self) -> str | dict[str, str]:
        """The value of a tokenizer's `chat_template`: the source, or the sources by name."""
        return self.source if self.with_tools is None else {"default": self.source, "tool_use": self.with_tools.source}

    def dated(self, date: str | None) -> ChatTemplate:
        """Return the same template with another day."""
        return self if date == self.date else ChatTemplate(**{**self.__getstate__(), "date": date})

    def given(self, tools: Sequence[Mapping[str, Any]]) -> ChatTemplate:
        """Return the template that renders conversations with these tools: this one, or the one for tools."""
        return self.with_tools if tools and self.with_tools is not None else self

    @cached_property
    def names_read(self) -> frozenset[str]:
        """Every attribute, key and variable name in the template."""
        return _names_read(self.source)

    @property
    def prints_day(self) -> bool:
        """Whether the template prints the current day."""
        return any("strftime_now" in _names_read(source) for source in self.sources)

    @cached_property
    def shape(self) -> Shape:
        """The input that the template expects: text or parts, mappings or JSON text, and the names of reasoning."""
        return find_shape(self._probe, self.names_read)

    @cached_property
    def shows_reasoning(self) -> bool:
        """Whether the template prints reasoning. If not, the model never sees the reasoning in the data."""
        return prints_reasoning(self._probe, self.shape)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = EMPTY,
        add_generation_prompt: bool = False,
    ) -> Rendering:
        """Render with origins.

        Args:
            messages: The turns.
            tools: Tool definitions. An empty list means no tools.
            variables: Template variables. They override special tokens of the same name.
            add_generation_prompt: Whether to append the text after which the model starts its turn.

        Raises:
            TemplateError: If the template refuses the conversation (with transformers' own reason) or fails at a line.
        """
        chosen = self.given(tools)
        if chosen is not self:
            return chosen.render(
                messages, tools=tools, variables=variables, add_generation_prompt=add_generation_prompt
            )
        inputs = self._inputs(messages, tools, self.shape)
        inputs |= {
            name: value if isinstance(value, str) else traced_value(value, NOT_A_MESSAGE, f"variables.{name}")
            for name, value in variables.items()
        }
        try:
            return self._render(inputs, add_generation_prompt)
        except LimitError:
            raise
        except TemplateError:
            # Render plain strings, so that the error is the one that transformers raises. If they render without an
            # error, their text is correct, and only the origins are missing.
            return Rendering(
                self.render_text(
                    messages, tools=tools, variables=variables, add_generation_prompt=add_generation_prompt
                )
            )

    def render_text(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = EMPTY,
        add_generation_prompt: bool = False,
    ) -> str:
        """Render without origins, with transformers' own compiled template. The text equals `render`'s; this is faster.

        Raises:
            TemplateError: As `render`.
        """
        chosen = self.given(tools)
        if chosen is not self:
            return chosen.render_text(
                messages, tools=tools, variables=variables, add_generation_prompt=add_generation_prompt
            )
        inputs = self._inputs(messages, tools, self.shape, traced=False)
        inputs |= {name: plain_value(value) for name, value in variables.items()}
        return "".join(self._run(self._plain, inputs, add_generation_prompt))

    def _probe(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], shape: Shape) -> Rendering:
        try:
            return self._render(self._inputs(messages, tools, shape), False, seconds=_PROBE_SECONDS)
        except LimitError as error:
            self._broken = str(error)  # a template that fails on a short probe is not tried again
            raise

    def _render(
        self, inputs: dict[str, Any], add_generation_prompt: bool, *, seconds: float = MAX_SECONDS
    ) -> Rendering:
        text = joined(self._run(self._traced, inputs, add_generation_prompt, seconds=seconds))
        return Rendering(str.__str__(text), runs_of(text))

    def _inputs(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], shape: Shape, *, traced: bool = True
    ) -> dict[str, Any]:
        value = traced_value if traced else plain_value
        return {
            "messages": to_template_messages(messages, shape=shape, traced=traced),
            "tools": [value(tool, NOT_A_MESSAGE, f"tools.{number}") for number, tool in enumerate(tools)] or None,
        }

    def _run(
        self,
        template: jinja2.Template,
        inputs: dict[str, Any],
        add_generation_prompt: bool,
        *,
        seconds: float = MAX_SECONDS,
    ) -> list[str]:
        context = {
            "documents": None,
            **self.special_tokens,
            **self._clock,
            **inputs,
            "add_generation_prompt": add_generation_prompt,
        }
        if self._broken is not None:
            raise LimitError(self._broken)
        try:
            with Metered(seconds):
                return checked_pieces(template.root_render_func(template.new_context(context)))
        except Exception as error:
            raise self._explained(error, template) from error

    def _explained(self, error: Exception, template: jinja2.Template) -> TemplateError:
        line, traceback = None, error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_globals.get("__jinja_template__") is template:
                line = template.get_corresponding_lineno(traceback.tb_lineno)
            traceback = traceback.tb_next
        place = self.name if line is None else f"{self.name}, line {line}"
        words = str(error)[:_MAX_WORDS] or type(error).__name__
        return (LimitError if isinstance(error, LimitError) else TemplateError)(f"{place}: {words}")


def _pinned(date: str, name: str) -> Callable[[str], str]:
    try:
        day = datetime.datetime.combine(datetime.date.fromisoformat(date), datetime.time())
    except ValueError:
        raise TemplateError(f"{name}: date is {date!r}. Expected YYYY-MM-DD. Fix data.date.") from None
    return day.strftime


@lru_cache(maxsize=256)
def _names_read(source: str) -> frozenset[str]:
    tree = traced_environment().parse(source)
    names = {node.attr for node in tree.find_all(nodes.Getattr)}
    names |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    names |= {node.name for node in tree.find_all(nodes.Name)}
    return frozenset(names)

r"""Read a rendered text back into messages, for a chat template that is known.

The template is asked what it prints between turns: a few probe conversations are rendered, and whatever stands between
two of their contents is a *separator*. A text is cut at separators, and the messages found are rendered again. Only if
that gives the text, they are returned.

Why: a token at the beginning (BOS) and white space or an end-of-text token at the end may differ. Other tools add or
leave them out when they train.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, TypeAlias

from instil.conversation import EMPTY, Message, Role
from instil.errors import TemplateError
from instil.template.chat_template import ChatTemplate
from instil.template.library import NAMED_TEMPLATES, template_source
from instil.template.rendered_headers import ENDINGS, MORE_TEMPLATES, HeaderSyntax, core_pattern

_PROBES: tuple[tuple[Role, ...], ...] = (
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant") * 3,
    ("system", *(("user", "assistant") * 3)),
    ("user", "user", "assistant", "assistant", "user"),
    ("user", "assistant", "system", "user", "assistant"),
    ("user",),
    ("system", "user"),
    ("user", "assistant", "tool"),
    ("user", "assistant", "tool", "assistant"),
    ("user", "assistant", "tool", "tool", "assistant"),
    ("user", "assistant", "tool", "user"),
)
_MOST_READINGS = 16
"""Readings of one text that are tried."""
_END, _PROMPT = "end", "prompt"
_DATE = re.compile(r"Today Date: (\d{1,2} \w{3,9} \d{4})\n")
_TOOLS = re.compile(
    r"</?tools?>|</?tool_(?:call|response)s?>|\[(?:AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|<\|python_tag\|>|<｜tool▁|<\|tool_calls?\b|<minimax:tool_call>"
)
_BOS = {"llama-3": "<|begin_of_text|>", "llama-3.1": "<|begin_of_text|>", "gemma": "<bos>", "zephyr": "", "phi-3": ""}
Messages: TypeAlias = tuple[Message, ...]
Parse: TypeAlias = Callable[[Messages], Iterable[Messages]]
_MORE_SPECIAL = {
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "command-r": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "granite": ("", "<|end_of_text|>"),
}


@dataclass(frozen=True, slots=True)
class Turns:
    """The messages of a rendered text.

    Attributes:
        messages: The messages.
        spans: Where each content stands in the text, half-open.
        variables: Template variables that the text shows, such as its date.
        template: Name of the template that prints it.
        ends_with_prompt: Whether the text ends with the generation prompt: the answer is still to be written.
        tools: Tool definitions that the text shows.
    """

    messages: Messages
    spans: tuple[tuple[int, int], ...]
    variables: dict[str, Any] = field(default_factory=dict)
    template: str = ""
    ends_with_prompt: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()


def _as_they_are(messages: Messages) -> Iterator[Messages]:
    yield messages


@dataclass(frozen=True)
class ReadableTemplate:
    """A template whose texts can be read back.

    Attributes:
        template: The template.
        name: Its name for people.
        is_own: Whether it is the template that the messages are encoded with.
        tools: Tool definitions that it prints.
        date: The date that it prints; its own if empty.
    """

    template: ChatTemplate
    name: str
    is_own: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    date: str = ""

    @property
    def ending(self) -> str:
        """The tokenizer's end-of-text token, as the template prints it."""
        return str(self.template.special_tokens.get("eos_token") or "")

    @cached_property
    def separators(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """What the template prints between two roles, longest first; from "" at the beginning, to `_END`, `_PROMPT`."""
        found: dict[str, dict[str, dict[str, None]]] = {}
        for roles in _PROBES:
            for before, after, text in self._between(roles):
                # A system text that only white space divides from the question is a part of the question.
                if text.strip() or after in (_END, _PROMPT) or before == "":
                    found.setdefault(before, {}).setdefault(after, {})[text] = None
        for afters in found.values():  # where a result is printed as a question is, it is one
            for text in afters.get("user", {}):
                afters.get("tool", {}).pop(text, None)
        if "system" not in found:
            found.get("", {}).pop("system", None)
        return {
            before: {after: tuple(sorted(texts, key=len, reverse=True)) for after, texts in afters.items()}
            for before, afters in found.items()
        }

    def _between(self, roles: Sequence[Role]) -> Iterator[tuple[str, str, str]]:
        contents = [f"Qz{number}x" for number in range(len(roles))]
        messages = [Message(role, content) for role, content in zip(roles, contents, strict=True)]
        for last, prompted in ((_END, False), (_PROMPT, True)):
            if prompted and roles[-1] not in ("user", "tool"):
                continue
            try:
                text = self.template.render_text(messages, tools=self.tools, add_generation_prompt=prompted)
            except TemplateError:
                return
            if self.date:
                text = _DATE.sub(f"Today Date: {self.date}\n", text)
            places = [text.find(content) for content in contents]
            if -1 in places or places != sorted(places) or any(text.count(one) > 1 for one in contents):
                return
            at, before = 0, ""
            for place, content, role in zip(places, contents, roles, strict=True):
                yield before, role, text[at:place]
                at, before = place + len(content), role
            yield before, last, text[at:]

    def read(
        self, text: str, *, header: re.Pattern[str], tail_may_lack: bool = False, parse: Parse = _as_they_are
    ) -> Turns | None:
        """Return the messages of a rendered text; None if rendering them does not give the text.

        Args:
            text: The text.
            header: Matches a header; no message may hold one.
            tail_may_lack: Whether what the template prints behind the last answer may be missing.
            parse: Yields what messages of text may be, such as messages with tool calls.
        """
        variables: dict[str, Any] = {}
        date = _DATE.search(text)
        reader = self
        if date is not None and "date_string" in self.template.names_read:
            variables["date_string"] = date[1]
            reader = replace(self, date=date[1])
        for turns in islice(reader._readings(text, tail_may_lack), _MOST_READINGS):
            if any(header.search(str(message.content)) for message in turns.messages):
                continue
            for messages in parse(turns.messages):
                parsed = replace(turns, messages=messages, variables=variables, template=self.name, tools=self.tools)
                if self._gives(parsed, text, tail_may_lack):
                    return parsed
        return None

    def _readings(self, text: str, tail_may_lack: bool) -> Iterator[Turns]:
        for after, separators in self.separators.get("", {}).items():
            for separator in separators:
                for start in dict.fromkeys((separator, self._without_beginning(separator))):
                    for lead in dict.fromkeys((0, len(text) - len(self._without_beginning(text)))):
                        if after not in (_END, _PROMPT) and text.startswith(start, lead):
                            yield from self._continue(text, lead + len(start), after, (), tail_may_lack)

    def _continue(
        self, text: str, start: int, role: str, before: tuple[tuple[str, int, int], ...], tail_may_lack: bool
    ) -> Iterator[Turns]:
        """Yield the readings of a text from the content of a turn on."""
        nexts = [
            (at, -len(separator), after)
            for after, separators in self.separators.get(role, {}).items()
            if after not in (_END, _PROMPT)
            for separator in separators
            if (at := text.find(separator, start)) >= 0
        ]
        for at, length, after in sorted(nexts):
            if at > min(nexts)[0]:
                break
            yield from self._continue(text, at - length, after, (*before, (role, start, at)), tail_may_lack)
        for end in self._ends(text, start, role, tail_may_lack):
            turns = (*before, (role, start, end[0]))
            messages = tuple(Message(role, text[first:last]) for role, first, last in turns)  # type: ignore[arg-type]
            yield Turns(messages, tuple(turn[1:] for turn in turns), ends_with_prompt=end[1])

    def _ends(self, text: str, start: int, role: str, tail_may_lack: bool) -> Iterator[tuple[int, bool]]:
        """Yield where the last content may end, and whether the generation prompt follows it."""
        for separator in self.separators.get(role, {}).get(_PROMPT, ()):
            for prompt in dict.fromkeys((separator, separator.rstrip())):
                if prompt and text.endswith(prompt) and len(text) - len(prompt) >= start:
                    yield len(text) - len(prompt), True
        bare = self._without_ending(text)
        for separator in self.separators.get(role, {}).get(_END, ()):
            tail = self._without_ending(separator)
            if bare.endswith(tail) and len(bare) - len(tail) >= start:
                yield len(bare) - len(tail), False
        if tail_may_lack:
            yield len(text), False

    def _gives(self, turns: Turns, text: str, tail_may_lack: bool) -> bool:
        """Return whether rendering the messages gives the text."""
        if not all(message.content or message.tool_calls for message in turns.messages):
            return False
        try:
            rendered = self.template.render_text(
                turns.messages,
                tools=turns.tools,
                variables=turns.variables or EMPTY,
                add_generation_prompt=turns.ends_with_prompt,
            )
        except TemplateError:
            return False
        if self._core(rendered) == self._core(text):
            return True
        bare, rendered = self._without_beginning(text), self._without_beginning(rendered)
        tails = self.separators[turns.messages[-1].role].get(_END, ())
        return tail_may_lack and any(rendered == bare + tail for tail in tails)

    def _core(self, text: str) -> str:
        """Return a text without what other tools add to it or leave out."""
        return self._without_ending(self._without_beginning(text))

    def _without_beginning(self, text: str) -> str:
        bos = str(self.template.special_tokens.get("bos_token") or "")
        return text.removeprefix(bos) if bos and text.startswith(bos) else core_pattern((self.ending,))[0].sub("", text)

    def _without_ending(self, text: str) -> str:
        return core_pattern((self.ending,))[1].sub("", text, count=1)

    def read_answer(self, text: str, *, header: re.Pattern[str], parse: Parse = _as_they_are) -> Message | None:
        r"""Return the answer in a text that begins with the assistant's header; None if it is not one.

        Example:
            >>> chatml = ReadableTemplate(ChatTemplate(template_source("chatml")), "chatml")
            >>> chatml.read_answer("<|im_start|>assistant\nHi<|im_end|>\n", header=re.compile(r"<\|im_start\|>")).content
            'Hi'
        """
        prompt = "".join(self.separators.get("user", {}).get(_PROMPT, ())[-1:])
        ending = "".join(self.separators.get("user", {}).get(_END, ())[-1:])
        own_header = prompt.removeprefix(ending)
        for lead in dict.fromkeys((own_header, own_header.lstrip())):
            if lead.strip() and text.startswith(lead):
                full = f"{self._before_answer()}{prompt.removesuffix(lead)}{text}"
                turns = self.read(full, header=header, tail_may_lack=True, parse=parse)
                if turns is not None and len(turns.messages) == 2:
                    return turns.messages[1]
        return None

    def _before_answer(self) -> str:
        """Return a question as the template prints it, without what follows it."""
        return self.separators[""]["user"][-1] + "Qz0x"


def holds_tools(turns: Turns) -> bool:
    """Return whether a content shows tools, calls or results: as text they would not be what the model reads."""
    return any(shows_tools(str(message.content)) for message in turns.messages)


def shows_tools(text: str) -> bool:
    """Return whether a text shows tools, calls or results in a published syntax."""
    return _TOOLS.search(text) is not None


@lru_cache(maxsize=128)
def readable(name: str, ending: str) -> ReadableTemplate:
    """Return a template of the library, or of `MORE_TEMPLATES`, with an end-of-text token."""
    if name in MORE_TEMPLATES:
        bos, eos = _MORE_SPECIAL.get(name, ("", ""))
        source = MORE_TEMPLATES[name]
    else:
        bos, eos = _BOS.get(name, "<s>"), NAMED_TEMPLATES[name].stop_token or ending
        source = template_source(name)
    special = {"bos_token": bos, "eos_token": eos}
    return ReadableTemplate(ChatTemplate(source, special_tokens=special, name=name), name)


def templates_for(text: str, syntax: HeaderSyntax, *, own_ending: str) -> Iterator[ReadableTemplate]:
    """Yield the templates that may have printed a text in a syntax.

    Args:
        text: The text.
        syntax: Its header syntax.
        own_ending: End-of-text token of the tokenizer, which other tools append.
    """
    endings = [ending for ending in dict.fromkeys((own_ending, *ENDINGS)) if ending and ending in text]
    for name in syntax.templates:
        for ending in endings[:2] or ["</s>"]:
            yield readable(name, ending)

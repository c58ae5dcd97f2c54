"""Rows that are already rendered: text of several turns with the headers of a chat template, where messages belong.

Trained as text, their headers would be ordinary characters and the user's turns would be trained too. So they are read
back into messages where that is exact, and refused otherwise (`data.rendered_rows`).

Why: only rows are read back, never what a person types into a chat or sends to a server. There, a typed header must
stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from instil.conversation import Conversation, Message, PartWeight
from instil.encoding.turns.rendered_calls import call_reader, definitions_in
from instil.errors import EncodingError
from instil.template.chat_template import ChatTemplate
from instil.template.read_back import ReadableTemplate, Turns, holds_tools, shows_tools, templates_for
from instil.template.rendered_headers import HeaderSyntax, first_syntax, holds_header, may_be_rendered, syntax_of

_LONGEST_LEAD = 2000
"""Characters of a system text that may stand before the first header of a rendered text."""
_SHORTEST_HEADER = 4
_ALPACA_INPUT = "\n\n### Input:\n"


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """A row that is already rendered.

    Attributes:
        conversation: Its messages; None if it cannot be read back exactly.
        how: Which template or syntax, for people.
        problem: The error's message, if it cannot be read back.
    """

    conversation: Conversation | None
    how: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Text:
    """The rendered text of a row.

    Attributes:
        text: The text.
        syntax: Its header syntax.
        boundary: Where the completion begins in it, behind the prompt; None if the row is one text.
    """

    text: str
    syntax: HeaderSyntax
    boundary: int | None = None


@dataclass(frozen=True)
class RenderedRows:
    """Recognises rows that are already rendered, for one chat template.

    Attributes:
        template: The chat template that conversations are encoded with.
        added: The tokenizer's added tokens.
    """

    template: ChatTemplate
    added: frozenset[str]

    def find(self, conversation: Conversation) -> RenderedRow | None:
        """Return a row's messages, or why they cannot be read; None if it is not rendered."""
        if not self._shows_headers(conversation):
            return None
        found = self._text_of(conversation)
        if found is None:
            return self._inside(conversation)
        if isinstance(found, RenderedRow):
            return found
        unclear_tools = False
        for template in self._templates(found):
            turns = self._read(template, found)
            if turns is None or self._is_half(turns, found):
                continue
            if holds_tools(turns) and not self._may_show_tools(template, turns):
                unclear_tools = True  # another template may print them as this text does
            elif conversation.tools and conversation.tools != turns.tools:
                return self._unread(conversation, found.syntax, "there are tools beside it")
            else:
                return RenderedRow(_conversation_of(conversation, turns, found, template), template.name)
        if not found.syntax.is_certain or self._is_about_headers(conversation, found):
            return None
        why = "it shows tool calls or tools as text" if unclear_tools else "no known template prints exactly this text"
        return self._unread(conversation, found.syntax, why)

    def _read(self, template: ReadableTemplate, found: _Text) -> Turns | None:
        """Read the text under a template: with tools and calls where it shows some and that is exact."""
        header, tail_may_lack = found.syntax.header, found.boundary is not None
        tools = definitions_in(found.text)
        if tools or shows_tools(found.text):
            reader = replace(template, tools=tools)
            turns = reader.read(found.text, header=header, tail_may_lack=tail_may_lack, parse=call_reader(tools))
            if turns is not None and not _splits_a_call(turns, found.boundary):
                return turns
        return template.read(found.text, header=header, tail_may_lack=tail_may_lack)

    def _shows_headers(self, conversation: Conversation) -> bool:
        """Return whether a text may hold a header; it is quick, because every conversation is asked."""
        markers = self._markers
        for message in conversation.messages:
            text = message.content
            if text.__class__ is str and (may_be_rendered(text) or (markers and self._may_be_rendered(text))):
                return True
        return False

    def _is_about_headers(self, conversation: Conversation, found: _Text) -> bool:
        """Return whether a plain text, such as code, only mentions headers: the first stands far from its beginning."""
        first = found.syntax.header.search(found.text)
        return conversation.plain and found.boundary is None and first is not None and first.start() > _LONGEST_LEAD

    def _may_be_rendered(self, text: str) -> bool:
        return may_be_rendered(text) or any(marker in text for marker in self._markers)

    @cached_property
    def own(self) -> ReadableTemplate:
        """The chat template, as one whose texts can be read back."""
        return ReadableTemplate(self.template, "the model's own template", is_own=True)

    @cached_property
    def _markers(self) -> tuple[str, ...]:
        """What shows the template's headers, if the table of published syntaxes does not know them.

        Added tokens in the header, or, without any, what stands between a question and its answer.
        """
        prompts = self.own.separators.get("user", {}).get("prompt", ())
        if any(map(holds_header, prompts)):
            return ()
        return self._header_tokens or tuple(
            text.strip()
            for text in self.own.separators.get("user", {}).get("assistant", ())
            if len(text.strip()) >= _SHORTEST_HEADER
        )

    @cached_property
    def _header_tokens(self) -> tuple[str, ...]:
        """Added tokens in the template's headers; BOS and EOS may stand in any text."""
        prompts = self.own.separators.get("user", {}).get("prompt", ())
        ends = set(self.template.special_tokens.values())
        return tuple(
            token
            for token in self.added
            if len(token) > 2 and token not in ends and any(token in prompt for prompt in prompts)
        )

    @cached_property
    def _own_syntax(self) -> HeaderSyntax:
        pattern = "|".join(map(re.escape, self._markers)) or r"(?!)"
        return HeaderSyntax(self.own.name, re.compile(pattern), is_certain=bool(self._header_tokens))

    def _syntax(self, text: str, *, at_start: bool) -> HeaderSyntax | None:
        syntax = syntax_of(text)
        own = self._own_syntax
        if syntax is None and len(own.header.findall(text)) > own.is_certain:
            syntax = own
        if syntax is None or not at_start or (syntax is self._own_syntax and syntax.header.match(text.lstrip())):
            return syntax
        return syntax if first_syntax(text) is not None else None

    def _text_of(self, conversation: Conversation) -> _Text | RenderedRow | None:
        """Return the rendered text of a row that consists of nothing else."""
        texts = [(message.role, message.content) for message in conversation.messages]
        if not all(isinstance(text, str) for _, text in texts):
            return None
        if len(texts) == 1:
            text = str(texts[0][1])
            # Text may show a header anywhere. A message that is not plain text may be about headers.
            syntax = self._syntax(text, at_start=not conversation.plain)
            return None if syntax is None else _Text(text, syntax)
        if tuple(role for role, _ in texts) != ("user", "assistant"):
            return None
        prompt, completion = str(texts[0][1]), str(texts[1][1])
        syntax = self._syntax(prompt + completion, at_start=True)
        if syntax is not None:
            return _Text(prompt + completion, syntax, len(prompt))
        answer_syntax = first_syntax(completion)
        return None if answer_syntax is None else self._rendered_answer(conversation, completion, answer_syntax)

    def _rendered_answer(self, conversation: Conversation, completion: str, syntax: HeaderSyntax) -> RenderedRow | None:
        """Read the completion of a raw prompt: the assistant's header, the answer, and its end."""
        for template in self._templates(_Text(completion, syntax)):
            answer = template.read_answer(completion, header=syntax.header, parse=call_reader(()))
            if answer is not None:
                question, old = conversation.messages
                messages = (question, replace(old, content=answer.content, tool_calls=answer.tool_calls))
                return RenderedRow(replace(conversation, messages=messages, plain=False), template.name)
        return self._unread(conversation, syntax, "only its answer is") if syntax_of(completion) is not None else None

    def _inside(self, conversation: Conversation) -> RenderedRow | None:
        """Return the refusal of a conversation of which one message holds several rendered turns."""
        for number, message in enumerate(conversation.messages, start=1):
            if isinstance(message.content, str) and self._may_be_rendered(message.content):
                syntax = self._syntax(message.content, at_start=True)
                if syntax is not None and syntax.is_certain:
                    return self._unread(conversation, syntax, f"message {number} holds turns beside other messages")
        return None

    def _templates(self, found: _Text) -> Iterator[ReadableTemplate]:
        yield self.own
        yield from templates_for(found.text, found.syntax, own_ending=self.own.ending)

    def _is_half(self, turns: Turns, found: _Text) -> bool:
        """Return whether a row of prompt and completion has nothing in the completion that is trained."""
        if turns.ends_with_prompt:
            return found.boundary is not None
        last = turns.spans[-1]
        return turns.messages[-1].role != "assistant" or (found.boundary or 0) >= last[1]

    def _may_show_tools(self, template: ReadableTemplate, turns: Turns) -> bool:
        """Return whether tools that are shown as text give the ids that they should: only in answers, and own ones."""
        return template.is_own and not holds_tools(
            replace(turns, messages=tuple(message for message in turns.messages if message.role != "assistant"))
        )

    def _unread(self, conversation: Conversation, syntax: HeaderSyntax, why: str) -> RenderedRow:
        place = "conversation" if conversation.place is None else str(conversation.place)
        return RenderedRow(
            None,
            syntax.name,
            f"{place}: is already rendered (headers of {syntax.name}) and cannot be read back into messages exactly: "
            f"{why}. Expected messages. Write the messages instead, or set data.rendered_rows: keep to train the text "
            "as it is, headers included.",
        )


def shows_headers(conversation: Conversation) -> bool:
    """Return whether a text of a conversation may hold a header of a published template; False is certain."""
    return any(isinstance(one.content, str) and may_be_rendered(one.content) for one in conversation.messages)


def read_rendered(
    rows: RenderedRows, conversation: Conversation, *, policy: str
) -> tuple[Conversation, RenderedRow | None]:
    """Return a conversation whose rendered text is read back, and how it was rendered.

    Args:
        rows: Recognises the rows.
        conversation: The conversation as it was read.
        policy: `data.rendered_rows`.

    Raises:
        EncodingError: If the text is rendered and cannot be read back exactly, or the policy refuses it.
    """
    if policy == "keep":
        return conversation, None
    row = rows.find(conversation)
    if row is None:
        return conversation, None
    if policy == "refuse":
        place = "conversation" if conversation.place is None else str(conversation.place)
        raise EncodingError(
            f"{place}: is already rendered ({row.how}). Expected messages, because data.rendered_rows is refuse. "
            "Write the messages instead (instil inspect --fix does), or set data.rendered_rows: read."
        )
    if row.conversation is None:
        raise EncodingError(row.problem)
    return row.conversation, row


def _conversation_of(
    conversation: Conversation, turns: Turns, found: _Text, template: ReadableTemplate
) -> Conversation:
    messages = [
        _weighted(message, span, found.boundary) for message, span in zip(turns.messages, turns.spans, strict=True)
    ]
    if template.name == "alpaca":
        messages = [replace(message, content=_without_input_header(str(message.content))) for message in messages]
    variables: Mapping[str, object] = {**conversation.variables, **turns.variables}
    return replace(
        conversation,
        messages=tuple(messages),
        tools=turns.tools,
        variables=variables or conversation.variables,
        plain=False,
    )


def _splits_a_call(turns: Turns, boundary: int | None) -> bool:
    """Return whether the completion begins inside a message with calls, whose parts have no weight of their own."""
    return boundary is not None and any(
        message.tool_calls and start < boundary < end
        for message, (start, end) in zip(turns.messages, turns.spans, strict=True)
    )


def _weighted(message: Message, span: tuple[int, int], boundary: int | None) -> Message:
    """Return a message with weight 0 for what stands in the prompt of a row of prompt and completion."""
    start, end = span
    if boundary is None or message.role != "assistant" or boundary <= start:
        return message
    if boundary >= end:
        return replace(message, weight=0.0)
    return replace(message, part_weights=(PartWeight("content", 0, boundary - start, 0.0),))


def _without_input_header(text: str) -> str:
    """Return Alpaca's instruction and input as one question, as rows of Alpaca are read."""
    instruction, _, task_input = text.partition(_ALPACA_INPUT)
    return f"{instruction}\n{task_input}" if task_input.strip() else instruction if _ALPACA_INPUT in text else text

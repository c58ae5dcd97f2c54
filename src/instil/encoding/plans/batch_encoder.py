"""Many conversations at once: planned shapes are filled in, everything is tokenized in batches, the rest goes the slow way.

Order is kept, and the examples are those that `encode` gives. Questionable on purpose: a plan that is asked about a conversation it does not hold for is simply not
used for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from instil.conversation import Conversation, Example
from instil.data.messages import as_conversation
from instil.encoding.encoder import Draft, draft_of, encode_conversation, encode_draft
from instil.encoding.plans.long_plan import MIN_EXCHANGES, LongPlan, cannot_count, exchanges_of, make_long_plan
from instil.encoding.plans.shape_plan import (
    ExamplePlan,
    Fixed,
    Shape,
    ShapePlan,
    fill,
    make_plan,
    make_plan_with_texts,
    plan_allowed,
    shape_of,
)
from instil.errors import InstilError
from instil.template.environment import traced_environment

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

_BATCH = 512
_PLANS = 4096


@dataclass(slots=True)
class _Filled:
    """A conversation, drafted if it has no plan (or why it is refused), its plan, and the texts of the plan's pieces: whole, and before a boundary."""

    given: Conversation | Draft | InstilError
    plan: ShapePlan | None = None
    texts: Sequence[tuple[str, str]] = ()


class BatchEncoder:
    """Encodes conversations in batches and keeps the plans of the shapes that it has met."""

    def __init__(self, chat: ChatTokenizer) -> None:
        """Start without any plan."""
        self._chat = chat
        self._plans: dict[Shape, ShapePlan | LongPlan | None] = {}
        tree = traced_environment().parse(chat.template.source)
        self._allowed = plan_allowed(chat, tree)
        self._may_be_long = self._allowed and cannot_count(tree)

    def encode(self, conversations: Iterable[Any]) -> Iterator[list[Example] | InstilError]:
        """Encode in order; one that is refused gives its error in its place."""
        given = iter(conversations)
        while batch := list(islice(given, _BATCH)):
            yield from self._encode_batch(batch)

    def _encode_batch(self, batch: Sequence[Any]) -> Iterator[list[Example] | InstilError]:
        filled: list[_Filled] = []
        first: dict[str, None] = {}
        later: dict[str, None] = {}
        for each in batch:
            try:
                conversation = as_conversation(each)
            except InstilError as error:
                filled.append(_Filled(error))
                continue
            plan, contents = self._plan(conversation)
            texts: list[tuple[str, str]] = []
            for piece in () if plan is None else plan.pieces:
                text = fill(piece.parts, contents)
                head = fill(piece.boundary, contents) if piece.boundary else ""
                texts.append((text, head))
                wanted = first if piece.first else later
                wanted[text] = None
                if head:
                    wanted[head] = None
            filled.append(_Filled(conversation if plan else self._draft(conversation), plan, texts))
        tokens = self._chat.tokens
        tokens.forget()
        tokens.remember([text for text in first if not tokens.knows(text, first=True)], first=True)
        tokens.remember([text for text in later if not tokens.knows(text, first=False)], first=False)
        if len(filled) > 1:
            tokens.encode_many(text for item in filled if isinstance(item.given, Draft) for text in item.given.texts())
        for item in filled:
            yield self._encoded(item)

    def _draft(self, conversation: Conversation) -> Draft | InstilError:
        try:
            return draft_of(self._chat, conversation)
        except InstilError as error:
            return error

    def _encoded(self, item: _Filled) -> list[Example] | InstilError:
        given, train_on = item.given, self._chat.settings.train_on
        if isinstance(given, InstilError):
            return given
        try:
            if isinstance(given, Draft):
                return encode_draft(self._chat, given, train_on=train_on)
            examples = None if item.plan is None else self._examples(given, item.plan, item.texts)
            return encode_conversation(self._chat, given, train_on=train_on) if examples is None else examples
        except InstilError as error:
            return error

    def _plan(self, conversation: Conversation) -> tuple[ShapePlan | None, list[str]]:
        if not self._allowed:
            return None, []
        shape = shape_of(conversation)
        if shape is None or (
            conversation.variables and conversation.variables != self._chat.settings.template_variables
        ):
            return None, []
        if shape not in self._plans:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[shape] = self._made(shape)
        found = self._plans[shape]
        contents: list[str] = [message.content for message in conversation.messages]  # type: ignore[misc]
        plan = found.plan if isinstance(found, LongPlan) else found
        if plan is None or not plan.holds_for(contents):
            return None, []
        if isinstance(found, LongPlan) and not found.comes_out(self._chat, conversation, contents):
            return None, []
        has_token = self._chat.tokens.has_added_token
        if any(map(has_token, [contents[message] for message in plan.messages])):
            return None, []
        if self._chat.takes_reasoning and any("</" in content for content in contents):
            return None, []
        return plan, contents

    def _made(self, shape: Shape) -> ShapePlan | LongPlan | None:
        if exchanges_of(shape) < MIN_EXCHANGES:
            return make_plan(self._chat, shape)
        if not self._may_be_long:
            return None
        return make_long_plan(shape, short=lambda short: make_plan_with_texts(self._chat, short))

    def _examples(
        self, conversation: Conversation, plan: ShapePlan, texts: Sequence[tuple[str, str]]
    ) -> list[Example] | None:
        """Put the examples together; None where a token would straddle a boundary, or the example is too long."""
        examples, given = [], iter(texts)
        for example in plan.examples:
            made = self._example(conversation, example, given)
            if made is None:
                return None
            examples.append(made)
        report = self._chat.report
        report.conversations += 1
        report.examples += len(examples)
        report.example_tokens += sum([len(example.token_ids) for example in examples])
        report.rendering_tokens += len(examples[-1].token_ids)
        report.history_rewritten += len(examples) > 1
        report.trailing_turns += conversation.messages[-1].role != "assistant"
        return examples

    def _example(
        self, conversation: Conversation, plan: ExamplePlan, texts: Iterator[tuple[str, str]]
    ) -> Example | None:
        tokens, limit = self._chat.tokens, self._chat.settings.max_tokens
        ids: list[int] = []
        weights: list[float] = []
        for item in plan.layout:
            if item.__class__ is Fixed:
                made, before = item.ids, 0
            else:
                text, text_head = next(texts)
                made = tokens.piece(text, first=item.first)  # type: ignore[union-attr]
                head = tokens.piece(text_head, first=item.first) if text_head else item.head  # type: ignore[union-attr]
                before = len(head) if head else 0
                if head and (len(made) == before or made[:before] != head):
                    return None
            ids += made
            if item.trained:
                weights += [0.0] * before + [1.0] * (len(made) - before)
            else:
                weights += [0.0] * len(made)
        if weights[0] or (limit is not None and len(ids) > limit):
            return None
        return Example(ids, weights, place=conversation.place, turns=plan.turns)

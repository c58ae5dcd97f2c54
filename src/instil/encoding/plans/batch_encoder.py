"""Many conversations at once: planned shapes are filled in and tokenized in batches, the rest is encoded one by one.

Order is kept, and tests compare the examples with those of `encoder`. If no plan fits a conversation, it is encoded
without one. A plan only says which tokens the model must generate; their weights come from `encoding.weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from instil.conversation import Conversation, Example
from instil.data.messages import as_conversation
from instil.encoding.context import EncodingContext
from instil.encoding.encoder import Draft, encode_conversation, encode_draft, make_draft
from instil.encoding.plans.long_plan import MIN_EXCHANGES, LongPlan, cannot_count, make_long_plan, num_exchanges
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
from instil.encoding.settings import EncodingReport
from instil.encoding.turns.inline_reasoning import begins_with_tag
from instil.encoding.weights import TrainedSpan, example_weights
from instil.errors import InstilError
from instil.template.environment import traced_environment

_BATCH = 512
_MAX_PLANS = 4096
FilledTexts = Sequence[tuple[str, str]]
"""The texts of a plan's pieces: the whole piece, and its part before the boundary of prompt and completion."""


@dataclass(slots=True)
class _Work:
    """One conversation of a batch: with its plan and the filled texts, or drafted, or refused with an error."""

    conversation: Conversation | Draft | InstilError
    plan: ShapePlan | None = None
    texts: FilledTexts = ()


class BatchEncoder:
    """Encodes conversations in batches, and keeps the plans of the shapes that it has met."""

    def __init__(self, context: EncodingContext, report: EncodingReport) -> None:
        """Start without any plan.

        Args:
            context: Tokenizer, template and settings.
            report: Counts, which are added to.
        """
        self._context, self._report = context, report
        self._plans: dict[Shape, ShapePlan | LongPlan | None] = {}
        tree = traced_environment().parse(context.template.source)
        self._allowed = plan_allowed(context, tree)
        self._may_be_long = self._allowed and cannot_count(tree)

    def encode(self, conversations: Iterable[Any]) -> Iterator[list[Example] | InstilError]:
        """Encode conversations in order; a refused one yields its error instead."""
        remaining = iter(conversations)
        while batch := list(islice(remaining, _BATCH)):
            yield from self._encode_batch(batch)

    def _encode_batch(self, batch: Sequence[Any]) -> Iterator[list[Example] | InstilError]:
        work: list[_Work] = []
        first: dict[str, None] = {}
        later: dict[str, None] = {}
        for conversation_like in batch:
            try:
                conversation, _ = self._context.read_rendered(as_conversation(conversation_like))
            except InstilError as error:
                work.append(_Work(error))
                continue
            plan, contents = self._plan_for(conversation)
            if plan is None:
                work.append(_Work(self._draft(conversation)))
                continue
            texts: list[tuple[str, str]] = []
            for piece in plan.pieces:
                text = fill(piece.parts, contents)
                head = fill(piece.boundary, contents) if piece.boundary else ""
                texts.append((text, head))
                to_remember = first if piece.first else later
                to_remember[text] = None
                if head:
                    to_remember[head] = None
            work.append(_Work(conversation, plan, texts))
        # Tokenize all pieces of the batch in one call each way: this is where the time goes.
        pieces = self._context.pieces
        pieces.forget()
        pieces.remember([text for text in first if not pieces.knows(text, first=True)], first=True)
        pieces.remember([text for text in later if not pieces.knows(text, first=False)], first=False)
        if len(work) > 1:
            drafts = [item.conversation for item in work if isinstance(item.conversation, Draft)]
            pieces.remember_texts(text for draft in drafts for text in draft.texts())
        for item in work:
            yield self._encode_one(item)

    def _draft(self, conversation: Conversation) -> Draft | InstilError:
        try:
            return make_draft(self._context, conversation, train_on=self._context.settings.train_on)
        except InstilError as error:
            return error

    def _encode_one(self, work: _Work) -> list[Example] | InstilError:
        conversation, train_on = work.conversation, self._context.settings.train_on
        if isinstance(conversation, InstilError):
            return conversation
        try:
            if isinstance(conversation, Draft):
                examples, report = encode_draft(self._context, conversation, train_on=train_on)
            else:
                planned = None if work.plan is None else self._fill_plan(conversation, work.plan, work.texts)
                if planned is not None:
                    return planned
                examples, report = encode_conversation(self._context, conversation, train_on=train_on)
        except InstilError as error:
            return error
        self._report.add(report)
        return examples

    def _plan_for(self, conversation: Conversation) -> tuple[ShapePlan | None, list[str]]:
        """Return a plan that holds for a conversation, and the contents to fill it with; None if there is none."""
        context = self._context
        if not self._allowed:
            return None, []
        shape = shape_of(conversation)
        has_own_variables = conversation.variables and conversation.variables != context.settings.template_variables
        if shape is None or has_own_variables:
            return None, []
        if shape not in self._plans:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[shape] = self._make_plan(shape)
        known = self._plans[shape]
        contents: list[str] = [message.content for message in conversation.messages]  # type: ignore[misc]
        plan = known.plan if isinstance(known, LongPlan) else known
        # The template must answer its questions about these contents as it did for the marked ones.
        if plan is None or not plan.holds_for(contents):
            return None, []
        # A long plan is inferred, not proved: the rendering itself must be the planned one.
        if isinstance(known, LongPlan) and not known.renders_as_planned(context, conversation, contents):
            return None, []
        # Typed control tokens need breaks, and text that begins with a tag may hold reasoning to move: both need the
        # certain way.
        if any(map(context.pieces.has_added_token, [contents[message] for message in plan.messages])):
            return None, []
        if context.takes_reasoning and any(map(begins_with_tag, contents)):
            return None, []
        return plan, contents

    def _make_plan(self, shape: Shape) -> ShapePlan | LongPlan | None:
        if num_exchanges(shape) < MIN_EXCHANGES:
            return make_plan(self._context, shape)
        if not self._may_be_long:
            return None
        return make_long_plan(shape, plan_short=lambda short: make_plan_with_texts(self._context, short))

    def _fill_plan(self, conversation: Conversation, plan: ShapePlan, texts: FilledTexts) -> list[Example] | None:
        """Return the examples; None if a token would straddle a boundary, or an example is too long."""
        examples, remaining = [], iter(texts)
        for example_plan in plan.examples:
            example = self._fill_example(conversation, example_plan, remaining)
            if example is None:
                return None
            examples.append(example)
        report = self._report
        report.conversations += 1
        report.examples += len(examples)
        report.example_tokens += sum([len(example.token_ids) for example in examples])
        report.rendering_tokens += len(examples[-1].token_ids)
        report.history_rewritten += len(examples) > 1
        report.trailing_turns += conversation.messages[-1].role != "assistant"
        report.developer_as_system += plan.developers
        return examples

    def _fill_example(
        self, conversation: Conversation, plan: ExamplePlan, texts: Iterator[tuple[str, str]]
    ) -> Example | None:
        pieces, limit = self._context.pieces, self._context.settings.max_tokens
        ids: list[int] = []
        spans: list[TrainedSpan] = []
        for item in plan.layout:
            num_context = 0  # ids of the item that belong to the prompt
            if item.__class__ is Fixed:
                item_ids = item.ids
            else:
                text, head_text = next(texts)
                item_ids = pieces.ids_of(text, first=item.first)  # type: ignore[union-attr]
                head_ids = item.head  # type: ignore[union-attr]
                if head_text:
                    head_ids = pieces.ids_of(head_text, first=item.first)  # type: ignore[union-attr]
                if head_ids:
                    num_context = len(head_ids)
                    # A token across the boundary: the prompt's ids would not be serving's.
                    if len(item_ids) == num_context or item_ids[:num_context] != head_ids:
                        return None
            start = len(ids)
            ids += item_ids
            if item.trained:
                spans.append(TrainedSpan(start + num_context, len(ids)))
        if (spans and spans[0].start == 0) or (limit is not None and len(ids) > limit):
            return None
        return Example(ids, example_weights(len(ids), spans), place=conversation.place, turns=plan.turns)

"""Many conversations at once: planned shapes are filled in, everything is tokenized in batches, the rest goes the slow way.

Order is kept, and the examples are those that `encode` gives. Questionable on purpose: a plan that is asked about a conversation it does not hold for is simply not
used for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from instil.conversation import Conversation, Example
from instil.data.messages import as_conversation
from instil.encoding.shape_plan import ExamplePlan, Piece, Shape, ShapePlan, fill, make_plan, plan_allowed, shape_of
from instil.errors import InstilError

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer

_BATCH = 512
_PLANS = 4096


class BatchEncoder:
    """Encodes conversations in batches and keeps the plans of the shapes that it has met."""

    def __init__(self, chat: ChatTokenizer) -> None:
        """Start without any plan."""
        self._chat = chat
        self._plans: dict[Shape, ShapePlan | None] = {}
        self._allowed = plan_allowed(chat)

    def encode(self, conversations: Iterable[Any]) -> Iterator[list[Example] | InstilError]:
        """Encode in order; one that is refused gives its error in its place."""
        given = iter(conversations)
        while batch := list(islice(given, _BATCH)):
            yield from self._encode_batch(batch)

    def _encode_batch(self, batch: Sequence[Any]) -> Iterator[list[Example] | InstilError]:
        planned: list[tuple[Conversation | InstilError, list[str], ShapePlan | None]] = []
        first: dict[str, None] = {}
        later: dict[str, None] = {}
        for each in batch:
            try:
                conversation: Conversation | InstilError = as_conversation(each)
            except InstilError as error:
                conversation = error
            plan, contents = self._plan(conversation) if isinstance(conversation, Conversation) else (None, [])
            if plan is not None:
                for example in plan.examples:
                    for item in example.layout:
                        if isinstance(item, Piece):
                            (first if item.first else later)[fill(item.parts, contents)] = None
                            if item.boundary:
                                (first if item.first else later)[fill(item.boundary, contents)] = None
            planned.append((conversation, contents, plan))
        tokens = self._chat.tokens
        tokens.forget()
        tokens.remember([text for text in first if not tokens.knows(text, first=True)], first=True)
        tokens.remember([text for text in later if not tokens.knows(text, first=False)], first=False)
        for conversation, contents, plan in planned:
            yield self._encoded(conversation, contents, plan)

    def _encoded(
        self, conversation: Conversation | InstilError, contents: Sequence[str], plan: ShapePlan | None
    ) -> list[Example] | InstilError:
        if isinstance(conversation, InstilError):
            return conversation
        examples = None if plan is None else self._filled(conversation, contents, plan)
        if examples is not None:
            return examples
        try:
            return self._chat.encode(conversation)
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
            self._plans[shape] = make_plan(self._chat, shape)
        plan = self._plans[shape]
        contents: list[str] = [message.content for message in conversation.messages]  # type: ignore[misc]
        if plan is None or not plan.holds_for(contents):
            return None, []
        has_token = self._chat.tokens.has_added_token
        if any(has_token(contents[message]) for message in plan.messages):
            return None, []
        if self._chat.takes_reasoning and any("</" in content for content in contents):
            return None, []
        return plan, contents

    def _filled(self, conversation: Conversation, contents: Sequence[str], plan: ShapePlan) -> list[Example] | None:
        """Put the examples together; None where a token would straddle a boundary, or the example is too long."""
        examples = []
        for example in plan.examples:
            made = self._example(conversation, contents, example)
            if made is None:
                return None
            examples.append(made)
        report = self._chat.report
        report.conversations += 1
        report.examples += len(examples)
        report.example_tokens += sum(len(example.token_ids) for example in examples)
        report.rendering_tokens += len(examples[-1].token_ids)
        report.history_rewritten += len(examples) > 1
        report.trailing_turns += conversation.messages[-1].role != "assistant"
        return examples

    def _example(self, conversation: Conversation, contents: Sequence[str], plan: ExamplePlan) -> Example | None:
        tokens, limit = self._chat.tokens, self._chat.settings.max_tokens
        ids: list[int] = []
        weights: list[float] = []
        turns = iter(plan.turns)
        turn = next(turns)
        for number, item in enumerate(plan.layout):
            trained = turn.start <= number < turn.stop
            if isinstance(item, int):
                ids.append(item)
                weights.append(1.0 if trained else 0.0)
            else:
                made = tokens.piece(fill(item.parts, contents), first=item.first)
                before = 0
                if item.boundary:
                    head = tokens.piece(fill(item.boundary, contents), first=item.first)
                    before = len(head)
                    if made[:before] != head or len(made) == before:
                        return None
                ids += made
                weights += [0.0] * before + [1.0 if trained else 0.0] * (len(made) - before)
            if number + 1 == turn.stop:
                turn = next(turns, turn)
        if weights[0] or (limit is not None and len(ids) > limit):
            return None
        return Example(ids, weights, place=conversation.place, turns=tuple(turn.index for turn in plan.turns))

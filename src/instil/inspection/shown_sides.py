"""Rows of preference data as they are shown: both sides of every pair, or each judged answer, and why one is left out.

Why: the units are encoded by `encode_units`, as in preparation, so a pair that is left out here is left out of a run. Its
sides are then shown as they would be alone, because a person has to see what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from instil.conversation import Conversation, Example, Place
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.token_origins import explain_examples
from instil.errors import DroppedTextError, InstilError
from instil.inspection.findings import Finding
from instil.inspection.shown_examples import ShownExample
from instil.inspection.survey import KeptRow
from instil.inspection.too_long import LEFT_OUT, too_long_words, without_limit
from instil.preparation.encode_pairs import (
    NOTHING_TRAINED,
    TOO_LONG,
    LeftOut,
    Outcome,
    Pair,
    Unit,
    encode_units,
    no_example,
    read_pair,
    units_of,
)


def show_sides(chat: ChatTokenizer, row: KeptRow) -> tuple[list[ShownExample], list[Finding]]:
    """Return the examples of a row for an objective that compares answers, and why some of them are left out.

    Args:
        chat: Template, tokenizer and the encoder's settings.
        row: The row, read as pairs or as judged answers.
    """
    units = units_of(row.conversations, row.reading)
    outcomes = encode_units(units, chat, row.reading)
    examples: list[ShownExample] = []
    findings: list[Finding] = []
    for number, (unit, outcome) in enumerate(zip(units, outcomes, strict=True), start=1):
        pair = number if row.reading == "pairs" else None
        shown, finding = _show_unit(chat, row.place, unit, outcome, pair=pair)
        examples += shown
        findings += [] if finding is None else [finding]
    return examples, findings


def _show_unit(
    chat: ChatTokenizer, place: Place, unit: Unit, outcome: Outcome, *, pair: int | None
) -> tuple[list[ShownExample], Finding | None]:
    conversation, result = outcome
    if isinstance(result, list) and result:
        shown = [_shown(chat, side, example, pair=pair) for side, example in zip(unit, result, strict=True)]
        dropped = dict.fromkeys(text for example in result for text in example.dropped)
        return shown, Finding("accepted_loss", place, "; ".join(dropped)) if dropped else None
    if isinstance(result, Exception):
        if not isinstance(result, InstilError):
            raise result
        kind = "dropped_text" if isinstance(result, DroppedTextError) else "refused"
        seen = str(result).removeprefix(f"{conversation.place}: ")
        answer = f"the {conversation.side} answer: {seen}"
        return _left_out(chat, unit, pair=pair, reason=f"{conversation.side} answer refused"), Finding(
            kind, place, answer
        )
    reason = result if isinstance(result, LeftOut) else no_example(conversation)
    shown = _left_out(chat, unit, pair=pair, reason=reason.reason)
    return shown, _finding(chat, place, reason, shown)


def _finding(chat: ChatTokenizer, place: Place, left_out: LeftOut, shown: Sequence[ShownExample]) -> Finding:
    """Return why a unit is left out, as the survey finds it."""
    limit = chat.settings.max_tokens
    if left_out.reason == TOO_LONG and limit is not None:
        longest = max((len(example.tokens) for example in shown), default=0)
        return Finding("over_limit", place, too_long_words(longest, limit=limit, how=LEFT_OUT))
    if left_out.reason in (NOTHING_TRAINED, TOO_LONG):
        return Finding("no_answer", place, "no token in it is trained")
    return Finding("no_pair", place, left_out.message.removeprefix(f"{place}: "))


def _left_out(chat: ChatTokenizer, unit: Unit, *, pair: int | None, reason: str) -> list[ShownExample]:
    """Return the examples of a unit that is left out, each side as it would be alone and without a limit."""
    read = read_pair(*unit) if pair is not None else None
    sides: Unit = (read.chosen, read.rejected) if isinstance(read, Pair) else unit
    limit = chat.settings.max_tokens if reason == TOO_LONG else None
    unlimited = without_limit(chat)
    shown = []
    for side in sides:
        try:
            examples = unlimited.encode(side)
        except InstilError:  # it is the reason, or the other side's is
            continue
        shown += [_shown(chat, side, example, pair=pair, limit=limit, left_out=reason) for example in examples]
    return shown


def _shown(
    chat: ChatTokenizer,
    side: Conversation,
    example: Example,
    *,
    pair: int | None,
    limit: int | None = None,
    left_out: str | None = None,
) -> ShownExample:
    (explained,) = explain_examples(chat.context, chat.context.conversation(side), [example])
    return ShownExample(
        explained.tokens, explained.roles, example.shortened, limit, side=side.side, pair=pair, left_out=left_out
    )

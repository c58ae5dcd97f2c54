"""The grammar of an answer to one prompt: what the template opened, what the model may reason, and the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.inline_reasoning import CLOSING_TAGS, REASONING_TAGS
from instil.errors import GenerationError
from instil.generation.constraints.call_shapes import call_rules
from instil.generation.constraints.forms import CallForm, JsonForm
from instil.generation.constraints.grammar import grammar_of, json_rule, reasoning_rules

_CHANNEL = "<|channel|>"


def reasoning_of(
    chat: ChatTokenizer | None, prompt_end: str, *, added_ids: Mapping[str, int], place: str
) -> tuple[str, Sequence[str]]:
    """Return the grammar in front of the form.

    A block that the prompt opened has to be closed. If the template knows reasoning and the prompt has no block, the
    model may write one. A block that the prompt closed allows none.

    Why: the model may open a block only with an added token. An opening tag of ordinary tokens is a text that a weak
    model begins by chance, and then never closes.

    Args:
        chat: Template and tokenizer; None for a base model.
        prompt_end: The text at the prompt's end.
        added_ids: Texts of the added tokens, with their ids.
        place: Where the form stands, for messages.

    Raises:
        GenerationError: If the template writes answers into channels.
    """
    if chat is None:
        return "", ()
    source, end = "\n".join(chat.template.sources), prompt_end.rstrip()
    if _CHANNEL in source:
        raise GenerationError(
            f"{place}: the template writes answers into channels ({_CHANNEL}), whose headers no form covers. Leave it out."
        )
    opened = [pair for pair in REASONING_TAGS if end.endswith(pair[0])]
    if opened:
        return reasoning_rules(opened=True, pairs=opened, added_ids=added_ids)
    known = [pair for pair in REASONING_TAGS if pair[0] in source and pair[1] in source and pair[0] in added_ids]
    if end.endswith(CLOSING_TAGS):
        known = []
    return reasoning_rules(opened=False, pairs=known, added_ids=added_ids)


def grammar_for(
    form: JsonForm | CallForm,
    chat: ChatTokenizer | None,
    added_ids: Mapping[str, int],
    reasoning: tuple[str, Sequence[str]],
) -> str:
    """Return the grammar of a form.

    Raises:
        GenerationError: If calls are prescribed and the template has no syntax for them that a grammar can follow.
    """
    if isinstance(form, JsonForm):
        return grammar_of("answer", [f"answer: {json_rule(form.schema)}"], reasoning=reasoning)
    return grammar_of("calls", call_rules(form, chat, added_ids), reasoning=reasoning)

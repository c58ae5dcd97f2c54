"""Warnings about a run's template: it is not the one that the model was trained with.

Every command that sets up a tokenizer for training has them, before any data is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from instil.conversation import Message
from instil.encoding.loading import template_for
from instil.errors import InstilError
from instil.model.folder.location import ModelLocation
from instil.run_warning import RunWarning
from instil.template.chat_template import ChatTemplate

CHAT_NAME = re.compile(r"(?:^|[-_./])(?:instruct|chat|it|sft|dpo|rlhf|aligned|assistant)(?:$|[-_./])", re.IGNORECASE)
"""Words in the names of published chat models; base models have none of them."""
SAMPLE = (
    Message("system", "Answer briefly."),
    Message("user", "What is the capital of France?"),
    Message("assistant", "Paris."),
    Message("user", "And of Italy?"),
)


def own_template(tokenizer: Any, *, date: str | None) -> ChatTemplate | None:
    """Return the chat template that a model came with; None if it has none, or one that does not compile."""
    try:
        return template_for(tokenizer, None, date=date) if tokenizer.chat_template else None
    except InstilError:
        return None


def other_than_own(own: ChatTemplate | None, used: ChatTemplate, *, location: ModelLocation) -> list[RunWarning]:
    """Return a warning if a template prints a conversation differently from the model's own.

    Args:
        own: The template that the model came with.
        used: The template that the run uses.
        location: The model's location.
    """
    if own is None or _printed(own) == _printed(used):
        return []
    return [
        RunWarning(
            "other_template",
            f"model.template: {location.name} has a chat template of its own, and this one prints another text. "
            "What the model has learned in its own format is partly lost. Leave model.template out to use its own",
        )
    ]


def chat_model_as_base(location: ModelLocation, stop_ids: Sequence[int], tokenizer: Any) -> list[RunWarning]:
    """Return a warning if a model without a chat template looks like a chat model.

    Args:
        location: The model's location.
        stop_ids: Ids that its generation_config stops on.
        tokenizer: Its tokenizer.
    """
    usual = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    added = tokenizer.added_tokens_decoder  # an ordinary token of the vocabulary is a default that nobody set
    names = [str(added[stop_id]) for stop_id in stop_ids if stop_id in added and stop_id not in usual]
    reason = f"its generation_config stops on {', '.join(names)}" if names else ""
    if CHAT_NAME.search(location.name.rstrip("/").rpartition("/")[2]):
        reason = "its name is that of a chat model"
    if not reason:
        return []
    return [
        RunWarning(
            "chat_model_as_base",
            f"{location.name} has no chat template and gets a base model's default, chatml, but {reason}. "
            "Set model.template to the template that it was trained with (instil template list)",
        )
    ]


def _printed(template: ChatTemplate) -> list[str | None]:
    """Return how a template prints a short conversation, with and without a system text; None where it refuses."""
    texts: list[str | None] = []
    for messages in (SAMPLE, SAMPLE[1:]):
        try:
            texts.append(template.render_text(messages, add_generation_prompt=True))
        except InstilError:
            texts.append(None)
    return texts

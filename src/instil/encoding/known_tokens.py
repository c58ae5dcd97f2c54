"""What a tokenizer and its template say about tokens: which end a turn, which are control tokens, which stands for the unknown, and all of it as one hash.

`ChatTokenizer` asks once and remembers. Questionable on purpose: the unknown token is found by trying, because a tokenizer's settings may not name it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from instil.conversation import Message
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.turns.headers import header_tokens
from instil.encoding.turns.stop_tokens import StopTokens, find_stop_tokens
from instil.errors import EncodingError
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.chat_tokenizer import ChatTokenizer


def find_stops(chat: ChatTokenizer) -> StopTokens:
    """Find how answers and tool calls end under the template; errors as `find_stop_tokens`."""
    every = ControlTokens(chat.added.values(), control=(), guarded=())
    variables = chat.settings.template_variables

    def render(
        messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, add_generation_prompt: bool = False
    ) -> Rendering:
        return chat.template.render(
            messages, tools=tools, variables=variables, add_generation_prompt=add_generation_prompt
        )

    return find_stop_tokens(render, every, eos=chat.tokenizer.eos_token, bos=chat.tokenizer.bos_token)


def find_controls(chat: ChatTokenizer) -> ControlTokens:
    """Find the control tokens: special ones, those that the template prints, stop tokens and those of headers."""
    special = set(chat.tokenizer.all_special_tokens) | {
        token.content for token in chat.tokenizer.added_tokens_decoder.values() if token.special
    }
    added = [text for text in chat.added.values() if text.strip()]
    printed = {text for text in added if any(text in source for source in chat.template.sources)}
    guarded = header_tokens(chat, added) | set(chat.stop_tokens)
    return ControlTokens(added, control=special | printed | guarded, guarded=guarded)


def find_unknown(chat: ChatTokenizer) -> int | None:
    """Find the id of the token for what the tokenizer cannot write, where it has one of its own."""
    unknown = chat.tokenizer.unk_token_id
    if unknown is None:  # its settings may not say what its model gives for two letters that it has not got
        one, other = (chat.tokens.encode(letter)[-1:] for letter in "ꙮ𓀀")
        unknown = one[0] if one and one == other else None
    return None if unknown in chat.stop_ids or unknown == chat.tokenizer.bos_token_id else unknown


def fingerprint_of(chat: ChatTokenizer) -> str:
    """Give the SHA-256 of all that decides the ids: tokenizer, template and settings."""
    backend = getattr(chat.tokenizer, "backend_tokenizer", None)
    settings = asdict(replace(chat.settings, template_variables=dict(chat.settings.template_variables)))
    parts = [
        backend.to_str() if backend is not None else json.dumps(sorted(chat.tokenizer.get_vocab().items())),
        chat.template.fingerprint,
        json.dumps(chat.template.special_tokens, sort_keys=True),
        json.dumps(settings, sort_keys=True, default=str),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def id_of(chat: ChatTokenizer, text: str) -> int:
    """Give a stop token's id.

    Raises:
        EncodingError: If it is not in the vocabulary.
    """
    number = chat.tokenizer.convert_tokens_to_ids(text)
    if number is None or (number == chat.tokenizer.unk_token_id and text != chat.tokenizer.unk_token):
        raise EncodingError(f"tokenizer: the stop token {text!r} is not in its vocabulary; add it")
    return int(number)

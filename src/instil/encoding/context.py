"""What every function of this package is given: the facts of a tokenizer with its chat template and settings.

A context answers questions ("which tokens end a turn?") by asking the template and the tokenizer once and remembering
the answer. It has three operations that everything else is built from: `conversation`, `render_messages` and
`typed_breaks`. The verbs (encode, prompt, prove) are in `chat_tokenizer`, which nothing here imports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, TypeAlias

from instil.conversation import Conversation, Message
from instil.data.messages import as_conversation
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.settings import EncodingSettings
from instil.encoding.tokenization import PieceTokenizer
from instil.encoding.turns.headers import header_tokens, takes_reasoning
from instil.encoding.turns.inline_reasoning import split_reasoning
from instil.encoding.turns.reasoning_block import TAG
from instil.encoding.turns.rendered_rows import RenderedRow, RenderedRows, read_rendered
from instil.encoding.turns.rendering_pieces import plain_rendering
from instil.encoding.turns.stop_tokens import StopTokens, find_stop_tokens, printed_within_turns
from instil.errors import EncodingError, ModelError
from instil.template.chat_template import ChatTemplate
from instil.template.tracing import Rendering

ConversationLike: TypeAlias = Conversation | Mapping[str, Any] | Iterable[Any]
"""A conversation in any shape: a `Conversation`, a list of messages, or a mapping with ``messages`` and ``tools``."""
_RARE_LETTERS = "ꙮ𓀀"


class EncodingContext:
    """A tokenizer, its chat template, the settings, and what follows from them; nothing here changes once it is known.

    Attributes:
        tokenizer: The transformers tokenizer.
        template: The chat template.
        settings: How conversations become examples.
        model_stop_ids: Further ids that the model's generation_config stops on.
        added: Text of every added token, by id.
        pieces: The tokenizer's text-to-ids, piece by piece.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: ChatTemplate,
        settings: EncodingSettings,
        *,
        model_stop_ids: Sequence[int] = (),
        pieces: PieceTokenizer | None = None,
    ) -> None:
        """Put a tokenizer, a compiled template and settings together.

        Args:
            tokenizer: The transformers tokenizer.
            template: The chat template.
            settings: How conversations become examples.
            model_stop_ids: Ids that the model's generation_config stops on.
            pieces: The piece tokenizer of another context of the same tokenizer, whose memory is then shared.

        Raises:
            ModelError: If the tokenizer is set to write control tokens as text, the template's own too.
        """
        if getattr(tokenizer, "split_special_tokens", False):
            raise ModelError(
                f"{tokenizer.name_or_path or 'tokenizer'}: split_special_tokens is true, so the template's own control "
                "tokens would become text too. Expected false. Set it to false in tokenizer_config.json; control "
                "tokens that people type stay text without it."
            )
        self.tokenizer, self.template, self.settings = tokenizer, template, settings
        self.model_stop_ids = tuple(model_stop_ids)
        self.added: dict[int, str] = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
        if pieces is None:
            backend = getattr(tokenizer, "backend_tokenizer", None)
            whole = None if backend is not None else lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
            pieces = PieceTokenizer(backend, added=self.added, whole=whole)
        self.pieces = pieces

    def with_settings(self, settings: EncodingSettings) -> EncodingContext:
        """Return a context of the same tokenizer and template under other settings."""
        template = self.template.dated(settings.date)
        return EncodingContext(
            self.tokenizer, template, settings, model_stop_ids=self.model_stop_ids, pieces=self.pieces
        )

    # Facts. Each is found once, on first use.

    @property
    def eos_id(self) -> int | None:
        """Id of the tokenizer's eos token."""
        return self.tokenizer.eos_token_id  # type: ignore[no-any-return]

    @property
    def pad_id(self) -> int | None:
        """Id of the tokenizer's pad token."""
        return self.tokenizer.pad_token_id  # type: ignore[no-any-return]

    @cached_property
    def stops(self) -> StopTokens:
        """How answers and tool calls end under this template.

        Raises:
            EncodingError: If nothing can end an answer; see `find_stop_tokens`.
        """
        every_added = ControlTokens(self.added.values(), control=(), guarded=())
        eos, bos = self.tokenizer.eos_token, self.tokenizer.bos_token
        return find_stop_tokens(self._render_probe, every_added, eos=eos, bos=bos)

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """Texts of the tokens that end a turn: those that the template prints, the tokenizer's eos, the model's own."""
        eos = self.tokenizer.eos_token
        return tuple(dict.fromkeys((*self.stops.texts, *((eos,) if eos else ()), *self._further_stops)))

    @cached_property
    def _further_stops(self) -> tuple[str, ...]:
        """Texts of the control tokens in `model_stop_ids` that no turn contains.

        Why: an id of ordinary text is a default that nobody set. A token that the template prints within a turn (a
        custom template may) cannot end it.
        """
        texts = [self.added[number] for number in self.model_stop_ids if self.added.get(number, "").strip()]
        inner = printed_within_turns(self._render_probe, self.stops) if texts else ""
        return tuple(text for text in texts if text not in inner)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that serving stops on, in the order of `stop_tokens`."""
        return tuple(map(self._stop_id, self.stop_tokens))

    @cached_property
    def controls(self) -> ControlTokens:
        """The control tokens: special ones, those that the template prints, stop tokens and those of headers."""
        special = set(self.tokenizer.all_special_tokens) | {
            token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special
        }
        added = [text for text in self.added.values() if text.strip()]
        printed = {text for text in added if any(text in source for source in self.template.sources)}
        headers = header_tokens(
            self._render_probe,
            added,
            sources=self.template.sources,
            bos=self.tokenizer.bos_token,
            eos=self.tokenizer.eos_token,
        )
        guarded = headers | set(self.stop_tokens)
        return ControlTokens(added, control=special | printed | guarded, guarded=guarded)

    @cached_property
    def added_texts(self) -> frozenset[str]:
        """Texts of the tokenizer's added tokens."""
        return frozenset(self.added.values())

    @cached_property
    def tags(self) -> frozenset[str]:
        """Tags such as ``</think>`` that may close a block within a turn: known, but no header and no stop token."""
        printed = frozenset(tag for source in self.template.sources for tag in TAG.findall(source))
        return (printed | self.added_texts) - self.controls.guarded

    @cached_property
    def takes_reasoning(self) -> bool:
        """Whether the template prints a message's reasoning, or opens a block for it in serving's prompt."""
        return takes_reasoning(self._render_probe, tags=self.tags)

    @cached_property
    def unknown_id(self) -> int | None:
        """Id of the token for characters that the tokenizer does not have; None if it has no such token.

        Why: it is also found by trying, because a tokenizer's settings need not name the token that its model gives.
        """
        unknown: int | None = self.tokenizer.unk_token_id
        if unknown is None:
            one, other = (self.pieces.encode(letter)[-1:] for letter in _RARE_LETTERS)
            unknown = one[0] if one and one == other else None
        return None if unknown in self.stop_ids or unknown == self.tokenizer.bos_token_id else unknown

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the ids: tokenizer, template and settings."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        settings = asdict(replace(self.settings, template_variables=dict(self.settings.template_variables)))
        if self.settings.dropped_text == "refuse":  # what is trained under the default is what it was without it
            del settings["dropped_text"]
        parts = [
            backend.to_str() if backend is not None else json.dumps(sorted(self.tokenizer.get_vocab().items())),
            self.template.fingerprint,
            json.dumps(self.template.special_tokens, sort_keys=True),
            json.dumps(settings, sort_keys=True, default=str),
            *self._further_stops,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    # Operations that everything else is built from.

    def conversation(self, conversation_like: ConversationLike) -> Conversation:
        """Return a conversation as it is encoded: with the recipe's template variables, and with reasoning that
        stands in an answer's text moved to its own field where the template has a place for it.
        """
        conversation = as_conversation(conversation_like)
        _check_characters(conversation)
        if conversation.plain:
            return conversation
        if self.settings.template_variables:
            variables = {**self.settings.template_variables, **conversation.variables}
            conversation = replace(conversation, variables=variables)
        if self.settings.inline_reasoning == "split" and self.takes_reasoning:
            messages = tuple(map(split_reasoning, conversation.messages))
            if any(a is not b for a, b in zip(messages, conversation.messages, strict=True)):
                conversation = replace(conversation, messages=messages)
        return conversation

    def read_rendered(self, conversation: Conversation) -> tuple[Conversation, RenderedRow | None]:
        """Return a row's conversation, read back into messages if it is rendered text; see `turns.rendered_rows`.

        Raises:
            EncodingError: If it is rendered and cannot be read back exactly, or the settings refuse it.
        """
        return read_rendered(self._rendered_rows, conversation, policy=self.settings.rendered_rows)

    @cached_property
    def _rendered_rows(self) -> RenderedRows:
        return RenderedRows(self.template, self.added_texts)

    def num_developers_as_system(self, conversation: Conversation) -> int:
        """Return how many developer messages of a conversation the template receives as system messages."""
        count = sum(message.role == "developer" for message in conversation.messages)
        if not count or conversation.plain:
            return 0
        return count if self.template.given(conversation.tools).shape.developer == "system" else 0

    def render_messages(
        self, conversation: Conversation, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> Rendering:
        """Return the rendering of some messages with a conversation's tools and variables.

        Raises:
            TemplateError: If the template refuses them.
        """
        if conversation.plain:
            return plain_rendering(messages)
        return self.template.render(
            messages,
            tools=conversation.tools,
            variables=conversation.variables,
            add_generation_prompt=add_generation_prompt,
        )

    def typed_breaks(self, rendering: Rendering, assistant: AbstractSet[int], place: str) -> tuple[int, ...]:
        """Return the positions at which a rendering must be broken so that typed control tokens stay text.

        Args:
            rendering: The text and its origins.
            assistant: Indices of the assistant's messages.
            place: What an error starts with.

        Raises:
            EncodingError: If there are any and the settings refuse them.
        """
        policy = self.settings.typed_control_tokens
        if policy == "keep":
            return ()
        breaks = self.controls.typed(rendering, assistant=assistant)
        if breaks and policy == "refuse":
            typed = rendering.text[breaks[0] - 1 : breaks[0] + 20]
            raise EncodingError(
                f"{place}: a message's text contains a control token ({typed!r} …). Expected none. Set "
                "data.typed_control_tokens: escape, or remove it."
            )
        return breaks

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, with control tokens, nothing cleaned up."""
        return self.tokenizer.decode(  # type: ignore[no-any-return]
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def _render_probe(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
    ) -> Rendering:
        """Render a probe conversation under the recipe's template variables."""
        return self.template.render(
            messages,
            tools=tools,
            variables=self.settings.template_variables,
            add_generation_prompt=add_generation_prompt,
        )

    def _stop_id(self, text: str) -> int:
        number = self.tokenizer.convert_tokens_to_ids(text)
        if number is None or (number == self.tokenizer.unk_token_id and text != self.tokenizer.unk_token):
            raise EncodingError(
                f"tokenizer: the stop token {text!r} is not in its vocabulary. Expected a token of its own. Add it."
            )
        return int(number)


def _check_characters(conversation: Conversation) -> None:
    """Raise if a text holds half a surrogate pair, which no tokenizer takes. Rows from files have none."""
    for number, message in enumerate(conversation.messages, start=1):
        for text in (message.content, message.reasoning):
            if not isinstance(text, str) or text.isascii():
                continue
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise EncodingError(
                    f"{place_of(conversation)}: message {number}: character {error.start + 1} is half a surrogate pair "
                    f"({text[error.start]!a}). Expected whole characters. Remove it."
                ) from None


def assistant_indices(conversation: Conversation) -> frozenset[int]:
    """Return the indices of the assistant's messages."""
    return frozenset(index for index, message in enumerate(conversation.messages) if message.role == "assistant")


def place_of(conversation: Conversation) -> str:
    """Return what an error about a conversation starts with."""
    return "conversation" if conversation.place is None else str(conversation.place)

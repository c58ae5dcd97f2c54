"""A tokenizer with its chat template: the one place where conversations become token ids, for training and for serving.

`encode` makes examples, `prompt` makes what is generated from; both go through the same rendering, the same rule for typed control
tokens and the same tokenization, so that what is trained is what is served. Questionable on purpose: every assistant turn's prompt is
rendered as serving would render it, instead of being cut out of one rendering of the whole conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from instil.conversation import Conversation, Example, Message
from instil.data.messages import as_conversation
from instil.encoding.control_tokens import ControlTokens
from instil.encoding.known_tokens import find_controls, find_stops, find_unknown, fingerprint_of, id_of
from instil.encoding.settings import EncodingReport, EncodingSettings, TrainOn
from instil.encoding.tokenization import Tokens
from instil.encoding.turns.inline_reasoning import split_reasoning
from instil.encoding.turns.reasoning_block import TAG
from instil.encoding.turns.stop_tokens import StopTokens
from instil.errors import EncodingError, InstilError, ModelError
from instil.template.chat_template import ChatTemplate
from instil.template.tracing import Rendering

if TYPE_CHECKING:
    from instil.encoding.plans.batch_encoder import BatchEncoder
    from instil.encoding.proof import Proof
    from instil.template.resolve import ResolvedTemplate

Given = Conversation | Mapping[str, Any] | Iterable[Any]


class ChatTokenizer:
    """A tokenizer and its chat template; several threads may use one, and encode one after the other.

    Attributes:
        tokenizer: The transformers tokenizer; its `chat_template` is this one's.
        template: The chat template.
        settings: How conversations become examples.
        report: Counts of what was noticed while encoding.

    Example:
        >>> chat = ChatTokenizer.from_pretrained("demo", template="chatml")  # doctest: +SKIP
        >>> chat.encode([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])  # doctest: +SKIP
    """

    def __init__(
        self,
        tokenizer: Any,
        template: ChatTemplate,
        *,
        settings: EncodingSettings | None = None,
        _shared: tuple[Tokens, RLock] | None = None,
    ) -> None:
        """Put a tokenizer and a compiled template together; see `from_pretrained` and `from_tokenizer`.

        Raises:
            ModelError: If the tokenizer is set to write control tokens as text, the template's own too.
        """
        if getattr(tokenizer, "split_special_tokens", False):
            raise ModelError(
                f"{tokenizer.name_or_path or 'tokenizer'}: split_special_tokens is set, which makes text of the template's own control "
                "tokens too; expected false; set it so in tokenizer_config.json (what people type stays text without it)"
            )
        self.tokenizer, self.template = tokenizer, template
        self.settings = settings or EncodingSettings()
        self.report = EncodingReport()
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.added: dict[int, str] = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
        if _shared is None:
            whole = None if backend is not None else lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
            _shared = Tokens(backend, added=self.added, whole=whole), RLock()
        self.tokens, self._one_at_a_time = _shared

    def __getstate__(self) -> dict[str, Any]:
        """Give what a chat tokenizer is made of, for another process; counts and caches stay behind."""
        return {"tokenizer": self.tokenizer, "template": self.template, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: Any,
        template: str | None = None,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        settings: EncodingSettings | None = None,
    ) -> ChatTokenizer:
        """Load a tokenizer and its chat template.

        Args:
            name_or_folder: Tokenizer or model folder, or a Hub id.
            template: None for the tokenizer's own; a named one; a ``.jinja`` path; Jinja source; a format string.
            revision: Branch, tag or commit of a Hub id.
            trust_remote_code: Run Python code that comes with the tokenizer.
            settings: How conversations become examples.

        Raises:
            ModelError: If there is no tokenizer.
            TemplateError: If it has no chat template and none is given.
        """
        from instil.encoding.loading import load_tokenizer

        tokenizer = load_tokenizer(name_or_folder, revision=revision, trust_remote_code=trust_remote_code)
        return cls.from_tokenizer(tokenizer, template, settings=settings)

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Any, template: str | ResolvedTemplate | None = None, *, settings: EncodingSettings | None = None
    ) -> ChatTokenizer:
        """Put a loaded transformers tokenizer and a template together, which may have been read already.

        The tokenizer's `chat_template` is set to the template that is given.

        Raises:
            TemplateError: If the tokenizer has no chat template and none is given, or it does not compile.
        """
        from instil.encoding.loading import template_for

        settings = settings or EncodingSettings()
        return cls(tokenizer, template_for(tokenizer, template, date=settings.date), settings=settings)

    def with_settings(self, settings: EncodingSettings) -> ChatTokenizer:
        """Give the same tokenizer and template under other settings, with counts of its own."""
        template = self.template.dated(settings.date)
        return ChatTokenizer(self.tokenizer, template, settings=settings, _shared=(self.tokens, self._one_at_a_time))

    # what the tokenizer and the template are

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
        """How answers and tool calls end under this template."""
        return find_stops(self)

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """Texts of the tokens that end a turn, what the template prints first; the tokenizer's eos is always among them."""
        eos = self.tokenizer.eos_token
        return tuple(dict.fromkeys((*self.stops.texts, *((eos,) if eos else ()))))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that serving stops on, in the order of `stop_tokens`."""
        return tuple(id_of(self, text) for text in self.stop_tokens)

    @cached_property
    def controls(self) -> ControlTokens:
        """The control tokens, and which of them may not be typed."""
        return find_controls(self)

    @cached_property
    def added_texts(self) -> frozenset[str]:
        """Texts of the tokenizer's added tokens."""
        return frozenset(self.added.values())

    @cached_property
    def tags(self) -> frozenset[str]:
        """Tags such as ``</think>`` that may close a block within a turn: known to template or tokenizer, but no header or stop."""
        printed = frozenset(tag for source in self.template.sources for tag in TAG.findall(source))
        return (printed | self.added_texts) - self.controls.guarded

    @cached_property
    def unknown_id(self) -> int | None:
        """Id of the token for what the tokenizer cannot write, where it has one of its own."""
        return find_unknown(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the ids: tokenizer, template and settings."""
        return fingerprint_of(self)

    # conversations to text and ids

    def conversation(self, given: Given) -> Conversation:
        """Take a conversation in any shape, with the recipe's template variables and reasoning where the template wants it."""
        conversation = as_conversation(given)
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

    @cached_property
    def takes_reasoning(self) -> bool:
        """Whether the template prints a message's reasoning, or opens a block for it in serving's prompt."""
        from instil.encoding.turns.headers import takes_reasoning

        return takes_reasoning(self)

    def render(self, conversation: Given, add_generation_prompt: bool = False) -> Rendering:
        """Render a conversation; every character knows its origin.

        Args:
            conversation: A `Conversation`, a list of messages, or a mapping with ``messages`` and ``tools``.
            add_generation_prompt: Whether to append what makes the model start its turn.

        Raises:
            TemplateError: If the template refuses the conversation.
        """
        conversation = self.conversation(conversation)
        return self.render_messages(conversation, conversation.messages, add_generation_prompt=add_generation_prompt)

    def render_messages(
        self, conversation: Conversation, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> Rendering:
        """Render other messages with a conversation's tools and variables."""
        if conversation.plain:
            from instil.encoding.plain_text import plain_rendering

            return plain_rendering(messages)
        return self.template.render(
            messages,
            tools=conversation.tools,
            variables=conversation.variables,
            add_generation_prompt=add_generation_prompt,
        )

    def prompt(self, messages: Given, tools: Sequence[Mapping[str, Any]] | None = None, **variables: Any) -> list[int]:
        """Give the ids to generate from.

        Args:
            messages: The messages so far, or a conversation.
            tools: Tool definitions.
            **variables: Template variables; they win over the recipe's.

        Raises:
            TemplateError: If the template refuses the messages.
        """
        from instil.encoding.encoder import prompt_ids

        conversation = as_conversation(messages)
        if tools:
            conversation = replace(conversation, tools=tuple(tools))
        if variables:
            conversation = replace(conversation, variables={**conversation.variables, **variables})
        with self._one_at_a_time:
            return prompt_ids(self, self.conversation(conversation))

    def encode(self, conversation: Given, train_on: TrainOn | None = None) -> list[Example]:
        """Make examples: serving's prompts followed by what the model must write.

        Args:
            conversation: A `Conversation`, a list of messages, or a mapping with ``messages`` and ``tools``.
            train_on: ``assistant``, ``last`` or ``all``; None: as the settings say.

        Returns:
            As many examples as the template's rewriting of history needs; none if every turn has weight 0 or the example
            was too long and is dropped (counted in `report`).

        Raises:
            EncodingError: If the loss mask cannot be decided with certainty.
            TemplateError: If the template refuses the conversation.
        """
        from instil.encoding.encoder import encode_conversation

        with self._one_at_a_time:
            if train_on is not None and train_on != self.settings.train_on:
                return encode_conversation(self, as_conversation(conversation), train_on=train_on)
            encoded = next(self._batches.encode([conversation]))
        if isinstance(encoded, InstilError):
            raise encoded
        return encoded

    def encode_many(self, conversations: Iterable[Given]) -> Iterator[list[Example] | InstilError]:
        """Encode many conversations, in order and faster than one by one; one that is refused gives its error in its place."""
        batches = self._batches.encode(conversations)
        while True:
            with self._one_at_a_time:
                encoded = next(batches, None)
            if encoded is None:
                return
            yield encoded

    @cached_property
    def _batches(self) -> BatchEncoder:
        from instil.encoding.plans.batch_encoder import BatchEncoder

        return BatchEncoder(self)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, control tokens included, nothing cleaned up."""
        return self.tokenizer.decode(  # type: ignore[no-any-return]
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def prove(self) -> Proof:
        """Prove that this template and tokenizer train what is served; see `instil.encoding.proof`."""
        from instil.encoding.proof import prove

        return prove(self)

    def typed(self, rendering: Rendering, assistant: AbstractSet[int], place: str) -> tuple[int, ...]:
        """Give where a rendering must be cut so that typed control tokens stay text, as the settings say.

        Raises:
            EncodingError: If there are any and the settings refuse them.
        """
        wanted = self.settings.typed_control_tokens
        if wanted == "keep":
            return ()
        cuts = self.controls.typed(rendering, assistant=assistant)
        if cuts and wanted == "refuse":
            found = rendering.text[cuts[0] - 1 : cuts[0] + 20]
            raise EncodingError(
                f"{place}: a control token is typed in a message's text ({found!r} …); expected none; set "
                "data.typed_control_tokens: escape, or remove it"
            )
        return cuts

"""A tokenizer with its chat template: where conversations become token ids, for training and for serving.

`ChatTokenizer` is the thin top of this package; nothing below imports it. It composes the facts (`context`) with the
verbs: `encode` makes examples (`encoder`, `plans`), `prompt` makes the ids that are generated from, `prove` checks
that both agree with transformers (`proof`). All of them use the same rendering, the same rule for typed control
tokens and the same tokenization, so what is trained is what is served.

Why: every assistant turn's prompt is rendered as serving would render it, instead of being cut out of one rendering
of the whole conversation. Templates that rewrite history print the two differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from threading import RLock
from typing import Any, get_args

from instil.conversation import Conversation, Example
from instil.conversation.message_parts import read_tools
from instil.data.messages import as_conversation
from instil.encoding.context import ConversationLike, EncodingContext
from instil.encoding.encoder import BegunAnswer, encode_begun_answer, encode_conversation, encode_prompt
from instil.encoding.loading import template_for
from instil.encoding.plans.batch_encoder import BatchEncoder
from instil.encoding.proof import Proof, prove
from instil.encoding.settings import EncodingReport, EncodingSettings, TrainOn
from instil.encoding.token_origins import Explained, TokenOrigin, explain_examples, explain_prompt
from instil.encoding.token_texts import with_texts
from instil.encoding.tokenizer_setup import TokenizerSetup, run_settings, set_up_tokenizer
from instil.encoding.turns.rendered_rows import RenderedRow
from instil.errors import EncodingError, InstilError
from instil.model.folder.location import locate_tokenizer
from instil.screen import work
from instil.template.chat_template import ChatTemplate
from instil.template.resolve import ResolvedTemplate
from instil.template.tracing import Rendering


class ChatTokenizer:
    """A tokenizer and its chat template. Several threads may share one; they encode one after the other.

    Attributes:
        context: What is known about the tokenizer, its template and the settings.
        report: Counts of what was noticed while encoding.

    Example:
        >>> chat = ChatTokenizer.from_pretrained("demo", template="chatml")  # doctest: +SKIP
        >>> messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        >>> chat.encode(messages)  # doctest: +SKIP
    """

    def __init__(
        self,
        tokenizer: Any,
        template: ChatTemplate,
        *,
        settings: EncodingSettings | None = None,
        model_stop_ids: Sequence[int] = (),
    ) -> None:
        """Put a tokenizer and a compiled template together; see `from_pretrained` and `from_tokenizer`.

        Raises:
            ModelError: If the tokenizer is set to write control tokens as text, the template's own too.
        """
        settings = settings or EncodingSettings()
        context = EncodingContext(tokenizer, template, settings, model_stop_ids=model_stop_ids)
        self._compose(context, RLock())

    def _compose(self, context: EncodingContext, one_at_a_time: RLock) -> None:
        self.context, self.report = context, EncodingReport()
        self._one_at_a_time = one_at_a_time  # contexts of one tokenizer share its memory, so they share the lock too

    def __repr__(self) -> str:
        """Return template and stop tokens, on one line."""
        return f"ChatTokenizer({self.template.name} {self.template.fingerprint[:12]}, stops on {', '.join(self.stop_tokens)})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; counts and caches stay behind."""
        return {
            "tokenizer": self.tokenizer,
            "template": self.template,
            "settings": self.settings,
            "model_stop_ids": self.context.model_stop_ids,
        }

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
        """Load a model's tokenizer and chat template, as training and inference see them.

        A run, or its model or adapter folder, brings its own settings (template variables, date, reasoning, lengths). A
        base model gets its template and the tokens that the template prints, as in a run.

        Args:
            name_or_folder: Any model: `demo`, a run, model, adapter or tokenizer folder, or a Hub id, of which only the
                tokenizer is downloaded.
            template: None for the model's own, or ChatML if it has none; a named one; a ``.jinja`` path; Jinja source;
                a format string.
            revision: Branch, tag or commit of a Hub id.
            trust_remote_code: Run Python code that comes with the tokenizer.
            settings: How conversations become examples; by default the run's own, or the defaults of a recipe.

        Raises:
            ModelError: If there is no tokenizer.
            TemplateError: If the template does not compile.
        """
        _check(template is None or isinstance(template, str), "template", template, "a template's name, file or source")
        _check(revision is None or isinstance(revision, str), "revision", revision, "a branch, tag or commit")
        _check(settings is None or isinstance(settings, EncodingSettings), "settings", settings, "EncodingSettings")
        location = locate_tokenizer(name_or_folder, revision, trust_remote_code=trust_remote_code)
        settings = settings or run_settings(location)
        return cls.of(set_up_tokenizer(location, template, settings=settings, trust_remote_code=trust_remote_code))

    @classmethod
    def of(cls, setup: TokenizerSetup) -> ChatTokenizer:
        """Return the chat tokenizer of a tokenizer that was set up for chat."""
        return cls(setup.tokenizer, setup.template, settings=setup.settings, model_stop_ids=setup.model_stop_ids)

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Any,
        template: str | ResolvedTemplate | None = None,
        *,
        settings: EncodingSettings | None = None,
        model_stop_ids: Sequence[int] = (),
    ) -> ChatTokenizer:
        """Put a loaded transformers tokenizer and a template together.

        The tokenizer's `chat_template` is set to `template`, if one is given.

        Args:
            tokenizer: The transformers tokenizer.
            template: None for the tokenizer's own; else as in `from_pretrained`.
            settings: How conversations become examples.
            model_stop_ids: Ids that the model's generation_config stops on (see `published_stop_ids`).

        Raises:
            TemplateError: If the tokenizer has no chat template and none is given, or it does not compile.
        """
        is_tokenizer = hasattr(tokenizer, "added_tokens_decoder") and hasattr(tokenizer, "chat_template")
        _check(is_tokenizer, "tokenizer", tokenizer, "a transformers tokenizer")
        is_template = template is None or isinstance(template, str | ResolvedTemplate)
        _check(is_template, "template", template, "a template's name, file or source")
        _check(settings is None or isinstance(settings, EncodingSettings), "settings", settings, "EncodingSettings")
        settings = settings or EncodingSettings()
        compiled = template_for(tokenizer, template, date=settings.date)
        return cls(tokenizer, compiled, settings=settings, model_stop_ids=model_stop_ids)

    def with_settings(self, settings: EncodingSettings) -> ChatTokenizer:
        """Return the same tokenizer and template under other settings, with counts of its own."""
        _check(isinstance(settings, EncodingSettings), "settings", settings, "EncodingSettings")
        other = ChatTokenizer.__new__(ChatTokenizer)
        other._compose(self.context.with_settings(settings), self._one_at_a_time)
        return other

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; its `chat_template` is this one's."""
        return self.context.tokenizer

    @property
    def template(self) -> ChatTemplate:
        """The chat template."""
        return self.context.template

    @property
    def settings(self) -> EncodingSettings:
        """How conversations become examples."""
        return self.context.settings

    @property
    def pad_id(self) -> int | None:
        """Id of the tokenizer's pad token."""
        return self.context.pad_id

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """Texts of the tokens that end a turn: those that the template prints, the tokenizer's eos, the model's own."""
        return self.context.stop_tokens

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that serving stops on, in the order of `stop_tokens`."""
        return self.context.stop_ids

    @property
    def takes_reasoning(self) -> bool:
        """Whether the template prints a message's reasoning, or opens a block for it in serving's prompt."""
        return self.context.takes_reasoning

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the ids: tokenizer, template and settings."""
        return self.context.fingerprint

    def conversation(self, conversation_like: ConversationLike) -> Conversation:
        """Return a conversation as it is encoded; see `EncodingContext.conversation`."""
        return self.context.conversation(conversation_like)

    def read_rendered(self, conversation: ConversationLike) -> tuple[Conversation, RenderedRow | None]:
        """Return a row's conversation, read back into messages if its text is rendered already, and how it was.

        Training, `encode` and `explain` do this to every row. `prompt` does not: what people type stays text.

        Raises:
            EncodingError: If it is rendered and cannot be read back exactly, or `data.rendered_rows` refuses it.
        """
        return self.context.read_rendered(as_conversation(conversation))

    def render(self, conversation: ConversationLike, add_generation_prompt: bool = False) -> Rendering:
        """Render a conversation; every character knows its origin.

        Args:
            conversation: A `Conversation`, a list of messages, or a mapping with ``messages`` and ``tools``.
            add_generation_prompt: Whether to append what makes the model start its turn.

        Raises:
            TemplateError: If the template refuses the conversation.
        """
        conversation = self.context.conversation(conversation)
        return self.context.render_messages(
            conversation, conversation.messages, add_generation_prompt=add_generation_prompt
        )

    def prompt(
        self,
        messages: ConversationLike,
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> list[int]:
        """Return the ids to generate from.

        Args:
            messages: The messages so far, or a conversation.
            tools: Tool definitions.
            continue_final_message: Whether the last message is an answer that the model continues; see `begun_answer`.
            **variables: Template variables; they override the recipe's.

        Raises:
            EncodingError: If the last message cannot be continued exactly.
            TemplateError: If the template refuses the messages.
        """
        conversation = _with_inputs(messages, tools, variables)
        if continue_final_message:
            begun = self.begun_answer(conversation)
            return [*begun.prompt_ids, *begun.token_ids]
        with self._one_at_a_time:
            return encode_prompt(self.context, self.context.conversation(conversation))

    def begun_answer(self, messages: ConversationLike) -> BegunAnswer:
        """Return serving's prompt for the last message, and what the model would have generated of it so far.

        Args:
            messages: Messages or a conversation. The last message is the assistant's; its text is continued, or its
                reasoning if it has no text yet.

        Raises:
            EncodingError: If the message cannot be continued exactly: another role, tool calls, no text, a text that
                the template prints differently.
            TemplateError: If the template refuses the messages.
        """
        with self._one_at_a_time:
            return encode_begun_answer(self.context, as_conversation(messages))

    def encode(self, conversation: ConversationLike, train_on: TrainOn | None = None) -> list[Example]:
        """Make examples: serving's prompts followed by what the model must generate.

        Args:
            conversation: A `Conversation`, a list of messages, or a mapping with ``messages`` and ``tools``.
            train_on: ``assistant``, ``last`` or ``all``; None: as the settings say.

        Returns:
            As many examples as the template's rewriting of history needs. The list is empty if every turn has weight
            0, or if the example was too long and was dropped (counted in `report`).

        Raises:
            EncodingError: If the loss mask cannot be decided with certainty.
            TemplateError: If the template refuses the conversation.
        """
        _check(train_on is None or train_on in get_args(TrainOn), "train_on", train_on, "assistant, last or all")
        with self._one_at_a_time:
            if train_on is not None and train_on != self.settings.train_on:
                messages, _ = self.read_rendered(conversation)
                examples, report = encode_conversation(self.context, messages, train_on=train_on)
                self.report.add(report)
                return with_texts(self.context, examples)
            encoded = next(self._batch_encoder.encode([conversation]))
        if isinstance(encoded, InstilError):
            raise encoded
        return with_texts(self.context, encoded)

    def encode_many(self, conversations: Iterable[ConversationLike]) -> Iterator[list[Example] | InstilError]:
        """Encode many conversations in order, faster than one by one; a refused one yields its error instead."""
        is_many = isinstance(conversations, Iterable) and not isinstance(conversations, str | bytes | Mapping)
        _check(is_many, "conversations", conversations, "a list of conversations")
        return self._encode_many(conversations)

    def _encode_many(self, conversations: Iterable[ConversationLike]) -> Iterator[list[Example] | InstilError]:
        batches = self._batch_encoder.encode(conversations)
        while True:
            with self._one_at_a_time:
                examples = next(batches, None)
            if examples is None:
                return
            yield examples

    @cached_property
    def _batch_encoder(self) -> BatchEncoder:
        return BatchEncoder(self.context, self.report)

    def explain(self, conversation: ConversationLike) -> Explained:
        """Return the examples of a conversation with the origin of every token, a list that notebooks show as masks.

        Raises:
            EncodingError, TemplateError: As `encode`.
        """
        conversation, _ = self.read_rendered(conversation)
        examples = self.encode(conversation)
        return explain_examples(self.context, self.context.conversation(conversation), examples)

    def explain_prompt(self, conversation: ConversationLike) -> tuple[TokenOrigin, ...]:
        """Return the prompt of a conversation with the origin of every token; all weights are 0."""
        conversation = self.context.conversation(conversation)
        return explain_prompt(self.context, conversation, self.prompt(conversation))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, with control tokens, nothing cleaned up."""
        is_ids = not isinstance(ids, str | bytes) and isinstance(ids, Iterable)
        ids = list(ids) if is_ids else []
        whole = is_ids and all(isinstance(token, Integral) and 0 <= token < 2**32 for token in ids)
        _check(whole, "ids", ids, "a list of token ids")
        return self.context.decode([int(token) for token in ids])

    @work("proving the template")
    def prove(self) -> Proof:
        """Check that this template and tokenizer train what is served; see `instil.encoding.proof`."""
        return prove(self)


def _check(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise EncodingError(f"{name}: found {value!r:.80}. Expected {expected}. Correct the argument.")


def _with_inputs(
    messages: ConversationLike, tools: Sequence[Mapping[str, Any]] | None, variables: Mapping[str, Any]
) -> Conversation:
    """Return a conversation with tools and template variables in place of its own."""
    conversation = as_conversation(messages)
    if tools is not None and tools != []:
        conversation = replace(conversation, tools=read_tools(tools, where="tools"))
    if variables:
        conversation = replace(conversation, variables={**conversation.variables, **variables})
    return conversation

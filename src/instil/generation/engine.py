"""A model that answers conversations: weights, template, stop tokens, in one object.

Chat, generate, evaluate and serve each hold an `Engine`; prompts come from `ChatTokenizer.prompt` and from nowhere else, so
all of them ask the model as it was trained. Questionable on purpose: a base model without a template is not given one
here. It gets the plain text of the turns and its answer ends at the first line break: what a base model can fairly be
asked, and what a tuned one is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.conversation import Conversation, Message
from instil.errors import GenerationError, ModelError, TemplateError
from instil.generation.decoding import context_limit
from instil.generation.parsing import MARKUP, opens_reasoning, parse_answer
from instil.generation.sampling import Generated, Stream, generate_batch, stream
from instil.generation.served_chat import served_chat
from instil.generation.settings import LoadSettings, SamplingSettings
from instil.recipe import ModelSettings

if TYPE_CHECKING:
    import torch

    from instil.encoding.chat_tokenizer import ChatTokenizer
    from instil.model.folder.location import ModelLocation

_PROMPT_END = 24
"""Tokens at the end of a prompt that are looked at for an opened reasoning block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to one conversation.

    Attributes:
        text: What it wrote, reasoning and call syntax included, without the stop token.
        message: The same, taken apart.
        generated: Ids, finish reason and seed.
        prompt_ids: What it was given.
    """

    text: str
    message: Message
    generated: Generated
    prompt_ids: tuple[int, ...]

    @property
    def content(self) -> str:
        """The answer proper: no reasoning, no tool calls."""
        return self.message.content if isinstance(self.message.content, str) else ""


class AnswerStream:
    """Pieces of text as they become certain; `answer` is the whole once it ended."""

    def __init__(self, engine: Engine, prompt_ids: Sequence[int], pieces: Stream) -> None:
        self._engine, self._prompt_ids, self._stream = engine, prompt_ids, pieces

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    @property
    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            GenerationError: If the stream has not ended.
        """
        if self._stream.result is None:
            raise GenerationError("stream: the answer has not ended; read all of its pieces first")
        return self._engine.answer_of(self._prompt_ids, self._stream.result)


class Engine:
    """A model ready to answer.

    Attributes:
        name: As the person gave it.
        model: The module.
        tokenizer: transformers' tokenizer.
        chat: Template and stop tokens; None for a base model without a template.
        location: Where its files lie, None for a model made in code.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        *,
        chat: ChatTokenizer | None,
        name: str = "model",
        location: ModelLocation | None = None,
    ) -> None:
        self.name, self.model, self.tokenizer, self.chat, self.location = name, model, tokenizer, chat, location
        noise = (token_id for token_id in tokenizer.all_special_ids if _text_of(tokenizer, token_id) not in MARKUP)
        self._noise = frozenset(noise)

    @classmethod
    def load(cls, name: str | Path, settings: LoadSettings | None = None) -> Engine:
        """Load a model to answer with.

        Args:
            name: Run, model folder, adapter folder, Hub id or `demo`.
            settings: How; the default unless given.

        Raises:
            ModelError: If it is not there, not whole, or does not fit.
            TemplateError: If its template does not compile.
        """
        from instil.encoding.loading import load_tokenizer
        from instil.model.folder.file_checks import check_tokenizer
        from instil.model.folder.location import locate
        from instil.model.loading import choose_device, load_model

        given = settings or LoadSettings()
        location = locate(name, given.revision, trust_remote_code=given.trust_remote_code)
        check_tokenizer(location.tokenizer_folder)
        device = choose_device(given.device)
        precision = given.precision
        if precision == "auto":
            precision = "bf16" if device.type == "cuda" else "fp32"
        wanted = ModelSettings(
            name=str(name),
            revision=given.revision,
            template=given.template,
            quantize=given.load,
            trust_remote_code=given.trust_remote_code,
        )
        tokenizer = load_tokenizer(location.tokenizer_folder, trust_remote_code=given.trust_remote_code)
        chat = served_chat(tokenizer, location, given.template)
        model = load_model(wanted, precision=precision, device=device, purpose="generation", location=location)
        _check_rows(model, tokenizer, location)
        engine = cls(model, tokenizer, chat=chat, name=str(name), location=location)
        # a template that takes no such conversation is found out by those that it is given
        with suppress(TemplateError):
            engine.prompt(Conversation((Message("user", "Hello"),)))
        return engine

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        if self.chat is not None:
            return self.chat.stop_ids
        eos = self.tokenizer.eos_token_id
        return () if eos is None else (eos,)

    def prompt(self, conversation: Conversation) -> list[int]:
        """Give the ids to answer a conversation from; its last turn is usually the user's."""
        if self.chat is None:
            return self.plain_prompt(plain_text(conversation))
        if conversation.plain:
            return self.plain_prompt("".join(text_of(message) for message in conversation.messages))
        return self._with_rows(self.chat.prompt(conversation))

    def _with_rows(self, ids: list[int]) -> list[int]:
        """Refuse tokens that the model's embedding has no row for; the tokenizer may know more than the model."""
        rows = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if ids and max(ids) >= rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise GenerationError(
                f"{self.name}: the prompt holds the token {token!r} (id {max(ids)}), the model's embedding has {rows} rows; "
                "expected tokens that the model was trained with; copy its own tokenizer and template there, or take the token out"
            )
        return ids

    def _placed_prompt(self, conversation: Conversation) -> list[int]:
        try:
            return self.prompt(conversation)
        except TemplateError as error:
            raise TemplateError(
                f"{conversation.place or 'conversation'}: the template refuses it ({error}); expected turns that it takes; "
                "mend the row, or name another template"
            ) from None

    def answer(
        self,
        conversations: Sequence[Conversation],
        settings: SamplingSettings | None = None,
        *,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """Answer conversations together.

        Args:
            conversations: Each ends where the model is to speak.
            settings: Greedy, unless given.
            on_answer: Called with the answer's number in the result as soon as it ends.

        Returns:
            Answers in order; ``settings.num_answers`` for each conversation.

        Raises:
            GenerationError: If a conversation leaves no room for an answer; the text starts with its place.
            TemplateError: If the template refuses one; the text starts with its place.
        """
        settings = settings or SamplingSettings()
        if self.chat is None:
            settings = replace(settings, stop=(*settings.stop, "\n"))
        prompts = [self._placed_prompt(conversation) for conversation in conversations]
        limit = context_limit(self.model)
        for conversation, prompt in zip(conversations, prompts, strict=True):
            if limit is not None and len(prompt) >= limit:
                raise GenerationError(
                    f"{conversation.place or 'conversation'}: {len(prompt)} tokens; the context of {self.name} is {limit}, "
                    "answer included; shorten it"
                )
        return self._generate(prompts, settings, on_answer)

    def continue_text(
        self,
        texts: Sequence[str],
        settings: SamplingSettings | None = None,
        *,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """Go on with plain texts, without any template; `on_answer` as in `answer`."""
        return self._generate([self.plain_prompt(text) for text in texts], settings or SamplingSettings(), on_answer)

    def stream(self, conversation: Conversation, settings: SamplingSettings | None = None) -> AnswerStream:
        """Answer one conversation, giving the text as it is written."""
        settings = settings or SamplingSettings()
        if self.chat is None:
            settings = replace(settings, stop=(*settings.stop, "\n"))
        prompt = self.prompt(conversation)
        pieces = stream(self.model, prompt, settings=settings, stop_ids=self.stop_ids, decode=self.decode)
        return AnswerStream(self, prompt, pieces)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, without control tokens other than those that carry reasoning and calls."""
        kept = [token_id for token_id in ids if token_id not in self._noise]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def answer_of(self, prompt_ids: Sequence[int], generated: Generated) -> Answer:
        """Take generated text apart into an answer."""
        text = self.decode(generated.token_ids) if generated.text is None else generated.text
        prompt_end = self.tokenizer.decode(list(prompt_ids[-_PROMPT_END:]), skip_special_tokens=False)
        message = parse_answer(text, in_reasoning=self.chat is not None and opens_reasoning(prompt_end))
        return Answer(text=text, message=message, generated=generated, prompt_ids=tuple(prompt_ids))

    def _generate(
        self,
        prompts: list[list[int]],
        settings: SamplingSettings,
        on_answer: Callable[[int, Answer], None] | None,
    ) -> list[Answer]:
        def tell(number: int, generated: Generated) -> None:
            if on_answer is not None:
                on_answer(number, self.answer_of(prompts[number // settings.num_answers], generated))

        done = generate_batch(
            self.model,
            prompts,
            settings=settings,
            stop_ids=self.stop_ids,
            decode=self.decode if settings.stop else None,
            on_answer=tell,
        )
        return [
            self.answer_of(prompts[number // settings.num_answers], generated) for number, generated in enumerate(done)
        ]

    def plain_prompt(self, text: str) -> list[int]:
        """Give the ids of plain text that goes on, without any template."""
        ids = list(self.tokenizer(text)["input_ids"])
        eos, bos = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
        while ids and ids[-1] == eos and eos != bos:  # a text that goes on must not end with the end of text
            ids.pop()
        if not ids and (bos if bos is not None else eos) is not None:
            ids = [bos if bos is not None else eos]
        return self._with_rows(ids)


def text_of(message: Message) -> str:
    """Give a message's text; parts that are text joined by line breaks."""
    if isinstance(message.content, str):
        return message.content
    parts: Sequence[Mapping[str, Any]] = message.content or ()
    return "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def plain_text(conversation: Conversation) -> str:
    r"""Give what a model without a template is asked: the turns, a line each, and a fresh line.

    Example:
        >>> plain_text(Conversation((Message("user", "What is the capital of Peru?"),)))
        'What is the capital of Peru?\n'
    """
    return "".join(f"{text_of(message).rstrip()}\n" for message in conversation.messages if text_of(message).strip())


def _check_rows(model: Any, tokenizer: Any, location: ModelLocation) -> None:
    """Refuse a tokenizer of another model; tokens added to it that never occur in a prompt may lack a row, as Gemma 3's image does."""
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"{location.tokenizer_folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding {rows} rows; "
            "expected the tokenizer that the model was trained with; copy it there"
        )


def _text_of(tokenizer: Any, token_id: int) -> str:
    text: str = tokenizer.convert_ids_to_tokens(token_id)
    return text

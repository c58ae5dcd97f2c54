"""A model that answers conversations: weights, template and stop tokens in one object.

Chat, generate, evaluate and serve each hold an `Engine`. Prompts come only from `ChatTokenizer.prompt`, so every
command prompts the model as it was trained.

Why: a base model without a template does not get one here. It gets the plain text of the turns, and its answer ends
at the first line break. That is a fair prompt for a base model, and tuned models are compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from instil.conversation import Conversation, Message
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import GenerationError, ModelError, TemplateError
from instil.generation.constraints.answer_grammar import grammar_for, reasoning_of
from instil.generation.constraints.constraint import Constraint, GrammarTokenizer
from instil.generation.constraints.forms import CallForm, JsonForm
from instil.generation.decoder.plain import places_of, plain_steps, versions_of
from instil.generation.decoder.prefixes import PREFIX_BYTES, Prefixes
from instil.generation.decoder.steps import Steps
from instil.generation.decoding import answering, context_limit
from instil.generation.parsing.answer_parser import MARKUP, AnswerParser, Delta
from instil.generation.parsing.complete import opens_reasoning, parse_answer, tool_names
from instil.generation.rows import Generated
from instil.generation.sampling import Stream, generate_batch, stream
from instil.generation.served_chat import served_chat
from instil.generation.settings import LoadSettings, SamplingSettings
from instil.model.folder.file_checks import check_tokenizer
from instil.model.folder.generation_config import published_stop_ids
from instil.model.folder.location import ModelLocation, locate
from instil.model.loading import choose_device, load_model
from instil.model.new_tokens import fit_embeddings
from instil.recipe import ModelSettings
from instil.screen import work
from instil.units import counted
from instil.views.turns import LINE, one_line

_PROMPT_END = 24
"""Tokens at the end of a prompt that are searched for an opened reasoning block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model's answer to one conversation.

    Attributes:
        text: The generated text, reasoning and call syntax included, without the stop token.
        message: The same text, parsed. Where an answer was begun in the prompt, the message holds the whole turn.
        generated: Ids, finish reason and seed.
        prompt_ids: Ids of the prompt.
        num_begun: How many of the prompt's last ids begin the answer.
    """

    text: str
    message: Message
    generated: Generated
    prompt_ids: tuple[int, ...]
    num_begun: int = 0

    @property
    def content(self) -> str:
        """The answer without reasoning and tool calls."""
        return self.message.content if isinstance(self.message.content, str) else ""

    def __repr__(self) -> str:
        """Return the beginning of the text and how it ended, on one line."""
        tokens = counted(self.generated.num_tokens, "token")
        return one_line("Answer", [tokens, f"finished by {self.generated.finish_reason}", repr(self.text[:LINE])])

    def __str__(self) -> str:
        """Return the content, so that an answer can be printed."""
        return self.content


class AnswerStream:
    """An iterator over pieces of text as they become certain; `answer` is available when it has ended."""

    def __init__(
        self,
        engine: Engine,
        prompt_ids: Sequence[int],
        pieces: Stream,
        *,
        tools: frozenset[str] | None,
        num_begun: int = 0,
    ) -> None:
        self._engine, self._prompt_ids, self._stream = engine, prompt_ids, pieces
        self._tools, self._num_begun = tools, num_begun

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def deltas(self) -> Iterator[Delta]:
        """Yield the same answer parsed, a begun answer included: reasoning, content and calls."""
        engine, prompt_ids = self._engine, self._prompt_ids
        parser = AnswerParser(
            in_reasoning=engine.opened(prompt_ids, self._num_begun),
            tools=self._tools,
            bare_json=self._tools is not None,
        )
        yield from parser.push(engine.begun_text(prompt_ids, self._num_begun))
        for piece in self:
            yield from parser.push(piece)
        yield from parser.finish()

    @property
    def answer(self) -> Answer:
        """The complete answer.

        Raises:
            GenerationError: If the stream has not ended.
        """
        if self._stream.result is None:
            raise GenerationError("stream: the answer has not ended. Read all of its pieces first.")
        return self._engine.answer_of(
            self._prompt_ids, self._stream.result, tools=self._tools, num_begun=self._num_begun
        )


class Engine:
    """A model ready to answer.

    Attributes:
        name: The name that it was loaded by.
        model: The module.
        tokenizer: transformers' tokenizer.
        chat: Template and stop tokens; None for a base model without a template.
        location: Where its files are; None for a model built in code.
        why_not_plain: Why the model's own forward answers instead of plain steps; None before the first answer, and if
            the plain steps do.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        *,
        chat: ChatTokenizer | None,
        name: str = "model",
        location: ModelLocation | None = None,
        owns_model: bool = False,
    ) -> None:
        self.name, self.model, self.tokenizer, self.chat, self.location = name, model, tokenizer, chat, location
        # Why: only a model that was loaded here may have its weights laid out anew. Others may be in training.
        self.owns_model = owns_model
        self.why_not_plain: str | None = None
        self._steps: Steps | None = None
        self._places: tuple[int, ...] | None = None
        self._versions: tuple[int, ...] = ()
        self._prefix_bytes = PREFIX_BYTES
        # Control tokens are left out of an answer's text, except those that mark reasoning and tool calls.
        texts = {token_id: tokenizer.convert_ids_to_tokens(token_id) for token_id in tokenizer.all_special_ids}
        self._hidden_ids = frozenset(token_id for token_id, text in texts.items() if text not in MARKUP)

    @classmethod
    @work("loading the model")
    def load(cls, name: str | Path, settings: LoadSettings | None = None) -> Engine:
        """Load a model to generate with.

        Args:
            name: Run, model folder, adapter folder, Hub id or `demo`.
            settings: How to load it.

        Raises:
            ModelError: If the model is missing, incomplete, or too large for the device.
            TemplateError: If its template does not compile.
        """
        settings = settings or LoadSettings()
        location = locate(name, settings.revision, trust_remote_code=settings.trust_remote_code)
        check_tokenizer(location.tokenizer_folder)
        device = choose_device(settings.device)
        precision = settings.precision
        if precision == "auto":
            precision = "bf16" if device.type == "cuda" else "fp32"
        model_settings = ModelSettings(
            name=str(name),
            revision=settings.revision,
            template=settings.template,
            quantize=settings.load,
            trust_remote_code=settings.trust_remote_code,
        )
        served = served_chat(location, settings.template, trust_remote_code=settings.trust_remote_code)
        tokenizer, chat = served.tokenizer, served.chat
        if chat is not None and settings.dropped_text is not None:
            chat = chat.with_settings(replace(chat.settings, dropped_text=settings.dropped_text))
        model = load_model(model_settings, precision=precision, device=device, purpose="generation", location=location)
        if served.change is not None and served.change.added and chat is not None:
            fit_embeddings(model, tokenizer, served.change, stop_ids=chat.stop_ids)
        _check_vocabulary(model, tokenizer, location)
        engine = cls(model, tokenizer, chat=chat, name=str(name), location=location, owns_model=True)
        # A first prompt shows unknown token ids early. A template may refuse this conversation and still take others.
        with suppress(TemplateError):
            engine.prompt(Conversation((Message("user", "Hello"),)))
        return engine

    @property
    def steps(self) -> Steps | None:
        """The model's plain steps, proved at the first use and again after its parameters were replaced; None if it has
        none.
        """
        if not self.owns_model:
            self.why_not_plain = "it was not loaded here"
            return None
        if self._places != places_of(self.model):
            with answering(self.model):
                found = plain_steps(self.model)
            self._steps, self.why_not_plain = (None, found) if isinstance(found, str) else (found, None)
            self._places, self._versions = places_of(self.model), ()
        if self._versions != versions_of(self.model):
            # Other values, perhaps in the same places: the steps fit, what they have read before does not.
            self._versions = versions_of(self.model)
            self.keep_prefixes(self._prefix_bytes)
        return self._steps

    def keep_prefixes(self, most_bytes: int) -> None:
        """Set how much is kept of texts that the plain steps have read, and forget what is kept now.

        Args:
            most_bytes: Most bytes of keys and values, 512 MB at first; 0 keeps nothing.
        """
        self._prefix_bytes = most_bytes
        if self._steps is not None:
            self._steps.prefixes = Prefixes(most_bytes) if most_bytes else None

    @cached_property
    def grammars(self) -> GrammarTokenizer:
        """The vocabulary as grammars need it; read from the tokenizer at the first form."""
        rows = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        return GrammarTokenizer(self.tokenizer, num_rows=rows, stop_ids=self.stop_ids)

    def constraint(self, form: JsonForm | CallForm, prompt_ids: Sequence[int], num_begun: int = 0) -> Constraint:
        """Compile the form of the answer to a prompt; a model that reasons does so in front of it.

        Args:
            form: The form.
            prompt_ids: Ids of the prompt.
            num_begun: How many of its last ids begin the answer.

        Raises:
            GenerationError: If the form cannot be enforced. The message starts with its place.
        """
        turn = self.tokenizer.decode(list(prompt_ids[: len(prompt_ids) - num_begun][-_PROMPT_END:]))
        reasoning = reasoning_of(self.chat, turn, added_ids=self.grammars.added_ids, place=form.place)
        return self.grammars.compile(grammar_for(form, self.chat, self.grammars.added_ids, reasoning), form.place)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        if self.chat is not None:
            return self.chat.stop_ids
        eos, further = self.tokenizer.eos_token_id, () if self.location is None else published_stop_ids(self.location)
        known = self.tokenizer.added_tokens_decoder
        return tuple(dict.fromkeys((*(() if eos is None else (eos,)), *(stop for stop in further if stop in known))))

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return the prompt ids of a conversation, whose last turn is usually the user's."""
        if self.chat is None:
            return self.plain_prompt(plain_text(conversation))
        if conversation.plain:
            return self.plain_prompt("".join(text_of(message) for message in conversation.messages))
        return self._check_ids(self.chat.prompt(conversation))

    def _check_ids(self, ids: list[int]) -> list[int]:
        """Raise if the model's embedding has no row for a token; a tokenizer may have more tokens than the model."""
        rows = self.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if ids and max(ids) >= rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise GenerationError(
                f"{self.name}: the prompt contains the token {token!r} (id {max(ids)}), but the model's embedding has "
                f"{rows} rows. Expected tokens that the model was trained with. Copy the model's own tokenizer and "
                "template into its folder, or remove the token."
            )
        return ids

    def begun_prompt(self, conversation: Conversation) -> tuple[list[int], int]:
        """Return the prompt ids of a conversation that ends with a begun answer, and how many of them begin it.

        Raises:
            EncodingError: If the template cannot continue the answer exactly; see `ChatTokenizer.begun_answer`.
            GenerationError: If a model without a template is to continue another turn than the assistant's.
        """
        if self.chat is not None and not conversation.plain:
            begun = self.chat.begun_answer(conversation)
            return self._check_ids([*begun.prompt_ids, *begun.token_ids]), len(begun.token_ids)
        if conversation.plain:
            return self.prompt(conversation), 0
        *before, last = conversation.messages
        if last.role != "assistant" or not before or not text_of(last):
            raise GenerationError(
                f"{conversation.place or 'conversation'}: found no begun answer at its end. Expected a question and a "
                "text of the assistant. Add it, or leave continue_final_message out."
            )
        text = plain_text(replace(conversation, messages=tuple(before)))
        prompt, whole = self.plain_prompt(text), self.plain_prompt(text + text_of(last))
        return whole, len(whole) - len(prompt) if whole[: len(prompt)] == prompt else 0

    def _placed_prompt(self, conversation: Conversation, *, begun: bool) -> tuple[list[int], int]:
        try:
            return self.begun_prompt(conversation) if begun else (self.prompt(conversation), 0)
        except TemplateError as error:
            raise TemplateError(
                f"{conversation.place or 'conversation'}: the template refuses it ({error}). Expected turns that the "
                "template accepts. Fix the row, or choose another template."
            ) from None

    def answer(
        self,
        conversations: Sequence[Conversation],
        settings: SamplingSettings | None = None,
        *,
        continue_final_message: bool = False,
        on_answer: Callable[[int, Answer], None] | None = None,
        form: JsonForm | CallForm | None = None,
        top_logprobs: int | None = None,
    ) -> list[Answer]:
        """Answer conversations as a batch.

        Args:
            conversations: Each ends where the model's turn begins.
            settings: Sampling settings. The default is greedy.
            continue_final_message: Whether each ends with a begun answer, which the model continues.
            on_answer: Called with an answer and its index in the result as soon as it ends.
            form: The form that every answer has to have.
            top_logprobs: Alternatives for each token beside its log-probability; None keeps neither.

        Returns:
            Answers in order, ``settings.num_answers`` for each conversation.

        Raises:
            GenerationError: If a conversation leaves no room for an answer. The message starts with its place.
            TemplateError: If the template rejects a conversation. The message starts with its place.
        """
        settings = self._ended(settings or SamplingSettings(), form)
        begun = [self._placed_prompt(conversation, begun=continue_final_message) for conversation in conversations]
        prompts = [ids for ids, _ in begun]
        limit = context_limit(self.model)
        for conversation, prompt in zip(conversations, prompts, strict=True):
            if limit is not None and len(prompt) >= limit:
                raise GenerationError(
                    f"{conversation.place or 'conversation'}: the prompt has {len(prompt)} tokens. The context of "
                    f"{self.name} is {limit}, answer included. Shorten the prompt."
                )
        return self._generate(
            prompts,
            settings,
            on_answer,
            tools=[_callable(conversation, form) for conversation in conversations],
            num_begun=[count for _, count in begun],
            form=form,
            top_logprobs=top_logprobs,
        )

    def _ended(self, settings: SamplingSettings, form: JsonForm | CallForm | None) -> SamplingSettings:
        """Return settings by which an answer ends: a form ends by itself, plain text at its first line break."""
        if form is not None and settings.stop:
            raise GenerationError("stop: found beside a form, which it could cut in the middle. Remove one of them.")
        if self.chat is None and form is None:
            return replace(settings, stop=(*settings.stop, "\n"))
        return settings

    def continue_text(
        self,
        texts: Sequence[str],
        settings: SamplingSettings | None = None,
        *,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """Continue plain texts without a template; `on_answer` as in `answer`."""
        prompts = [self.plain_prompt(text) for text in texts]
        no_tools: list[frozenset[str] | None] = [frozenset()] * len(prompts)
        return self._generate(prompts, settings or SamplingSettings(), on_answer, tools=no_tools)

    def stream(
        self,
        conversation: Conversation,
        settings: SamplingSettings | None = None,
        *,
        continue_final_message: bool = False,
        form: JsonForm | CallForm | None = None,
        top_logprobs: int | None = None,
    ) -> AnswerStream:
        """Answer one conversation as a stream of text; see `answer` for a begun answer."""
        settings = self._ended(settings or SamplingSettings(), form)
        prompt, num_begun = (
            self.begun_prompt(conversation) if continue_final_message else (self.prompt(conversation), 0)
        )
        pieces = stream(
            self.model,
            prompt,
            settings=settings,
            stop_ids=self.stop_ids,
            decode=self.decode,
            num_begun=num_begun,
            constraint=None if form is None else self.constraint(form, prompt, num_begun),
            top_logprobs=top_logprobs,
            steps=self.steps,
        )
        return AnswerStream(self, prompt, pieces, tools=_callable(conversation, form), num_begun=num_begun)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without control tokens except those that mark reasoning and tool calls."""
        kept = [token_id for token_id in ids if token_id not in self._hidden_ids]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def begun_text(self, prompt_ids: Sequence[int], num_begun: int) -> str:
        """Return the text of a begun answer, the last `num_begun` ids of a prompt."""
        return self.decode(prompt_ids[len(prompt_ids) - num_begun :])

    def opened(self, prompt_ids: Sequence[int], num_begun: int = 0) -> bool:
        """Return whether a prompt, without the begun answer, ends inside a reasoning block."""
        turn = len(prompt_ids) - num_begun
        prompt_end = self.tokenizer.decode(
            list(prompt_ids[max(turn - _PROMPT_END, 0) : turn]), skip_special_tokens=False
        )
        return self.chat is not None and opens_reasoning(prompt_end)

    def answer_of(
        self, prompt_ids: Sequence[int], generated: Generated, *, tools: Collection[str] | None, num_begun: int = 0
    ) -> Answer:
        """Parse generated ids into an answer.

        Args:
            prompt_ids: Ids of the prompt.
            generated: What the model generated.
            tools: Names that may be called; None if they are unknown.
            num_begun: How many of the prompt's last ids are the beginning of the answer.
        """
        begun_ids = prompt_ids[len(prompt_ids) - num_begun :]
        begun, text = self.decode(begun_ids), generated.text
        if text is None:
            text = self.decode([*begun_ids, *generated.token_ids])[len(begun) :]
        message = parse_answer(
            begun + text,
            in_reasoning=self.opened(prompt_ids, num_begun),
            tools=tools,
            bare_json=tools is not None,
        )
        return Answer(
            text=text, message=message, generated=generated, prompt_ids=tuple(prompt_ids), num_begun=num_begun
        )

    def with_calls_as_text(self, answer: Answer) -> Message:
        """Return an answer's message for a template that prints no calls: they stay in its text as they were written."""
        return parse_answer(
            self.begun_text(answer.prompt_ids, answer.num_begun) + answer.text,
            in_reasoning=self.opened(answer.prompt_ids, answer.num_begun),
            tools=(),
        )

    def _generate(
        self,
        prompts: list[list[int]],
        settings: SamplingSettings,
        on_answer: Callable[[int, Answer], None] | None,
        *,
        tools: Sequence[frozenset[str] | None],
        num_begun: Sequence[int] = (),
        form: JsonForm | CallForm | None = None,
        top_logprobs: int | None = None,
    ) -> list[Answer]:
        def parsed(number: int, generated: Generated) -> Answer:
            prompt = number // settings.num_answers
            count = num_begun[prompt] if num_begun else 0
            return self.answer_of(prompts[prompt], generated, tools=tools[prompt], num_begun=count)

        def report(number: int, generated: Generated) -> None:
            bar.advance()
            if on_answer is not None:
                on_answer(number, parsed(number, generated))

        with work("answering", total=len(prompts) * settings.num_answers, unit="answers") as bar:
            results = generate_batch(
                self.model,
                prompts,
                settings=settings,
                stop_ids=self.stop_ids,
                decode=self.decode if settings.stop else None,
                num_begun=num_begun,
                on_answer=report,
                constraints=[] if form is None else self._constraints(form, prompts, num_begun),
                top_logprobs=top_logprobs,
                steps=self.steps,
            )
        return [parsed(number, generated) for number, generated in enumerate(results)]

    def _constraints(
        self, form: JsonForm | CallForm, prompts: Sequence[list[int]], num_begun: Sequence[int]
    ) -> list[Constraint]:
        """Return a form compiled for each prompt; prompts that end alike share one."""
        compiled: dict[tuple[int, ...], Constraint] = {}
        constraints = []
        for prompt, count in zip(prompts, num_begun or [0] * len(prompts), strict=True):
            end = tuple(prompt[: len(prompt) - count][-_PROMPT_END:])
            if end not in compiled:
                compiled[end] = self.constraint(form, prompt, count)
            constraints.append(compiled[end])
        return constraints

    def plain_prompt(self, text: str) -> list[int]:
        """Return the prompt ids of a plain text to continue, without a template."""
        ids = list(self.tokenizer(text)["input_ids"])
        eos, bos = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
        # Some tokenizers append EOS. A text to continue must not end with it.
        while ids and ids[-1] == eos and eos != bos:
            ids.pop()
        if not ids and (bos if bos is not None else eos) is not None:
            ids = [bos if bos is not None else eos]
        return self._check_ids(ids)


def _callable(conversation: Conversation, form: JsonForm | CallForm | None = None) -> frozenset[str] | None:
    """Return the names of a conversation's tools; None without tools, which its system text may define."""
    if isinstance(form, JsonForm):
        return frozenset()  # JSON is content, whatever stands in it
    return tool_names(conversation.tools) or None


def text_of(message: Message) -> str:
    """Return a message's text; text parts are joined by line breaks."""
    if isinstance(message.content, str):
        return message.content
    parts: Sequence[Mapping[str, Any]] = message.content or ()
    return "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def plain_text(conversation: Conversation) -> str:
    r"""Return the prompt of a model without a template: one turn per line, and a new line.

    Example:
        >>> plain_text(Conversation((Message("user", "What is the capital of Peru?"),)))
        'What is the capital of Peru?\n'
    """
    return "".join(f"{text_of(message).rstrip()}\n" for message in conversation.messages if text_of(message).strip())


def _check_vocabulary(model: Any, tokenizer: Any, location: ModelLocation) -> None:
    """Raise if the tokenizer belongs to another model.

    Only its vocabulary without added tokens is compared. An added token that never occurs in a prompt may lack a row
    in the embedding, as the image token of Gemma 3 does.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"{location.tokenizer_folder}: the tokenizer has {tokenizer.vocab_size} tokens, but the model's embedding "
            f"has {rows} rows. Expected the tokenizer that the model was trained with. Copy it into this folder."
        )

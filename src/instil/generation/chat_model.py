"""A model to ask from Python: `instil.load_model` opens it, `ChatModel` chats, answers many prompts and streams.

It is the `Engine` behind `chat`, `generate`, `evaluate` and `serve`, with keywords instead of records.

Why: a base model gets a template only on request (`add_chat_template`), because a template whose tokens were never
trained makes its answers worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, Literal

import torch

from instil.conversation import Conversation, Message, Place
from instil.conversation.message_parts import read_tools
from instil.data.messages import as_conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.context import ConversationLike
from instil.encoding.settings import EncodingSettings
from instil.encoding.tokenizer_setup import set_up_loaded
from instil.errors import DataError, GenerationError, ModelError
from instil.generation.constraints.forms import ANY_OBJECT, JsonForm
from instil.generation.decoding import context_limit
from instil.generation.engine import Answer, AnswerStream, Engine
from instil.generation.logprobs import MAX_TOP
from instil.generation.prompt_length import fit_prompts
from instil.generation.prompts import Prompt, prompts_of
from instil.generation.settings import LoadSettings, sampling_settings
from instil.model.folder.generation_config import published_stop_ids
from instil.model.new_tokens import RowChange, fit_embeddings

__all__ = ["Answer", "AnswerStream", "ChatModel", "open_model"]


class ChatModel:
    """A model that answers.

    Attributes:
        engine: Weights, tokenizer and template.

    Example:
        >>> model = instil.load_model("runs/demo")  # doctest: +SKIP
        >>> print(model.chat("What is the capital of Peru?"))  # doctest: +SKIP
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __repr__(self) -> str:
        template = "no chat template" if self.tokenizer is None else f"template {self.tokenizer.template.name!r}"
        return f"ChatModel({self.engine.name!r}, {template})"

    @property
    def tokenizer(self) -> ChatTokenizer | None:
        """Tokenizer and template, as training sees them; None for a base model without a template."""
        return self.engine.chat

    @property
    def module(self) -> Any:
        """The transformers model."""
        return self.engine.model

    def chat(
        self,
        messages: str | ConversationLike,
        *,
        tools: Any = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        schema: Any = None,
        json: bool = False,
        top_logprobs: int | None = None,
        **sampling: Any,
    ) -> Answer:
        """Answer one message or conversation. Printing the answer prints its content.

        Args:
            messages: A user's text, a list of messages (mappings or `Message`), or a conversation.
            tools: Tool definitions for the template; the conversation's own by default.
            variables: Template variables, such as ``enable_thinking``.
            continue_final_message: Whether the last message is a begun answer, which the model continues. The answer's
                `text` is what was generated, and its `message` is the whole turn.
            schema: JSON schema of the answer's content. Tokens that leave it are masked.
            json: Whether the content is any JSON object.
            top_logprobs: Alternatives kept for each token beside its log-probability, in `Answer.generated.logprobs`;
                0 keeps the token's own, None keeps neither.
            **sampling: Settings of `SamplingSettings`: temperature, top_p, max_new_tokens, seed, stop … By default
                answers are greedy.

        Returns:
            The answer. Its `message` can follow the messages in the next call.

        Raises:
            DataError: If the messages cannot be read.
            GenerationError: If a setting is wrong, or the messages leave no room for an answer.
            TemplateError, EncodingError: If the template refuses the messages, or cannot continue the last one.
        """
        settings = sampling_settings(**sampling)
        if settings.num_answers != 1:
            raise GenerationError(
                f"num_answers: found {settings.num_answers}. Expected 1 in a chat. Use answer for several."
            )
        conversation = _asked(messages, tools, variables, begun=continue_final_message)
        return self.engine.answer(
            [conversation],
            settings,
            continue_final_message=continue_final_message,
            form=_form(schema, any_object=json),
            top_logprobs=_checked_top(top_logprobs),
        )[0]

    def stream(
        self,
        messages: str | ConversationLike,
        *,
        tools: Any = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        schema: Any = None,
        json: bool = False,
        top_logprobs: int | None = None,
        **sampling: Any,
    ) -> AnswerStream:
        """Answer as `chat` does, piece by piece.

        Returns:
            An iterator over pieces of text. Its `answer` is the complete answer when it has ended.
        """
        settings = sampling_settings(**sampling)
        conversation = _asked(messages, tools, variables, begun=continue_final_message)
        return self.engine.stream(
            conversation,
            settings,
            continue_final_message=continue_final_message,
            form=_form(schema, any_object=json),
            top_logprobs=_checked_top(top_logprobs),
        )

    def answer(
        self,
        prompts: Iterable[str | ConversationLike],
        *,
        too_long: Literal["refuse", "keep_last_turns"] = "refuse",
        continue_final_message: bool = False,
        on_answer: Callable[[int, Answer], None] | None = None,
        schema: Any = None,
        json: bool = False,
        top_logprobs: int | None = None,
        **sampling: Any,
    ) -> list[Answer]:
        """Answer many prompts in batches, as `instil generate` does.

        Args:
            prompts: Texts or conversations. An answer at the end of a conversation is a reference, and the model does
                not see it, unless it is to be continued.
            too_long: Refuse a prompt that leaves no room for an answer, or drop its oldest exchanges.
            continue_final_message: Whether each ends with a begun answer; see `chat`.
            on_answer: Called with an answer and its index as soon as it ends.
            schema: As in `chat`, also json and top_logprobs.
            json: As in `chat`.
            top_logprobs: As in `chat`.
            **sampling: As in `chat`; with ``num_answers``, the answers of a prompt follow each other.

        Raises:
            InstilError: As `chat`. The message starts with the number of the prompt, ``prompts:3``.
        """
        settings = sampling_settings(**sampling)
        if settings.seed is None:
            settings = replace(settings, seed=0)  # as `generate`, so that the same call gives the same answers
        if too_long not in ("refuse", "keep_last_turns"):
            raise GenerationError(
                f"too_long: found {too_long!r}. Expected refuse or keep_last_turns. Leave longer prompts out yourself."
            )
        if on_answer is not None and not callable(on_answer):
            raise GenerationError(
                f"on_answer: found {on_answer!r:.60}. Expected a function. Pass one, or leave it out."
            )
        conversations = _prompts(prompts, begun=continue_final_message)
        if not continue_final_message:
            limit = context_limit(self.engine.model)
            fitted = fit_prompts(
                [Prompt(conversation) for conversation in conversations],
                self.engine.prompt,
                limit=limit,
                too_long=too_long,
            )
            if fitted.left_out:
                raise GenerationError(
                    f"{fitted.left_out[0]}: even its last turn is longer than the context of {limit}."
                )
            conversations = [prompt.conversation for prompt in fitted.prompts]
        return self.engine.answer(
            conversations,
            settings,
            continue_final_message=continue_final_message,
            on_answer=on_answer,
            form=_form(schema, any_object=json),
            top_logprobs=_checked_top(top_logprobs),
        )

    def add_chat_template(
        self, template: str = "chatml", *, stop_token: Literal["own", "eos"] = "own", seed: int = 0
    ) -> RowChange:
        """Give the model a chat template, as a run gives it to a base model.

        The control tokens that the template prints are added to the tokenizer. The model's embedding and head get rows
        for them, drawn with the seed. Model and tokenizer are changed in place.

        Args:
            template: A named template, a ``.jinja`` file, Jinja source, or a format string.
            stop_token: End turns with the template's own stop token, or with the model's EOS.
            seed: Seed of the new rows; a run takes `training.seed`.

        Returns:
            What changed in the model.

        Raises:
            TemplateError: If the template is unknown or does not compile.
            ModelError: If the model has an adapter, or its embedding cannot be resized.
        """
        if not isinstance(template, str) or stop_token not in ("own", "eos") or not isinstance(seed, int):
            raise ModelError(
                f"add_chat_template: found template {template!r}, stop_token {stop_token!r} and seed {seed!r}. Expected "
                "a template's name, own or eos, and a number. Correct the argument."
            )
        if hasattr(self.module, "peft_config"):
            raise ModelError(
                f"{self.engine.name}: it has an adapter, whose base would get other rows. Expected a base model. Add the "
                "template before the adapter."
            )
        settings = EncodingSettings() if self.tokenizer is None else self.tokenizer.settings
        setup = set_up_loaded(
            self.engine.tokenizer,
            template,
            settings=settings,
            stop_token=stop_token,
            name=self.engine.name,
            model_stop_ids=_stop_ids(self.engine),
        )
        chat = ChatTokenizer.of(setup)
        change = fit_embeddings(self.module, setup.tokenizer, setup.change, stop_ids=chat.stop_ids, seed=seed)
        self.engine = Engine(
            self.module,
            setup.tokenizer,
            chat=chat,
            name=self.engine.name,
            location=self.engine.location,
            owns_model=self.engine.owns_model,
        )
        return change


def _form(schema: Any, *, any_object: bool) -> JsonForm | None:
    if schema is not None and any_object:
        raise GenerationError("json: found beside schema. Expected one of them. Remove json.")
    if schema is not None:
        return JsonForm(schema=schema)
    return JsonForm(schema=ANY_OBJECT, place="json") if any_object else None


def _checked_top(top: Any) -> int | None:
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MAX_TOP):
        raise GenerationError(f"top_logprobs: found {top!r}. Expected 0 to {MAX_TOP}, or None. Correct it.")
    return top


def open_model(model: Any, tokenizer: Any, settings: LoadSettings) -> ChatModel:
    """Open a model to ask it; see `instil.load_model`."""
    if isinstance(model, torch.nn.Module):
        return _loaded(model, tokenizer, settings)
    if tokenizer is not None:
        raise ModelError(
            f"load_model: found a tokenizer beside {model!r}. Expected a loaded model beside it. Leave the tokenizer "
            "out; a folder brings its own."
        )
    name = model.__fspath__() if isinstance(model, PathLike) else model
    return ChatModel(Engine.load(name, settings))


def _loaded(model: torch.nn.Module, tokenizer: Any, settings: LoadSettings) -> ChatModel:
    """Put a loaded model and its tokenizer together.

    Raises:
        ModelError: If they are no language model and no tokenizer, or a setting is for loading from files.
    """
    name = str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__)
    if not (hasattr(model, "config") and hasattr(model, "get_input_embeddings") and hasattr(model, "generate")):
        raise ModelError(
            f"load_model: found a {type(model).__name__}. Expected a transformers model that generates, such as "
            "AutoModelForCausalLM gives. Load it so."
        )
    if not (hasattr(tokenizer, "chat_template") and hasattr(tokenizer, "added_tokens_decoder")):
        raise ModelError(
            f"{name}: found {type(tokenizer).__name__} as its tokenizer. Expected a transformers tokenizer. "
            "Pass load_model(model, tokenizer)."
        )
    if replace(settings, template=None) != LoadSettings():
        raise ModelError(
            f"{name}: the model is loaded already. Expected no settings for loading but template. Leave them out."
        )
    chat = None
    if tokenizer.chat_template:
        chat = ChatTokenizer.from_tokenizer(tokenizer, model_stop_ids=_generation_stop_ids(model))
    loaded = ChatModel(Engine(model, tokenizer, chat=chat, name=name))
    if settings.template is not None:
        loaded.add_chat_template(settings.template)
    return loaded


def _generation_stop_ids(model: Any) -> tuple[int, ...]:
    stop = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return tuple(stop) if isinstance(stop, list | tuple) else () if stop is None else (int(stop),)


def _stop_ids(engine: Engine) -> tuple[int, ...]:
    return _generation_stop_ids(engine.model) if engine.location is None else published_stop_ids(engine.location)


def _asked(messages: Any, tools: Any, variables: Any, *, begun: bool, place: Place | None = None) -> Conversation:
    """Return what the model is asked as a conversation.

    Raises:
        DataError: If it cannot be read, or ends with an answer that is not to be continued.
    """
    conversation = _read(messages, place)
    if tools is not None:
        conversation = replace(conversation, tools=read_tools(tools, where="tools"))
    if variables is not None:
        if not isinstance(variables, Mapping):
            raise DataError(
                f"variables: found {type(variables).__name__}. Expected template variables by name. Pass a mapping."
            )
        conversation = replace(conversation, variables={**conversation.variables, **variables})
    if conversation.messages[-1].role == "assistant" and not begun and not conversation.plain:
        raise DataError(
            f"{conversation.place or 'conversation'}: it ends with an answer. Expected a question at its end. Set "
            "continue_final_message=True to have the answer continued."
        )
    return conversation


def _read(messages: Any, place: Place | None) -> Conversation:
    if isinstance(messages, str):
        if not messages:
            raise DataError(f"{place or 'message'}: found an empty text. Expected a message to answer. Write one.")
        return Conversation((Message("user", messages),), place=place)
    if isinstance(messages, Message):
        return Conversation((messages,), place=place)
    conversation = as_conversation(messages, place=place)
    return conversation if conversation.place is not None else replace(conversation, place=place)


def _prompts(prompts: Any, *, begun: bool) -> list[Conversation]:
    """Return prompts as conversations with a place each."""
    if isinstance(prompts, str | bytes | Mapping | Conversation | Message) or not isinstance(prompts, Iterable):
        raise DataError(
            f"prompts: found {type(prompts).__name__}. Expected a list of texts or conversations. For a single one, use "
            "chat, or put it in a list."
        )
    conversations = []
    for number, prompt in enumerate(prompts, start=1):
        conversation = _read(prompt, Place("prompts", number))
        if begun or conversation.plain:
            conversations.append(conversation)
        else:
            conversations += [before.conversation for before in prompts_of(conversation)]
    return conversations

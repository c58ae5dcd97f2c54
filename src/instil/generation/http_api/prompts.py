"""Encodes the prompts of a request: a conversation through the model's template, texts and ids as they are."""

from __future__ import annotations

from dataclasses import dataclass

from instil.conversation import Conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.errors import InstilError
from instil.generation.engine import Engine
from instil.generation.http_api.bodies import of_request
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.requests import ParsedRequest


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt in ids.

    Attributes:
        token_ids: All ids, the begun part of the answer included.
        num_begun: How many of the last ids are that part.
    """

    token_ids: tuple[int, ...]
    num_begun: int = 0


def encode_prompts(engine: Engine, request: ParsedRequest) -> list[EncodedPrompt]:
    """Encode a request's prompts.

    Raises:
        Problem: If a prompt cannot be encoded, or an answer cannot be continued exactly.
    """
    key = "messages" if request.conversation else "prompt"
    try:
        if request.conversation is None:
            return [EncodedPrompt(tuple(_completion_ids(engine, prompt))) for prompt in request.prompts]
        if engine.chat is None:
            raise Problem(400, f"{engine.name} has no chat template. Use /v1/completions, or --template.")
        if request.continues:
            ids, num_begun = engine.begun_prompt(request.conversation)
            return [EncodedPrompt(tuple(ids), num_begun)]
        _check_turn_begins(engine.chat, request.conversation)
        return [EncodedPrompt(tuple(engine.prompt(request.conversation)))]
    except InstilError as error:
        raise Problem(400, of_request(str(error)), param=key) from None


def _check_turn_begins(chat: ChatTokenizer, conversation: Conversation) -> None:
    """Raise if the conversation ends with an answer behind which the template begins no turn of the model.

    Why: the model would have to write the header itself, or go on behind its stop token.
    """
    if conversation.messages[-1].role != "assistant":
        return
    texts = [chat.render(conversation, add_generation_prompt=prompted).text for prompted in (False, True)]
    if texts[0] == texts[1]:
        place = f"messages[{len(conversation.messages) - 1}]"
        raise Problem(
            400,
            f"{place}: found an answer at the end, behind which this template begins no further turn. Expected a "
            "question. Add it, or set continue_final_message: true to have the answer continued.",
            param=place,
        )


def _completion_ids(engine: Engine, prompt: str | tuple[int, ...]) -> list[int]:
    if isinstance(prompt, str):
        return engine.plain_prompt(prompt)
    vocabulary = len(engine.tokenizer)
    if max(prompt) >= vocabulary:
        raise Problem(400, f"prompt: found token id {max(prompt)}. The vocabulary has {vocabulary}.", param="prompt")
    return list(prompt)

"""The tokens of a chat: its prompt and its answer, every token with where it comes from.

Why: the prompt is made as for an answer, and the answer's ids are those that were generated. A text that is encoded
again may have other ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.conversation import Conversation
from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.token_origins import TokenOrigin, explain_prompt
from instil.encoding.token_texts import token_texts
from instil.errors import InstilError
from instil.generation.engine import Engine
from instil.generation.http_api.bodies import flag, shown
from instil.generation.http_api.chat_messages import read_conversation
from instil.generation.http_api.problems import Problem
from instil.generation.http_api.requests import ParsedRequest, check_keys
from instil.generation.http_api.service import Service
from instil.generation.settings import SamplingSettings
from instil.views.tokens import blocks_of

KEYS = ("model", "messages", "tools", "tool_choice", "chat_template_kwargs", "reasoning_effort", "token_ids", "as_row")
_IDS, _AS_ROW = "token_ids", "as_row"


async def explained(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tokens of a request's prompt, and of the answer to it if the request has its ids.

    Args:
        service: The engine.
        body: A request of ``/instil/tokens``.

    Raises:
        Problem: If the request is malformed, too long, or one too many.
    """
    check_keys(body, KEYS)
    conversation, answer_ids = read_conversation(body), _answer_ids(body, service.engine)
    as_row = flag(body, _AS_ROW)
    if as_row and answer_ids:
        raise Problem(400, f"{_IDS}: found beside {_AS_ROW}, which reads the messages alone. Remove one.", param=_IDS)
    service.check_load(1)
    async with service.in_progress(1):
        if as_row:
            return await service.encoding(_row, service.engine.chat, conversation)
        request = ParsedRequest(
            settings=SamplingSettings(), stream=False, include_usage=False, conversation=conversation
        )
        (prompt,) = await service.prompts(request)
        room = service.worker.room(prompt.token_ids)
        if len(answer_ids) > room:
            raise Problem(400, f"{_IDS}: found {len(answer_ids):,} ids. There is room for {room:,}.", param=_IDS)
        chat = service.engine.chat
        assert chat is not None  # `prompts` has refused a model without a template
        return await service.encoding(_tokens, chat, conversation, prompt.token_ids, answer_ids)


def _answer_ids(body: Mapping[str, Any], engine: Engine) -> Sequence[int]:
    # A model may have more rows than its tokenizer has tokens, and generate one of them.
    size = max(len(engine.tokenizer), engine.model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    ids = body.get(_IDS, [])
    if not isinstance(ids, list):
        raise Problem(400, f"{_IDS}: found {shown(ids)}. Expected a list of token ids.", param=_IDS)
    for number, token in enumerate(ids):
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size:
            place = f"{_IDS}[{number}]"
            raise Problem(400, f"{place}: found {shown(token)}. Expected an id from 0 to {size - 1}.", param=place)
    return ids


def _tokens(
    chat: ChatTokenizer, conversation: Conversation, prompt_ids: Sequence[int], answer_ids: Sequence[int]
) -> dict[str, Any]:
    conversation = chat.conversation(conversation)
    roles = [message.role for message in conversation.messages]
    tokens = list(explain_prompt(chat.context, conversation, prompt_ids))
    texts = list(token_texts(chat.context, [*prompt_ids, *answer_ids]))[len(prompt_ids) :]
    # A generated token counts as trained for the blocks: it belongs to the answer, its stop token included.
    tokens += [
        TokenOrigin(token_id, text, 1.0, len(roles), "answer") for token_id, text in zip(answer_ids, texts, strict=True)
    ]
    roles += ["assistant"] if answer_ids else []
    return {
        "object": "instil.tokens",
        "num_prompt": len(prompt_ids),
        "roles": roles,
        "blocks": blocks_of(tokens, roles),
        "tokens": [_token_json(token) for token in tokens],
    }


def _row(chat: ChatTokenizer | None, conversation: Conversation) -> dict[str, Any]:
    """Return the examples that training makes of the messages, with the weight of each token.

    Raises:
        Problem: If training refuses them, or the model has no template.
    """
    if chat is None:
        raise Problem(
            400, f"{_AS_ROW}: the model has no chat template. Expected one. Start the server with --template."
        )
    try:
        examples = chat.explain(conversation)
    except InstilError as error:
        raise Problem(400, f"messages: {error}", param="messages") from None
    return {
        "object": "instil.row",
        "examples": [
            {
                "roles": list(example.roles),
                "blocks": blocks_of(example.tokens, example.roles),
                "tokens": [_token_json(token) | {"weight": token.weight} for token in example.tokens],
            }
            for example in examples
        ],
    }


def _token_json(token: TokenOrigin) -> dict[str, Any]:
    origin = "template" if token.message is None else "tools" if token.message < 0 else "message"
    return {
        "id": token.id,
        "text": token.text,
        "origin": "generated" if token.weight else origin,
        "message": token.message,
        "field": token.field,
    }

"""A chat: its models, its settings, and what was asked and answered. Records only; `storage` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

ReplyState = Literal["waits", "writing", "done", "cut", "stopped", "failed", "lost", "none"]
"""``cut``: at the limit of its length; ``lost``: the studio ended while it was written; ``none``: nothing to answer."""
LIVE: tuple[ReplyState, ...] = ("waits", "writing")
MOST_UNDO = 20
"""Earlier states of a chat that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn; None is the default.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: Smallest share of probability that is drawn from.
        top_k: Number of tokens that are drawn from.
        min_p: Tokens below this share of the likeliest one are not drawn.
        repetition_penalty: Above 1, tokens that were there become less likely.
        max_tokens: Longest answer.
        seed: Seed of the draws; None draws one, the same for both models.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """What an answer depends on beside the messages.

    Attributes:
        system: System text; empty for none.
        sampling: How answers are drawn.
        variables: Template variables.
        tools: Tool definitions, as OpenAI has them.
    """

    system: str = ""
    sampling: Sampling = Sampling()
    variables: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model answered.

    Attributes:
        state: How far it is.
        text: Its text.
        reasoning: Its reasoning, where the template separates it.
        calls: Its tool calls, as OpenAI has them.
        token_ids: The generated ids; empty after an edit.
        prompt_tokens: Tokens of the prompt.
        seconds: Time from the request to the end.
        seed: Seed of the draws.
        error: Why it failed, in the words of the model's server.
        is_edited: Whether a person has changed it.
        saved: The file that it was saved to as a row; or empty.
    """

    state: ReplyState = "waits"
    text: str = ""
    reasoning: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    token_ids: tuple[int, ...] = ()
    prompt_tokens: int = 0
    seconds: float = 0.0
    seed: int | None = None
    error: str = ""
    is_edited: bool = False
    saved: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether it has something that a conversation can go on from."""
        return bool(self.text or self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question, or the results of tools, and the answer of each model.

    Attributes:
        question: What was asked; empty for results of tools.
        results: For each model, the result of each call of its answer before; empty for a question.
        replies: The answer of each model.
        better: The model whose answer was chosen; both go on from it. None if none was.
        pair: The file that the preference pair was saved to; or empty.
    """

    question: str = ""
    results: tuple[tuple[str, ...], ...] = ()
    replies: tuple[Reply, ...] = ()
    better: int | None = None
    pair: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation with one or two models.

    Attributes:
        identity: Its name in the workspace: hexadecimal digits.
        models: Each model, as `models.read_model` reads it.
        settings: Its settings.
        exchanges: What was asked and answered.
        earlier: Earlier states of `exchanges`, the latest last.
        changed: When it was last written, as seconds since 1970.
    """

    identity: str
    models: tuple[str, ...]
    settings: ChatSettings = ChatSettings()
    exchanges: tuple[Exchange, ...] = ()
    earlier: tuple[tuple[Exchange, ...], ...] = ()
    changed: float = 0.0

    @property
    def title(self) -> str:
        """Its first question, shortened; empty if there is none."""
        return next((exchange.question for exchange in self.exchanges), "")[:80]

    @property
    def is_live(self) -> bool:
        """Whether an answer is expected or being written."""
        return any(reply.state in LIVE for exchange in self.exchanges[-1:] for reply in exchange.replies)

    def with_exchanges(self, exchanges: tuple[Exchange, ...]) -> Chat:
        """Return it with other exchanges; `undone` goes back to those before."""
        return replace(self, exchanges=exchanges, earlier=(*self.earlier, self.exchanges)[-MOST_UNDO:])

    def undone(self) -> Chat:
        """Return it as it was before its last change; itself if there was none."""
        if not self.earlier:
            return self
        return replace(self, exchanges=self.earlier[-1], earlier=self.earlier[:-1])

    def with_reply(self, number: int, side: int, reply: Reply) -> Chat:
        """Return it with another reply in place of one."""
        exchange = self.exchanges[number]
        replies = (*exchange.replies[:side], reply, *exchange.replies[side + 1 :])
        return self.with_exchange(number, replace(exchange, replies=replies))

    def with_exchange(self, number: int, exchange: Exchange) -> Chat:
        """Return it with another exchange in place of one; nothing is kept for `undone`."""
        return replace(self, exchanges=(*self.exchanges[:number], exchange, *self.exchanges[number + 1 :]))

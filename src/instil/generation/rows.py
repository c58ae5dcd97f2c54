"""One answer while it is generated, and its result.

A row has settings, random numbers and limits of its own. So rows of different requests can share a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from instil.errors import GenerationError, InstilError
from instil.generation.choosing import Draws, new_seed
from instil.generation.constraints.constraint import Constraint, Matcher
from instil.generation.decoding import context_limit
from instil.generation.logprobs import TokenLogprob
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import Decode, TextStream

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One generated answer.

    Attributes:
        token_ids: The generated ids, without the stop token.
        finish_reason: ``"stop"`` if a stop token or a stop string ended it, ``"length"`` if the limit did.
        stop_id: The stop token that ended it, or None.
        seed: The seed that repeats it with the same settings.
        text: Its text up to the stop string; None if no `decode` was passed.
        logprobs: The log-probability of each of `token_ids`; empty if none were requested.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_id: int | None
    seed: int
    text: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Number of generated tokens, the stop token included."""
        return len(self.token_ids) + (self.stop_id is not None)


class Row:
    """One answer while it is generated.

    Attributes:
        number: Its number among the answers that were started together.
        prompt: Ids of its prompt.
        choosing: Its sampling settings, without what differs between rows that choose alike: seed, length and stops.
        limit: Most tokens of the answer.
        draws: Its random numbers.
        num_top: How many alternatives each token's log-probability comes with; None for no log-probabilities.
        text: Its text as it becomes certain; None if only ids are wanted.
        ids: Its tokens so far, without the stop token.
        token: The newest token, the stop token included.
        piece: The text that the newest token made certain.
        stop_id: The stop token that ended it, or None.
        finish_reason: How it ended; None while it goes on.
        matcher: The state of its form, or None.
        logprobs: The log-probabilities of `ids`.
        seen: [V] booleans, which tokens occurred; None without a repetition penalty.
        counts: [V], how often each token occurred in the answer; None without a penalty of counts.
        error: Why it cannot go on, or None.
        num_reused: How many tokens of the prompt were known and not computed again.
    """

    def __init__(
        self,
        number: int,
        prompt: Sequence[int],
        *,
        settings: SamplingSettings,
        limit: int,
        seed: int,
        text: TextStream | None = None,
        matcher: Matcher | None = None,
        num_top: int | None = None,
    ) -> None:
        self.number = number
        self.prompt = prompt
        self.choosing = replace(settings, seed=None, max_new_tokens=1, num_answers=1, stop=())
        self.limit = limit
        self.draws = Draws(seed)
        self.text = text
        self.matcher = matcher
        self.num_top = num_top
        self.ids: list[int] = []
        self.stop_id: int | None = None
        self.finish_reason: FinishReason | None = None
        self.token = -1
        self.piece = ""
        self.logprobs: list[TokenLogprob] = []
        self.seen: Tensor | None = None
        self.counts: Tensor | None = None
        self.error: InstilError | None = None
        self.num_reused = 0

    def take(self, token: int, stop_ids: Collection[int]) -> None:
        """Append a token, or end the answer at it."""
        self.token = token
        if token in stop_ids:
            self.stop_id, self.finish_reason = token, "stop"
        else:
            self.ids.append(token)
            if self.matcher is not None:
                self.matcher.take(token)
            self.piece = self.text.push(token) if self.text else ""
            if self.text and self.text.stopped:
                self.finish_reason = "stop"
            elif len(self.ids) >= self.limit:
                self.finish_reason = "length"
        # The text that was held back is released at the end, and may still complete a stop string.
        if self.finish_reason and self.text:
            rest = self.text.finish()
            self.piece = rest if self.stop_id is not None else self.piece + rest
            if self.text.stopped:
                self.finish_reason = "stop"

    def result(self) -> Generated:
        """Return the finished answer."""
        return Generated(
            token_ids=tuple(self.ids),
            finish_reason=self.finish_reason or "length",
            stop_id=self.stop_id,
            seed=self.draws.seed,
            text=self.text.text if self.text else None,
            logprobs=tuple(self.logprobs),
        )


def make_rows(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    settings: SamplingSettings,
    decode: Decode | None,
    num_begun: Sequence[int] = (),
    constraints: Sequence[Constraint] = (),
    num_top: int | None = None,
) -> list[Row]:
    """Return the rows that answer some prompts with the same settings; `generate_batch` describes the arguments.

    Raises:
        GenerationError: If a prompt is empty or fills the model's context, or if stop strings come without `decode`.
    """
    if settings.stop and decode is None:
        raise GenerationError("stop: stop strings need decoded text. Pass decode.")
    limit = context_limit(model)
    rows: list[Row] = []
    for number, prompt in enumerate(prompts):
        room = settings.max_new_tokens if limit is None else min(settings.max_new_tokens, limit - len(prompt))
        if not len(prompt):
            raise GenerationError(f"prompt {number}: it has no tokens. Expected at least one. Check the template.")
        if room < 1:
            raise GenerationError(
                f"prompt {number}: it has {len(prompt)} tokens. The model's context is {limit}, answer included. "
                "Shorten the prompt."
            )
        begun = prompt[len(prompt) - num_begun[number] :] if num_begun else ()
        for answer in range(settings.num_answers):
            row = Row(
                len(rows),
                prompt,
                settings=settings,
                limit=room,
                seed=_first_seed(settings) + answer,
                text=TextStream(decode, stop=settings.stop, before=begun) if decode is not None else None,
                matcher=constraints[number].start(begun) if constraints else None,
                num_top=num_top,
            )
            rows.append(row)
    return rows


def _first_seed(settings: SamplingSettings) -> int:
    if settings.seed is not None:
        return settings.seed
    return 0 if settings.greedy else new_seed()

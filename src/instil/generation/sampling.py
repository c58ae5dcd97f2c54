"""Answers prompts: many at once, or one as it is written.

Prompts come as ids from `ChatTokenizer.prompt`, answers go back as ids; chat, generate, evaluate, serve, and the samples of
a training run all come through here. Prompts of like length are answered together and a row leaves the batch when it ends, so
the batch costs what its longest *answer* costs, not its longest prompt times its longest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from instil.errors import GenerationError
from instil.generation.choosing import Draws, choose, new_seed, penalise_repeats
from instil.generation.decoding import Decoder, answering, context_limit, rows_at_once
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import Decode, TextStream

__all__ = [
    "Decode",
    "FinishReason",
    "Generated",
    "SamplingSettings",
    "Stream",
    "generate_batch",
    "stream",
    "stream_tokens",
]

FinishReason: TypeAlias = Literal["stop", "length"]
BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One answer.

    Attributes:
        token_ids: What the model wrote, without the stop token.
        finish_reason: ``"stop"``: a stop token or a stop string ended it; ``"length"``: the limit did.
        stop_id: The stop token that ended it, or None.
        seed: Seed that repeats it with the same settings.
        text: Its text, cut before a stop string; None where no `decode` was given.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_id: int | None
    seed: int
    text: str | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that were generated, the stop token included."""
        return len(self.token_ids) + (self.stop_id is not None)


class _Row:
    """One answer while it grows."""

    def __init__(self, number: int, prompt: Sequence[int], *, limit: int, seed: int, text: TextStream | None) -> None:
        self.number = number
        self.prompt = prompt
        self.limit = limit
        self.draws = Draws(seed)
        self.text = text
        self.ids: list[int] = []
        self.stop_id: int | None = None
        self.finish_reason: FinishReason | None = None
        self.piece = ""

    def take(self, token: int, stop_ids: Collection[int]) -> None:
        """Append a token, or end on it."""
        if token in stop_ids:
            self.stop_id, self.finish_reason = token, "stop"
        else:
            self.ids.append(token)
            self.piece = self.text.push(token) if self.text else ""
            if self.text and self.text.stopped:
                self.finish_reason = "stop"
            elif len(self.ids) >= self.limit:
                self.finish_reason = "length"
        if self.finish_reason and self.text:
            rest = self.text.finish()
            self.piece = rest if self.stop_id is not None else self.piece + rest
            if self.text.stopped:
                self.finish_reason = "stop"

    def result(self) -> Generated:
        """Give the finished answer."""
        return Generated(
            token_ids=tuple(self.ids),
            finish_reason=self.finish_reason or "length",
            stop_id=self.stop_id,
            seed=self.draws.seed,
            text=self.text.text if self.text else None,
        )


def generate_batch(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    pad_id: int | None = None,
    decode: Decode | None = None,
    batch_tokens: int = BATCH_TOKENS,
    on_answer: Callable[[int, Generated], None] | None = None,
) -> list[Generated]:
    """Answer prompts together.

    Under greedy decoding in fp32 an answer is the one that its prompt would get by itself. The model's mode (training or
    evaluation) is as before afterwards.

    Args:
        model: A causal language model, or one with adapters.
        prompts: Token ids, each with its generation prompt.
        settings: Sampling settings, the same for all.
        stop_ids: Ids that end an answer.
        pad_id: An id to fill shorter prompts with; it is masked, so any will do. None: the first stop id, or 0.
        decode: Gives the text of ids; needed for `settings.stop`, and fills `Generated.text`.
        batch_tokens: Most tokens, prompts and longest possible answers together, held in the cache at a time.
        on_answer: Called with the answer's number in the result as soon as it ends.

    Returns:
        Answers in the order of the prompts; ``settings.num_answers`` for each prompt, one after the other.

    Raises:
        GenerationError: If a prompt is empty or leaves no room in the model's context, or stop strings come without `decode`.
    """
    rows = _rows(model, prompts, settings=settings, decode=decode)
    results: dict[int, Generated] = {}
    filler = next(iter(stop_ids), 0) if pad_id is None else pad_id
    with answering(model):
        most = rows_at_once(model, max((len(row.prompt) + row.limit for row in rows), default=0))
        for group in _groups(rows, batch_tokens, most):
            for row in _steps(model, group, settings=settings, stop_ids=stop_ids, pad_id=filler):
                if row.finish_reason is not None:
                    results[row.number] = row.result()
                    if on_answer is not None:
                        on_answer(row.number, results[row.number])
    return [results[number] for number in range(len(rows))]


class Stream:
    """Pieces of one answer's text as they become certain; `result` is the whole once it ended.

    Closing the iterator ends the answer early and frees its memory.

    Attributes:
        result: The answer; None until it ended.
    """

    def __init__(self, pieces: Callable[[Stream], Iterator[str]]) -> None:
        self.result: Generated | None = None
        self._pieces = pieces(self)

    def __iter__(self) -> Iterator[str]:
        return self._pieces


def stream(
    model: torch.nn.Module,
    prompt: Sequence[int],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    decode: Decode,
) -> Stream:
    """Answer one prompt, giving the text as it is written.

    Half characters and what may become a stop string are held back until they are decided.

    Args:
        model: A causal language model, or one with adapters.
        prompt: Token ids with the generation prompt.
        settings: Sampling settings; `num_answers` is not read.
        stop_ids: Ids that end the answer.
        decode: Gives the text of ids.

    Returns:
        A `Stream` to iterate over.

    Raises:
        GenerationError: If the prompt is empty or leaves no room in the model's context.
    """
    (row,) = _rows(model, [prompt], settings=replace(settings, num_answers=1), decode=decode)

    def pieces(given: Stream) -> Iterator[str]:
        with answering(model):
            for _ in _steps(model, [row], settings=settings, stop_ids=stop_ids, pad_id=0):
                if row.piece:
                    yield row.piece
        given.result = row.result()

    return Stream(pieces)


def stream_tokens(
    model: torch.nn.Module, prompt: Sequence[int], *, settings: SamplingSettings, stop_ids: Collection[int]
) -> Iterator[int]:
    """Answer one prompt token by token, the stop token included; stop strings are the caller's to find.

    Raises:
        GenerationError: If the prompt is empty or leaves no room in the model's context.
    """
    (row,) = _rows(model, [prompt], settings=replace(settings, num_answers=1, stop=()), decode=None)

    def tokens() -> Iterator[int]:
        with answering(model):
            for _ in _steps(model, [row], settings=settings, stop_ids=stop_ids, pad_id=0):
                yield row.ids[-1] if row.stop_id is None else row.stop_id

    return tokens()


def _rows(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    settings: SamplingSettings,
    decode: Decode | None,
) -> list[_Row]:
    if settings.stop and decode is None:
        raise GenerationError("stop: stop strings were given without a way to decode tokens; pass decode")
    limit = context_limit(model)
    rows: list[_Row] = []
    for number, prompt in enumerate(prompts):
        room = settings.max_new_tokens if limit is None else min(settings.max_new_tokens, limit - len(prompt))
        if not len(prompt):
            raise GenerationError(f"prompt {number}: it has no tokens; at least one is needed; check the template")
        if room < 1:
            raise GenerationError(
                f"prompt {number}: {len(prompt)} tokens; the model's context is {limit}, answer included; shorten it"
            )
        for answer in range(settings.num_answers):
            seed = _first_seed(settings) + answer
            text = TextStream(decode, stop=settings.stop) if decode is not None else None
            rows.append(_Row(len(rows), prompt, limit=room, seed=seed, text=text))
    return rows


def _first_seed(settings: SamplingSettings) -> int:
    if settings.seed is not None:
        return settings.seed
    return 0 if settings.greedy else new_seed()


def _groups(rows: Sequence[_Row], batch_tokens: int, most: int) -> Iterator[list[_Row]]:
    """Give rows of like length together, at most so many, longest first, so that what does not fit shows at once."""
    group: list[_Row] = []
    width = room = 0
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.number)):
        width, room = max(width, len(row.prompt)), max(room, row.limit)
        if group and ((len(group) + 1) * (width + room) > batch_tokens or len(group) == most):
            yield group
            group, width, room = [], len(row.prompt), row.limit
        group.append(row)
    if group:
        yield group


def _steps(
    model: torch.nn.Module,
    rows: Sequence[_Row],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    pad_id: int,
) -> Iterator[_Row]:
    """Answer one group; gives each row after each of its tokens, `finish_reason` set at its last."""
    rows, stops = list(rows), frozenset(stop_ids)
    with torch.no_grad():
        room = max(row.limit for row in rows)
        decoder = Decoder(model, [row.prompt for row in rows], pad_id=pad_id, room=room)
        logits = decoder.start()
        seen = _seen(rows, logits) if settings.repetition_penalty != 1 else None
    while rows:
        with torch.no_grad():
            if seen is not None:
                logits = penalise_repeats(logits, seen, settings.repetition_penalty)
            tokens = choose(logits, settings, [row.draws for row in rows])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.take(token, stops)
            yield row
        going = [at for at, row in enumerate(rows) if row.finish_reason is None]
        if not going:
            return
        with torch.no_grad():
            if len(going) < len(rows):
                rows = [rows[at] for at in going]
                decoder.keep(going)
                tokens = tokens[going]
                seen = seen[going] if seen is not None else None
            if seen is not None:
                seen.scatter_(1, tokens[:, None], True)
            logits = decoder.step(tokens)


def _seen(rows: Sequence[_Row], logits: Tensor) -> Tensor:
    """Mark the tokens of each row's prompt: [B, V] booleans."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for at, row in enumerate(rows):
        seen[at, torch.tensor(list(row.prompt), device=logits.device)] = True
    return seen

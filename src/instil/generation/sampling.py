"""Generate answers to prompts: a batch of them, or one as a stream.

Prompts arrive as ids from `ChatTokenizer.prompt`, and answers are returned as ids. Chat, generate, evaluate, serve
and the samples of a training run all use this module.

Prompts of similar length are batched, and a row leaves the batch when its answer ends. So a batch costs what its
longest *answer* costs, not its longest prompt times its longest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from instil.errors import GenerationError
from instil.generation.choosing import Draws, choose, new_seed, penalise_counts, penalise_repeats
from instil.generation.constraints.constraint import Constraint, Matcher
from instil.generation.decoding import Decoder, answering, context_limit, rows_at_once
from instil.generation.logprobs import TokenLogprob, logprobs_of
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import Decode, TextStream
from instil.model.to_device import send

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


class _Row:
    """One answer while it is generated."""

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
        self.matcher: Matcher | None = None
        self.logprobs: list[TokenLogprob] = []

    def take(self, token: int, stop_ids: Collection[int]) -> None:
        """Append a token, or end the answer at it."""
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


def generate_batch(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    pad_id: int | None = None,
    decode: Decode | None = None,
    num_begun: Sequence[int] = (),
    batch_tokens: int = BATCH_TOKENS,
    on_answer: Callable[[int, Generated], None] | None = None,
    constraints: Sequence[Constraint] = (),
    top_logprobs: int | None = None,
) -> list[Generated]:
    """Answer prompts in batches.

    With greedy decoding in fp32, a prompt gets the same answer as it would alone. The model's mode (training or
    evaluation) is restored afterwards.

    Args:
        model: A causal language model, with or without adapters.
        prompts: Token ids, each with its generation prompt.
        settings: Sampling settings, the same for all prompts.
        stop_ids: Ids that end an answer.
        pad_id: An id that fills shorter prompts. It is masked, so any id will do. None: the first stop id, or 0.
        decode: Returns the text of ids. `settings.stop` needs it, and it fills `Generated.text`.
        num_begun: How many ids at the end of each prompt begin its answer; see `stream`.
        batch_tokens: Maximum number of tokens in the cache, prompts and longest possible answers together.
        on_answer: Called with an answer and its index in the result as soon as it ends.
        constraints: The form of each prompt's answers; none at all by default.
        top_logprobs: How many alternatives are kept for each token beside its own log-probability; None keeps neither.

    Returns:
        Answers in the order of the prompts, ``settings.num_answers`` for each prompt.

    Raises:
        GenerationError: If a prompt is empty or fills the model's context, or if stop strings come without `decode`.
    """
    rows = _rows(model, prompts, settings=settings, decode=decode, num_begun=num_begun, constraints=constraints)
    results: dict[int, Generated] = {}
    pad_id = next(iter(stop_ids), 0) if pad_id is None else pad_id
    with answering(model):
        for row in _finished_rows(
            model,
            rows,
            settings=settings,
            stop_ids=stop_ids,
            pad_id=pad_id,
            batch_tokens=batch_tokens,
            top_logprobs=top_logprobs,
        ):
            results[row.number] = row.result()
            if on_answer is not None:
                on_answer(row.number, results[row.number])
    return [results[number] for number in range(len(rows))]


class Stream:
    """An iterator over one answer's text as it becomes certain; `result` is available when it has ended.

    Closing the iterator ends the answer early and frees its memory.

    Attributes:
        result: The complete answer; None until it has ended.
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
    num_begun: int = 0,
    constraint: Constraint | None = None,
    top_logprobs: int | None = None,
) -> Stream:
    """Answer one prompt as a stream of text.

    Half characters and text that may become a stop string are held back until they are certain.

    Args:
        model: A causal language model, with or without adapters.
        prompt: Token ids with the generation prompt.
        settings: Sampling settings; `num_answers` is ignored.
        stop_ids: Ids that end the answer.
        decode: Returns the text of ids.
        num_begun: How many ids at the end of the prompt begin the answer. They are decoded with it, because a token
            at the beginning of a text may lose its space.
        constraint: The form of the answer.
        top_logprobs: As in `generate_batch`.

    Returns:
        A `Stream` to iterate over.

    Raises:
        GenerationError: If the prompt is empty or fills the model's context.
    """
    (row,) = _rows(
        model,
        [prompt],
        settings=replace(settings, num_answers=1),
        decode=decode,
        num_begun=(num_begun,),
        constraints=() if constraint is None else (constraint,),
    )

    def pieces(answer: Stream) -> Iterator[str]:
        with answering(model):
            for _ in _steps(model, [row], settings=settings, stop_ids=stop_ids, pad_id=0, top_logprobs=top_logprobs):
                if row.piece:
                    yield row.piece
        answer.result = row.result()

    return Stream(pieces)


def stream_tokens(
    model: torch.nn.Module,
    prompt: Sequence[int],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    num_begun: int = 0,
    constraint: Constraint | None = None,
    top_logprobs: int | None = None,
) -> Iterator[tuple[int, TokenLogprob | None]]:
    """Answer one prompt token by token, the stop token included. Finding stop strings is up to the caller.

    Yields:
        Each token, with its log-probability where `top_logprobs` asks for it; a stop token has none.

    Raises:
        GenerationError: If the prompt is empty or fills the model's context.
    """
    (row,) = _rows(
        model,
        [prompt],
        settings=replace(settings, num_answers=1, stop=()),
        decode=None,
        num_begun=(num_begun,),
        constraints=() if constraint is None else (constraint,),
    )

    def tokens() -> Iterator[tuple[int, TokenLogprob | None]]:
        with answering(model):
            for _ in _steps(model, [row], settings=settings, stop_ids=stop_ids, pad_id=0, top_logprobs=top_logprobs):
                if row.stop_id is not None:
                    yield row.stop_id, None
                else:
                    yield row.ids[-1], row.logprobs[-1] if row.logprobs else None

    return tokens()


def _rows(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    settings: SamplingSettings,
    decode: Decode | None,
    num_begun: Sequence[int] = (),
    constraints: Sequence[Constraint] = (),
) -> list[_Row]:
    if settings.stop and decode is None:
        raise GenerationError("stop: stop strings need decoded text. Pass decode.")
    limit = context_limit(model)
    rows: list[_Row] = []
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
            seed = _first_seed(settings) + answer
            text = TextStream(decode, stop=settings.stop, before=begun) if decode is not None else None
            rows.append(_Row(len(rows), prompt, limit=room, seed=seed, text=text))
            if constraints:
                rows[-1].matcher = constraints[number].start(begun)
    return rows


def _first_seed(settings: SamplingSettings) -> int:
    if settings.seed is not None:
        return settings.seed
    return 0 if settings.greedy else new_seed()


def _finished_rows(
    model: torch.nn.Module,
    rows: Sequence[_Row],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    pad_id: int,
    batch_tokens: int,
    top_logprobs: int | None,
) -> Iterator[_Row]:
    """Answer all rows, batch by batch; yield each row when its answer has ended."""
    longest = max((len(row.prompt) + row.limit for row in rows), default=0)
    for batch in _batches(rows, batch_tokens, max_rows=rows_at_once(model, longest)):
        for row in _steps(model, batch, settings=settings, stop_ids=stop_ids, pad_id=pad_id, top_logprobs=top_logprobs):
            if row.finish_reason is not None:
                yield row


def _batches(rows: Sequence[_Row], batch_tokens: int, *, max_rows: int) -> Iterator[list[_Row]]:
    """Yield batches of rows of similar length. The longest come first, so that memory runs out at once or never."""
    batch: list[_Row] = []
    width = room = 0
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.number)):
        width, room = max(width, len(row.prompt)), max(room, row.limit)
        if batch and ((len(batch) + 1) * (width + room) > batch_tokens or len(batch) == max_rows):
            yield batch
            batch, width, room = [], len(row.prompt), row.limit
        batch.append(row)
    if batch:
        yield batch


def _steps(
    model: torch.nn.Module,
    rows: Sequence[_Row],
    *,
    settings: SamplingSettings,
    stop_ids: Collection[int],
    pad_id: int,
    top_logprobs: int | None = None,
) -> Iterator[_Row]:
    """Answer one batch; yield each row after each of its tokens. Its `finish_reason` is set at the last one."""
    rows, stops = list(rows), frozenset(stop_ids)
    # Why: no_grad around each piece, not around the loop. A generator would leave it switched on in its caller at a
    # yield.
    with torch.no_grad():
        room = max(row.limit for row in rows)
        decoder = Decoder(model, [row.prompt for row in rows], pad_id=pad_id, room=room)
        logits = decoder.start()
        seen = _seen(rows, logits) if settings.repetition_penalty != 1 else None
        counts = torch.zeros_like(logits) if settings.presence_penalty or settings.frequency_penalty else None
    while rows:
        with torch.no_grad():
            tokens = choose(_limited(logits, rows, seen, counts, settings), settings, [row.draws for row in rows])
            logprobs = None if top_logprobs is None else logprobs_of(logits, tokens, num_top=top_logprobs)
        # The one read of a step, for which the host waits.
        chosen = tokens.tolist() if logprobs is None else [one.token_id for one in logprobs]
        for at, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            if logprobs is not None and token not in stops:
                row.logprobs.append(logprobs[at])
            row.take(token, stops)
            yield row
        unfinished = [at for at, row in enumerate(rows) if row.finish_reason is None]
        if not unfinished:
            return
        with torch.no_grad():
            # Finished rows leave the batch, so that the remaining ones cost less.
            if len(unfinished) < len(rows):
                rows = [rows[at] for at in unfinished]
                decoder.keep(unfinished)
                left = send(unfinished, tokens.device)
                tokens = tokens[left]
                seen = seen[left] if seen is not None else None
                counts = counts[left] if counts is not None else None
            if counts is not None:
                counts.scatter_add_(1, tokens[:, None], torch.ones_like(tokens[:, None], dtype=counts.dtype))
            if seen is not None:
                seen.scatter_(1, tokens[:, None], True)
            logits = decoder.step(tokens)


def _limited(
    logits: Tensor, rows: Sequence[_Row], seen: Tensor | None, counts: Tensor | None, settings: SamplingSettings
) -> Tensor:
    """Return logits [B, V] after the penalties, and without the tokens that leave a row's form."""
    if seen is not None:
        logits = penalise_repeats(logits, seen, settings.repetition_penalty)
    if counts is not None:
        logits = penalise_counts(
            logits, counts, presence=settings.presence_penalty, frequency=settings.frequency_penalty
        )
    if any(row.matcher is not None for row in rows):
        logits = torch.stack(
            [
                values if row.matcher is None else row.matcher.apply(values)
                for row, values in zip(rows, logits, strict=True)
            ]
        )
    return logits


def _seen(rows: Sequence[_Row], logits: Tensor) -> Tensor:
    """Mark the tokens of each row's prompt: [B, V] booleans."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for at, row in enumerate(rows):
        seen[at, send(list(row.prompt), logits.device)] = True
    return seen

"""Generate answers to prompts: a batch of them, or one as a stream.

Prompts arrive as ids from `ChatTokenizer.prompt`, and answers are returned as ids. Chat, generate, evaluate, serve
and the samples of a training run all use this module.

Prompts of similar length are batched, and a row leaves the batch when its answer ends. Where the model's decoder takes
more rows in the middle, others take the places that have become free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import torch

from instil.generation.constraints.constraint import Constraint
from instil.generation.decoder.steps import Steps
from instil.generation.decoding import answering, rows_at_once
from instil.generation.rows import Generated, Row, make_rows
from instil.generation.running_batch import RunningBatch
from instil.generation.settings import SamplingSettings
from instil.generation.text_stream import Decode
from instil.generation.waiting_rows import BATCH_TOKENS, WaitingRows

__all__ = [
    "Decode",
    "Generated",
    "SamplingSettings",
    "Stream",
    "generate_batch",
    "stream",
]


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
    steps: Steps | None = None,
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
        steps: The model's plain steps, if it has them; else its own forward is used.

    Returns:
        Answers in the order of the prompts, ``settings.num_answers`` for each prompt.

    Raises:
        GenerationError: If a prompt is empty or fills the model's context, or if stop strings come without `decode`.
    """
    rows = make_rows(
        model,
        prompts,
        settings=settings,
        decode=decode,
        num_begun=num_begun,
        constraints=constraints,
        num_top=top_logprobs,
    )
    results: dict[int, Generated] = {}
    pad_id = next(iter(stop_ids), 0) if pad_id is None else pad_id
    with answering(model):
        for row in _finished_rows(
            model, rows, stop_ids=stop_ids, pad_id=pad_id, batch_tokens=batch_tokens, steps=steps
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
    steps: Steps | None = None,
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
        steps: As in `generate_batch`.

    Returns:
        A `Stream` to iterate over.

    Raises:
        GenerationError: If the prompt is empty or fills the model's context.
    """
    (row,) = make_rows(
        model,
        [prompt],
        settings=replace(settings, num_answers=1),
        decode=decode,
        num_begun=(num_begun,),
        constraints=() if constraint is None else (constraint,),
        num_top=top_logprobs,
    )

    def pieces(answer: Stream) -> Iterator[str]:
        with answering(model):
            for _ in _tokens(model, WaitingRows([row]), stop_ids=stop_ids, pad_id=0, steps=steps):
                if row.piece:
                    yield row.piece
        answer.result = row.result()

    return Stream(pieces)


def _finished_rows(
    model: torch.nn.Module,
    rows: Sequence[Row],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    batch_tokens: int,
    steps: Steps | None,
) -> Iterator[Row]:
    """Answer all rows; yield each row when its answer has ended."""
    longest = max((len(row.prompt) + row.limit for row in rows), default=0)
    waiting = WaitingRows(rows, batch_tokens=batch_tokens, max_rows=rows_at_once(model, longest))
    for row in _tokens(model, waiting, stop_ids=stop_ids, pad_id=pad_id, steps=steps):
        if row.finish_reason is not None:
            yield row


def _tokens(
    model: torch.nn.Module, waiting: WaitingRows, *, stop_ids: Collection[int], pad_id: int, steps: Steps | None
) -> Iterator[Row]:
    """Answer rows together; yield each row after each of its tokens. Its `finish_reason` is set at the last one."""
    batch = RunningBatch(model, stop_ids=stop_ids, pad_id=pad_id, steps=steps)
    try:
        while waiting or batch.rows:
            if batch.takes_more and (joining := waiting.joining(len(batch.rows))):
                batch.add(joining)
            for row in batch.choose():
                if row.error is not None:
                    raise row.error
                yield row
            batch.step()
    except GeneratorExit:  # an answer that is broken off was read like any other
        batch.end()
        raise

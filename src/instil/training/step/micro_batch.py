"""Cut a step into micro-batches that fit into memory: whole examples, laid end to end.

Between the order and the loss. The examples of a step are distributed over the ranks by length. Each rank's share is
packed into flat micro-batches of limited size. Nothing here changes the result of a step, only how it is computed.

Why: every rank gets the same number of micro-batches, empty ones included, because all ranks gather sharded weights
together. An empty micro-batch is a single token of weight 0.

Shapes: T tokens of a micro-batch that this process computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from instil.conversation import Example
from instil.model.attention.layout import positions_of
from instil.model.attention.sequence import SequenceGroup
from instil.model.loss.token_loss import targets_of
from instil.model.speedups.round_sizes import round_up
from instil.model.to_device import to_device


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples laid end to end, ready for one forward pass.

    ``weights[t]`` is the weight of predicting ``targets[t]`` from the tokens up to and including ``t``: they are
    already shifted by one (`model.loss.token_loss.targets_of`).

    Attributes:
        examples: Numbers of the examples in the store. None in a micro-batch that only keeps the ranks together.
        example_lengths: All tokens of each example.
        input_ids: Ids [T].
        position_ids: Positions [T], from 0 in each example.
        lengths: Tokens of each example that are computed. Their sum is T; if processes share them, that of all parts
            without what fills them up.
        targets: The next token of each token [T].
        weights: Loss weights [T], fp32.
        trained_rows: Indices of the positions whose weight is not 0 [N].
    """

    examples: tuple[int, ...]
    example_lengths: tuple[int, ...]
    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    targets: torch.Tensor
    weights: torch.Tensor
    trained_rows: torch.Tensor

    @property
    def num_trained(self) -> int:
        """N, the number of tokens with a weight."""
        return self.trained_rows.shape[0]

    @property
    def num_tokens(self) -> int:
        """Tokens of its examples, including those that need not be computed. 0 for an empty one."""
        return sum(self.example_lengths)


def cut_step(
    indices: Sequence[int],
    num_tokens: Sequence[int],
    *,
    micro_batch_tokens: int,
    num_ranks: int = 1,
    one_by_one: bool = False,
) -> list[list[tuple[int, ...]]]:
    """Cut a step into micro-batches for each rank.

    Examples go to the ranks longest first, each to the rank with the fewest tokens. Then they are packed first-fit in
    the same order. An example longer than `micro_batch_tokens` is a micro-batch by itself. Ties are broken by the
    order of `indices`, so the result is a function of the arguments.

    Args:
        indices: Numbers of the step's examples.
        num_tokens: Their lengths, aligned with `indices`.
        micro_batch_tokens: Maximum number of tokens in a micro-batch.
        num_ranks: Processes that share the step.
        one_by_one: Whether a micro-batch takes one example only, for models that mix examples laid end to end.

    Returns:
        The micro-batches of each rank, as numbers of examples. All ranks have the same number of micro-batches.

    Example:
        >>> cut_step([7, 8, 9], [4, 2, 3], micro_batch_tokens=6)
        [[(7, 8), (9,)]]
        >>> cut_step([7, 8, 9], [4, 2, 3], micro_batch_tokens=6, num_ranks=2)
        [[(7,)], [(9, 8)]]
        >>> cut_step([7], [4], micro_batch_tokens=6, num_ranks=2)
        [[(7,)], [()]]
    """
    longest_first = sorted(range(len(indices)), key=lambda place: -num_tokens[place])
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for place in longest_first:
        rank = loads.index(min(loads))
        shares[rank].append(place)
        loads[rank] += num_tokens[place]
    limit = 0 if one_by_one else micro_batch_tokens
    packed = [_first_fit(share, num_tokens, limit=limit) for share in shares]
    most = max(1, *(len(bins) for bins in packed))
    return [[tuple(indices[place] for place in one) for one in bins] + [()] * (most - len(bins)) for bins in packed]


def _first_fit(places: Sequence[int], num_tokens: Sequence[int], *, limit: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[int] = []
    for place in places:
        for number, free in enumerate(room):
            if num_tokens[place] <= free:
                bins[number].append(place)
                room[number] -= num_tokens[place]
                break
        else:
            bins.append([place])
            room.append(limit - num_tokens[place])
    return bins


def lay_flat(
    examples: Sequence[Example],
    *,
    numbers: Sequence[int],
    device: torch.device | str = "cpu",
    whole: bool = False,
    sequence: SequenceGroup | None = None,
    few_shapes: bool = False,
) -> MicroBatch:
    """Lay examples end to end and shift their weights onto the predicting tokens.

    Tokens after the last one that predicts a trained token are left out: the last trained token itself, a line break
    after it, a question without an answer. In a causal model they change no loss and no gradient.

    Args:
        examples: The examples, each with at least one token. An empty list gives an empty micro-batch.
        numbers: Their numbers in the store.
        device: Where the tensors go.
        whole: Whether to leave nothing out, for losses over all tokens (see `TokenLoss.sees_every_token`).
        sequence: The processes that share the tokens. This one gets its part of ids, positions, targets and weights,
            after the shift: the last token of a part has its target in the next one. Tokens of weight 0 fill up the
            last parts, so that all parts are equally long.
        few_shapes: Whether parts get a rounded size (see `speedups.round_sizes`).

    Example:
        >>> batch = lay_flat([Example([5, 6, 7], [0, 0, 1.0]), Example([8, 9], [0, 0.5])], numbers=[0, 1])
        >>> batch.input_ids.tolist(), batch.targets.tolist()
        ([5, 6, 8], [6, 7, 9])
        >>> batch.weights.tolist(), batch.position_ids.tolist()
        ([0.0, 1.0, 0.5], [0, 1, 0])
    """
    if not examples:
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        return MicroBatch((), (), zero, zero, (1,), zero, torch.zeros(1, device=device), zero[:0])
    lengths = tuple(len(example.token_ids) for example in examples)
    ids = torch.from_numpy(np.concatenate([np.asarray(example.token_ids, dtype=np.int64) for example in examples]))
    weights = torch.from_numpy(np.concatenate([np.asarray(example.weights, dtype=np.float32) for example in examples]))
    positions, (targets, shifted) = positions_of(lengths), targets_of(ids, weights, lengths)
    needed = lengths if whole else tuple(map(_needed, torch.split(shifted, list(lengths))))
    computed = positions < torch.tensor(needed).repeat_interleave(torch.tensor(lengths))
    parts = (part[computed] for part in (ids, positions, targets, shifted))
    ids, positions, targets, shifted = parts
    if sequence is not None:
        ids, positions, targets, shifted = _part_of(sequence, (ids, positions, targets, shifted), few_shapes=few_shapes)
    # Found here and not on a GPU, which would have to finish all its work before it knew their number.
    rows = torch.nonzero(shifted).squeeze(1)
    ids, positions, targets, shifted, rows = (
        to_device(part, device) for part in (ids, positions, targets, shifted, rows)
    )
    return MicroBatch(tuple(numbers), lengths, ids, positions, needed, targets, shifted, rows)


def _part_of(sequence: SequenceGroup, tokens: Sequence[torch.Tensor], *, few_shapes: bool) -> tuple[torch.Tensor, ...]:
    """Fill ids, positions, targets and weights up, and return this process's part of each."""
    computed = tokens[0].shape[0]
    part = -(-computed // sequence.size)
    missing = (round_up(part) if few_shapes else part) * sequence.size - computed
    ids, positions, targets, weights = tokens
    positions = torch.cat([positions, torch.arange(missing)])
    filled = (F.pad(ids, (0, missing)), positions, F.pad(targets, (0, missing)), F.pad(weights, (0, missing)))
    held = sequence.part_of(computed + missing)
    return tuple(tensor[held] for tensor in filled)


def _needed(weights: torch.Tensor) -> int:
    """Return the number of tokens up to the last one that predicts a trained token; at least 1."""
    predicting = torch.nonzero(weights)
    return int(predicting[-1]) + 1 if len(predicting) else 1

"""The optimizer's moments of 8 bits in a checkpoint: codes, and one scale for each block of 256 of them.

Between `capture` and the files. A process's blocks begin at its first row (see `step.eight_bit`). Rows that began at a
block where they were written have the same bits when they are read. Others are unpacked and packed again into the
blocks that the process uses now, which rounds them once more.
"""

from __future__ import annotations

import torch

from instil.training.checkpoints.checkpoint import Checkpoint
from instil.training.step.eight_bit import BLOCK

SCALES = {"state1": "absmax1", "state2": "absmax2"}
"""Names of the scales of bitsandbytes' moments."""
TABLES = {"state1": "qmap1", "state2": "qmap2"}
"""Names of the tables with the value of each code."""


def count_blocks(numbers: int) -> int:
    """Return how many blocks hold so many numbers.

    Example:
        >>> count_blocks(0), count_blocks(256), count_blocks(257)
        (0, 1, 2)
    """
    return -(-numbers // BLOCK)


def scales_before(rows: int, width: int, *, num_ranks: int, start: int) -> tuple[int, int]:
    """Return how many scales of a sharded weight lie before a row at which a shard begins, and how many there are.

    Args:
        rows: Rows of the whole weight.
        width: Numbers of a row.
        num_ranks: Processes that share the rows; each holds as many as the first, as long as there are some.
        start: The shard's first row.

    Example:
        >>> scales_before(9, 100, num_ranks=2, start=5)  # 500 numbers in 2 blocks, 400 in 2
        (2, 4)
    """
    each = -(-rows // num_ranks)
    counts = [count_blocks(min(each, rows - first) * width) for first in range(0, rows, each)]
    return sum(counts[: -(-start // each)]), sum(counts)


def read_moments(
    checkpoint: Checkpoint, name: str, key: str, *, start: int, stop: int, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Read the moments of some rows of a weight.

    Args:
        checkpoint: The checkpoint.
        name: Name of the weight.
        key: A key of `SCALES`.
        start: First row.
        stop: Row after the last one.
        table: Value of each code.

    Returns:
        Codes [rows, ...], scales [blocks], and whether they were packed again.
    """
    pieces: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    all_codes = checkpoint.pieces_of("optimizer", f"{name}::{key}")
    all_scales = checkpoint.pieces_of("optimizer", f"{name}::{SCALES[key]}")
    for (first, codes), (_, scales) in zip(all_codes, all_scales, strict=True):
        if first < stop and start < first + codes.shape[0]:
            pieces.append((first, codes, scales))
    width = pieces[0][1][0].numel()
    if all((first - start) * width % BLOCK == 0 for first, _, _ in pieces):
        return (*_as_they_are(pieces, start, stop), False)
    values = torch.cat([_unpack(codes, scales, table) for _, codes, scales in pieces])
    values = values[start - pieces[0][0] : stop - pieces[0][0]].contiguous()
    packed, scales = torch.ops.bitsandbytes.quantize_blockwise(values, table, BLOCK)
    return packed.view(values.shape), scales, True


def _as_they_are(
    pieces: list[tuple[int, torch.Tensor, torch.Tensor]], start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    some_codes, some_scales = [], []
    for first, codes, scales in pieces:
        width = codes[0].numel()
        begin, end = max(start - first, 0), min(stop - first, codes.shape[0])
        some_codes.append(codes[begin:end])
        some_scales.append(scales[begin * width // BLOCK : count_blocks(end * width)])
    return torch.cat(some_codes), torch.cat(some_scales)


def _unpack(codes: torch.Tensor, scales: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    values = table[codes.reshape(-1).int()]
    return (values * scales.repeat_interleave(BLOCK)[: values.numel()]).view(codes.shape)

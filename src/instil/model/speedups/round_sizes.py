"""Round sizes up, so that a CPU is asked for few shapes of half-precision matrix products.

oneDNN, which computes bf16 products on a CPU, generates code for every shape that it meets and keeps it as long as the process
lives: about 0.7 MB and 2 ms a shape, whatever the capacity of its cache (docs/notes/model.md). A run over examples of all lengths
would grow without end. Rounded up to sixteen sizes between one power of two and the next, it meets a few dozen. What is added
carries weight 0 and changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from instil.model.attention.layout import positions_of
from instil.model.loss.neftune import NoiseKey

SMALLEST_GRAIN = 32
SIZES_AN_OCTAVE = 16


def grain_of(size: int) -> int:
    """Give the multiple that a size is rounded up to: a sixteenth of the power of two below it, at least 32.

    Example:
        >>> grain_of(300), grain_of(1024), grain_of(1025), grain_of(5000)
        (32, 32, 64, 256)
    """
    return max(SMALLEST_GRAIN, 2 ** ((size - 1).bit_length() - 1) // SIZES_AN_OCTAVE) if size > 1 else SMALLEST_GRAIN


def round_up(size: int) -> int:
    """Give the rounded size; 0 stays 0.

    Example:
        >>> round_up(1), round_up(300), round_up(1500), round_up(5000)
        (32, 320, 1536, 5120)
    """
    grain = grain_of(size)
    return -(-size // grain) * grain


def fill_up(
    tokens: Sequence[torch.Tensor], lengths: Sequence[int], noise_keys: Sequence[NoiseKey] | None
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], Sequence[NoiseKey] | None]:
    """Lay one more example behind the others, so that the micro-batch has a rounded size.

    It comes last, where a causal model shows it to nobody, also one that mixes examples that lie end to end.

    Args:
        tokens: Ids, positions, targets and weights, each [T].
        lengths: Tokens of each example.
        noise_keys: Keys of the embedding noise, or None.

    Returns:
        The same with the filler behind: zeros with positions of their own.

    Example:
        >>> ids = torch.ones(30, dtype=torch.int64)
        >>> (_, positions, _, weights), lengths, _ = fill_up([ids, ids, ids, ids.float()], [30], None)
        >>> positions[-3:].tolist(), weights[-3:].tolist(), lengths
        ([1, 0, 1], [1.0, 0.0, 0.0], (30, 2))
    """
    missing = round_up(tokens[0].shape[0]) - tokens[0].shape[0]
    if missing == 0:
        return tuple(tokens), tuple(lengths), noise_keys
    ids, positions, targets, weights = tokens
    filler = positions_of([missing]).to(positions)
    filled = (F.pad(ids, (0, missing)), torch.cat([positions, filler]), F.pad(targets, (0, missing)), F.pad(weights, (0, missing)))  # fmt: skip
    return filled, (*lengths, missing), None if noise_keys is None else (*noise_keys, NoiseKey(0, missing))

"""Whether a model is answered by the plain steps, proved on its own weights; and the rows that they answer.

The proof compares logits with the model's own forward: a prompt in two pieces, one row alone, two rows together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from instil.generation.decoder.steps import Piece, Steps
from instil.generation.decoder.weights import lay_out, why_not_plain

READ_TOKENS = 512
"""Most tokens of prompts in one pass."""
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}
"""Largest difference of a logit, over the largest logit of the model's own forward."""
_PROOF_TOKENS, _PROOF_PIECE = 24, 18


class PlainRows:
    """Rows that are answered together by plain steps. `Decoder` of `generation.decoding` has the same methods.

    Args:
        steps: The model's forward passes.

    Attributes:
        takes_more: Whether `add` may be called while there are rows.
        num_reused: For each prompt of the last `add`, how many of its tokens were known and not computed again.
    """

    takes_more = True

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._slots = steps.slots()
        # The tokens of each row that its slot holds.
        self._ids: list[list[int]] = []
        self.num_reused: list[int] = []

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts into new rows, behind the others; return the fp32 logits [B, V] of their first new tokens."""
        first = len(self._slots.lengths)
        self._slots.reserve(first + len(prompts), max(map(len, prompts)) + 1)
        self._slots.lengths += [0] * len(prompts)
        rows = range(first, first + len(prompts))
        self.num_reused = [self._reuse(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
        rests = [prompt[count:] for prompt, count in zip(prompts, self.num_reused, strict=True)]
        logits: dict[int, Tensor] = {}
        for pieces in _passes([Piece(row, rest) for row, rest in zip(rows, rests, strict=True)]):
            # A row of several pieces keeps the logits of the last.
            logits |= zip([piece.row for piece in pieces], self._steps.read(pieces, self._slots), strict=True)
        self._ids += [list(prompt) for prompt in prompts]
        return torch.stack([logits[row] for row in rows]).float()

    def _reuse(self, row: int, prompt: Sequence[int]) -> int:
        return 0 if self._steps.prefixes is None else self._steps.prefixes.copy_to(self._slots, row, prompt)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Append one token per row, [B]; return the fp32 logits [B, V] of the next one."""
        logits = self._steps.step(tokens, self._slots).float()
        for ids, token in zip(self._ids, tokens.tolist(), strict=True):
            ids.append(token)
        return logits

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and drop the others, which the model's `prefixes` may keep."""
        if self._steps.prefixes is not None:
            for row in sorted(set(range(len(self._ids))) - set(rows)):
                self._steps.prefixes.keep(self._slots, row, self._ids[row])
        self._slots.keep(rows)
        self._ids = [self._ids[row] for row in rows]


def _passes(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Cut pieces into passes of at most `READ_TOKENS` tokens.

    Example:
        >>> [[(piece.row, len(piece.ids)) for piece in one] for one in _passes([Piece(0, [1] * 500), Piece(1, [2] * 30)])]
        [[(0, 500), (1, 12)], [(1, 18)]]
    """
    passes: list[list[Piece]] = [[]]
    room = READ_TOKENS
    for piece in pieces:
        ids = piece.ids
        while len(ids):
            if not room:
                passes.append([])
                room = READ_TOKENS
            passes[-1].append(Piece(piece.row, ids[:room]))
            ids, room = ids[room:], room - len(passes[-1][-1].ids)
    return passes


def places_of(model: nn.Module) -> tuple[int, ...]:
    """Return where the parameters of a model lie. An adapter, new rows or another type change it; training does not."""
    return tuple(parameter.data_ptr() for parameter in model.parameters())


def versions_of(model: nn.Module) -> tuple[int, ...]:
    """Return how often the parameters of a model were written in place, as by training or by loading other weights."""
    return tuple(0 if parameter.is_inference() else parameter._version for parameter in model.parameters())


def plain_steps(model: nn.Module) -> Steps | str:
    """Return the plain steps of a model, proved on its weights, or why it has none.

    The parameters of the model's projections become parts of larger tensors, with the same values.
    """
    if (reason := why_not_plain(model)) is not None:
        return reason
    steps = Steps(lay_out(model))
    difference = _difference(model, steps)
    allowed = _TOLERANCE[next(model.parameters()).dtype]
    # A difference that is no number is refused too.
    if not difference <= allowed:
        return f"its logits differ from the model's own by {difference:.2g} of the largest; allowed is {allowed:g}"
    return steps


@torch.inference_mode()
def _difference(model: nn.Module, steps: Steps) -> float:
    """Return how far the logits of the steps are from those of the model's forward, over its largest logit."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    ids = torch.randint(vocabulary, (2, _PROOF_TOKENS + 2), generator=generator)
    expected = model(input_ids=ids, use_cache=False).logits.float()
    slots, found = steps.slots(), []
    # The first row in two pieces, and a step alone; then the second row, and a step together. So libraries multiply (18
    # and 24 rows) and compiled code does (1, 2 and 6 rows, the last by tiles where there are some), 20 ms to compile each.
    slots.reserve(1, _PROOF_TOKENS)
    slots.lengths = [0]
    steps.read([Piece(0, ids[0, :_PROOF_PIECE].tolist())], slots)
    rest = Piece(0, ids[0, _PROOF_PIECE:_PROOF_TOKENS].tolist())
    found.append((0, _PROOF_TOKENS - 1, steps.read([rest], slots)[0]))
    found.append((0, _PROOF_TOKENS, steps.step(ids[0, _PROOF_TOKENS : _PROOF_TOKENS + 1], slots)[0]))
    slots.reserve(2, _PROOF_TOKENS)
    slots.lengths.append(0)
    found.append((1, _PROOF_TOKENS - 1, steps.read([Piece(1, ids[1, :_PROOF_TOKENS].tolist())], slots)[0]))
    together = steps.step(torch.stack([ids[0, _PROOF_TOKENS + 1], ids[1, _PROOF_TOKENS]]), slots)
    found += [(0, _PROOF_TOKENS + 1, together[0]), (1, _PROOF_TOKENS, together[1])]
    largest = expected.abs().max()
    differences = [(logits.float() - expected[row, place]).abs().max() / largest for row, place, logits in found]
    return float(torch.stack(differences).max())

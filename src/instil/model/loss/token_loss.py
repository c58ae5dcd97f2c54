"""The loss of a flat micro-batch as one module: ids in, weighted loss sum out.

Sharding, replication and compilation act on `TokenLoss`, because FSDP2 breaks if a head is called outside the root's
forward. Nothing here divides: the caller counts the trained weight of the complete step over all processes, and divides
once.

Why: the gradient of the head and of the loss is computed in the forward pass, chunk by chunk, while a chunk's logits
exist. The backward pass only passes it on. No logits are kept or computed twice.

If several processes share the tokens of a micro-batch, each of them returns the loss sum of its own tokens. Those add up
to the loss sum of one process, and so do their gradients.

Shapes: T tokens that this process holds of a micro-batch, N of them trained, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from instil.errors import ModelError
from instil.model.attention.flat import LAYOUT_KEYWORD
from instil.model.attention.layout import FlatLayout, positions_of, set_active_layout
from instil.model.attention.sequence import SequenceGroup
from instil.model.loss.chunked import head_log_probabilities, head_loss_sum
from instil.model.loss.neftune import EmbeddingNoise, NoiseKey
from instil.model.loss.objectives import TOKEN_LOSSES
from instil.model.loss.router import passes_keywords, router_coefficient_of, router_loss
from instil.model.parts import take_apart
from instil.model.speedups.round_sizes import round_up
from instil.model.to_device import send
from instil.model.underlying import underlying

T = TypeVar("T")
Reweigh: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From the log-probability of each example [E] to a factor for the weights of its tokens [E]."""


def targets_of(
    input_ids: torch.Tensor, weights: torch.Tensor, lengths: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each position predicts, and the weight of that prediction: training's only shift.

    Args:
        input_ids: T ids, examples end to end.
        weights: T weights; ``weights[t]`` is the weight of predicting ``input_ids[t]`` (see `conversation.Example`).
        lengths: Number of tokens of each example.

    Returns:
        T targets and T fp32 weights, at the positions that predict. The last position of an example predicts nothing:
        its weight is 0.

    Example:
        >>> targets, weights = targets_of(torch.tensor([5, 6, 7, 8, 9]), torch.tensor([0.0, 1, 1, 0, 1]), [3, 2])
        >>> targets.tolist(), weights.tolist()
        ([6, 7, 8, 9, 5], [1.0, 1.0, 0.0, 1.0, 0.0])
    """
    targets = torch.roll(input_ids, -1)
    shifted = torch.roll(weights.float(), -1)
    ends = send(list(lengths), weights.device).cumsum(0) - 1
    shifted[ends] = 0.0
    return targets, shifted


class TokenLoss(nn.Module):
    """The weighted loss sum of whole examples laid end to end.

    Attributes:
        model: The causal language model, transformers' or peft's around it, with instil's attention.
        few_shapes: Whether micro-batches get a rounded size.
        sequence: The processes that share the tokens of each micro-batch, or None.
        gradient_scale: Factor that the backward pass will put on the loss. Only fp16 needs it: gradients of the head
            are computed in the forward pass and would underflow there. Apart from rounding, the result does not depend
            on it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: str = "cross_entropy",
        router_coefficient: float | None = None,
        neftune_alpha: float | None = None,
        chunk_bytes: int | None = None,
        few_shapes: bool = False,
        sequence: SequenceGroup | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: The causal language model.
            loss: Name in `objectives.TOKEN_LOSSES`.
            router_coefficient: Coefficient of a mixture's load-balancing loss; None for the model's config, else 0.
            neftune_alpha: Scale of the embedding noise in training mode; None for no noise.
            chunk_bytes: Memory for the logits of one chunk; None chooses by device.
            few_shapes: Pad micro-batches to a rounded size, for half precision on a CPU (see `speedups.round_sizes`).
            sequence: The processes that share the tokens of each micro-batch; None if this one holds all of them.
        """
        super().__init__()
        self.model = model
        self.gradient_scale = 1.0
        self._token_loss = TOKEN_LOSSES[loss]
        self._chunk_bytes = chunk_bytes
        self.few_shapes = few_shapes
        self.sequence = sequence
        self._router_coefficient = router_coefficient_of(underlying(model), router_coefficient)
        self._keywords = passes_keywords(take_apart(model).decoder)
        self._noise = None if neftune_alpha is None else EmbeddingNoise(underlying(model), alpha=neftune_alpha)

    @property
    def router_coefficient(self) -> float:
        """Coefficient of the load-balancing loss; 0 for none."""
        return float(self._router_coefficient)

    @property
    def sees_every_token(self) -> bool:
        """Whether tokens that predict nothing trained count too: a router loss covers all tokens of an example."""
        return bool(self._router_coefficient)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        lengths: Sequence[int],
        targets: torch.Tensor,
        weights: torch.Tensor,
        noise_keys: Sequence[NoiseKey] | None = None,
        reweigh: Reweigh | None = None,
        *,
        trained_rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss sum: each trained position's loss times its weight, plus the router loss.

        The router loss is computed for each example and multiplied by the example's trained weight. After the division
        by the step's trained weight it is the token-weighted mean over the step's examples, whatever the micro-batches.

        Args:
            input_ids: T ids of complete examples, end to end. Of tokens that processes share, this process's part.
            position_ids: T positions, from 0 in each example.
            lengths: Number of tokens of each example; their sum is T. Of tokens that processes share, the lengths of
                all examples; tokens after them fill up the last part.
            targets: T ids; ``targets[t]`` is what position t predicts (see `targets_of`). Ignored where the weight is
                0.
            weights: T fp32 weights of those predictions. If all are 0, the loss is 0 and every parameter gets a
                gradient of 0.
            noise_keys: One key for each example's embedding noise (see `NoiseKey`). No noise for None or in eval mode.
            reweigh: For objectives of whole answers: receives the log-probability of each example, fp64 [E], a weighted
                sum over its trained tokens, and returns the factors [E] that the weights of its tokens get. They may be
                negative.
            trained_rows: Indices [N] of the positions whose weight is not 0. If None they are found on the device, for
                whose earlier work a GPU's host then has to wait.

        Returns:
            The loss sum, an fp32 scalar.

        Raises:
            ModelError: If the lengths do not add up to T.
        """
        num_examples, sequence = len(lengths), self.sequence
        filling = input_ids.shape[0] * (1 if sequence is None else sequence.size) - sum(lengths)
        if filling < 0 or (filling and sequence is None):
            raise ModelError(
                f"TokenLoss: lengths add up to {sum(lengths)}, but there are {input_ids.shape[0]} tokens. "
                "Expected the length of every example."
            )
        if filling:
            lengths = (*lengths, filling)
            noise_keys = None if noise_keys is None else (*noise_keys, NoiseKey(0, filling))
        elif self.few_shapes and sequence is None:
            tokens = (input_ids, position_ids, targets, weights)
            (input_ids, position_ids, targets, weights), lengths, noise_keys = _fill_up(tokens, lengths, noise_keys)
        layout = FlatLayout.of(lengths, device=input_ids.device, sequence=sequence)
        outputs = self._decode(input_ids, position_ids, layout, noise_keys)
        rows, row_weights = self._trained_rows(weights, trained_rows)
        states, row_targets = outputs.last_hidden_state[0].index_select(0, rows), targets.index_select(0, rows)
        if reweigh is not None:
            found = head_log_probabilities(
                states, row_targets, parts=take_apart(self.model), chunk_bytes=self._chunk_bytes
            )
            sums, factors = _reweigh(found * row_weights, rows, layout, reweigh, num_examples=num_examples)
            if not torch.is_grad_enabled():
                # Every process of a group has the sums of complete examples, and counts its share of them.
                return -(sums * factors).sum().float() / (1 if sequence is None else sequence.size)
            row_weights = row_weights * factors.float().index_select(0, layout.owners(rows + layout.part.start))
        total = head_loss_sum(
            states,
            row_targets,
            row_weights,
            parts=take_apart(self.model),
            token_loss=self._token_loss,
            gradient_scale=self.gradient_scale,
            chunk_bytes=self._chunk_bytes,
        )
        if self._router_coefficient:
            total = total + self._router_coefficient * router_loss(
                underlying(self.model), outputs.router_logits, weights, layout
            )
        return total

    def inside(self, compute: Callable[[], T]) -> T:
        """Return what a function computes with the model, as a part of this module's forward pass.

        Weights in shards are gathered for it as for `forward`. Every process has to call it.
        """
        return compute()

    def _trained_rows(self, weights: torch.Tensor, rows: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the indices and fp32 weights of the rows that the head computes; padding rows have weight 0."""
        if rows is None:
            rows = torch.nonzero(weights).squeeze(1)
        row_weights = weights.index_select(0, rows).float()
        missing = round_up(rows.shape[0]) - rows.shape[0] if self.few_shapes else 0
        return F.pad(rows, (0, missing)), F.pad(row_weights, (0, missing))

    def _decode(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: FlatLayout,
        noise_keys: Sequence[NoiseKey] | None,
    ) -> Any:
        set_active_layout(layout)
        keywords: dict[str, Any] = {LAYOUT_KEYWORD: layout} if self._keywords else {}
        if self._router_coefficient:
            keywords["output_router_logits"] = True
        decoder = take_apart(self.model).decoder
        if self._noise is None:
            return decoder(input_ids=input_ids[None], position_ids=position_ids[None], use_cache=False, **keywords)
        with self._noise.keyed(noise_keys if self.training else None, layout):
            return decoder(input_ids=input_ids[None], position_ids=position_ids[None], use_cache=False, **keywords)


def _reweigh(
    weighted: torch.Tensor, rows: torch.Tensor, layout: FlatLayout, reweigh: Reweigh, *, num_examples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each example, and its factor; both fp64, and 0 for examples that fill up.

    Args:
        weighted: Log-probability times weight of each trained row [N].
        rows: Indices of those rows [N] among the tokens of this process.
        layout: The examples, those that fill up included.
        reweigh: Gives the factors of the first `num_examples`.
        num_examples: Examples that do not fill up.
    """
    sums = torch.zeros(len(layout.lengths), dtype=torch.float64, device=weighted.device)
    sums.index_add_(0, layout.owners(rows + layout.part.start), weighted.double())
    if layout.sequence is not None:
        sums = layout.sequence.sum(sums)
    return sums, F.pad(reweigh(sums[:num_examples]), (0, len(layout.lengths) - num_examples))


def _fill_up(
    tokens: Sequence[torch.Tensor], lengths: Sequence[int], noise_keys: Sequence[NoiseKey] | None
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...], Sequence[NoiseKey] | None]:
    """Append a filler example, so that the micro-batch has a rounded size.

    It comes last, where no token of a causal model sees it, even if the architecture mixes examples that lie end to
    end.

    Args:
        tokens: Ids, positions, targets and weights, each [T].
        lengths: Number of tokens of each example.
        noise_keys: Keys of the embedding noise, or None.

    Returns:
        The three with the filler appended: ids, targets and weights of 0, and positions of its own.

    Example:
        >>> ids = torch.ones(30, dtype=torch.int64)
        >>> (_, positions, _, weights), lengths, _ = _fill_up([ids, ids, ids, ids.float()], [30], None)
        >>> positions[-3:].tolist(), weights[-3:].tolist(), lengths
        ([1, 0, 1], [1.0, 0.0, 0.0], (30, 2))
    """
    missing = round_up(tokens[0].shape[0]) - tokens[0].shape[0]
    if missing == 0:
        return tuple(tokens), tuple(lengths), noise_keys
    ids, positions, targets, weights = tokens
    filler = positions_of([missing]).to(positions)
    ids, targets, weights = (F.pad(tensor, (0, missing)) for tensor in (ids, targets, weights))
    filled = (ids, torch.cat([positions, filler]), targets, weights)
    return filled, (*lengths, missing), None if noise_keys is None else (*noise_keys, NoiseKey(0, missing))

"""Proves, before the first step, that a model computes the same in a flat micro-batch as alone and as in transformers.

Four questions, on a few random tokens:

1. Does instil's attention give what the model gives with transformers' own masks?
2. Are `head` and `adjust` together the model's own logits?
3. Does a token see nothing of the tokens after it?
4. Does an example in a flat micro-batch see nothing of its neighbours?

Where several processes share the tokens of an example there is a fifth one: do tokens reach each other through
attention alone, and is a part of the tokens computed like all of them? If not, the model is refused for such a run.

If one of the first three fails, the model is refused. If the fourth fails, each forward pass holds one example:
convolutions and state-space layers mix neighbours whatever the attention does.

Why: leaks are found by changing the neighbours, besides comparing numbers. The example's result must not move at all,
which can be seen in any precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from instil.errors import ModelError
from instil.model.attention.flat import LAYOUT_KEYWORD
from instil.model.attention.layout import FlatLayout, positions_of, set_active_layout
from instil.model.attention.rotary import mixes_lengths
from instil.model.attention.sequence import part_of
from instil.model.attention.switch import set_attention
from instil.model.device_memory import is_out_of_memory
from instil.model.folder.config import context_length, reason_of
from instil.model.loss.router import passes_keywords
from instil.model.parts import HeadParts, take_apart
from instil.model.underlying import underlying

LENGTHS = (13, 9, 11)
PAIRS_PER_PART = 3
"""Pairs of tokens of each part, where a model is asked whether its tokens can be divided over processes."""
SAME = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.03}
"""Largest difference, in standard deviations of the values, that rounding explains between two ways of computing."""
UNMOVED = 1e-4
"""The same for one way of computing, after only the neighbours' tokens changed."""
MIXTURE_UNMOVED = 0.1
"""The same in a mixture: its experts then get other numbers of tokens, and round differently."""
CANNOT_COMPUTE = (TypeError, RuntimeError, ValueError, AttributeError, LookupError, NotImplementedError, AssertionError)
"""What an architecture's code raises if it cannot compute without masks, or if its config does not fit it."""


@contextmanager
def refuse_what_fails(model: Any) -> Iterator[None]:
    """Turn an exception from transformers' code for an architecture, in a forward pass as in training, into one line.

    Raises:
        ModelError: With the reason. Out-of-memory errors pass through.
    """
    try:
        yield
    except CANNOT_COMPUTE as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{_name(model)}: transformers' code for this architecture fails in a forward pass as in "
            f"training ({reason_of(error)}). Expected one that computes without masks and caches, and a config.json "
            "that fits it. Choose another model."
        ) from error


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Attributes:
        one_by_one: Whether each forward pass must hold one example only.
        moved: How far an example's states moved when its neighbours changed, in standard deviations of the states.
        apart: Largest difference between flat and alone, in the same unit.
        because: The reason for `one_by_one` in words; empty if examples are laid end to end.
    """

    one_by_one: bool
    moved: float
    apart: float
    because: str = ""

    @property
    def words(self) -> str:
        """The line of the run card."""
        if self.one_by_one:
            return f"{self.because}, so each forward pass holds one example"
        return "examples are laid end to end without padding; none sees another"


def probe(
    model: Any, *, longest: int = 0, seed: int = 0, processes: int = 1, dtype: torch.dtype | None = None
) -> Probe:
    """Compare a model on a flat micro-batch with the same model on single examples.

    Call it before weights are sharded, or in `TokenLoss.inside`. Afterwards the model is as it was, with the attention
    of training.

    Args:
        model: transformers' model, or peft's around it.
        longest: Number of tokens of the longest example of the run.
        seed: Seed of the random tokens.
        processes: Processes that share the tokens of an example.
        dtype: Type of the arithmetic; None for that of the weights, which shards do not show.

    Returns:
        Whether examples may lie end to end, and the measurements.

    Raises:
        ModelError: If the model would be trained wrongly, because alone it differs from transformers' own, a token sees
            later ones, or the result depends on earlier forward passes. Also if its tokens cannot be divided over
            processes and there is more than one.
    """
    parts, dtype = take_apart(model), dtype or _dtype(model)
    examples = _draw(parts.vocabulary, seed, device=_device(model))
    with refuse_what_fails(model), _still(model), torch.no_grad():
        set_attention(model, "generation")
        own = [underlying(model)(input_ids=ids[None], use_cache=False).logits[0].float() for ids in examples]
        set_attention(model, "training")
        alone = [_states(parts, [ids]) for ids in examples]
        _check_own(model, parts, alone, own)
        _check_causal(model, parts, examples[1], alone[1], dtype)
        flat = _states(parts, examples)
        others = _draw(parts.vocabulary, seed + 1, device=_device(model))
        changed = _states(parts, [others[0], examples[1], others[2]])
    middle = slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])
    moved = _apart(flat[middle], changed[middle])
    apart = _apart(flat, torch.cat(alone))
    because = ""
    if moved > _unmoved(model, dtype) or apart > SAME.get(dtype, SAME[torch.bfloat16]):
        because = "this architecture mixes examples that are laid end to end"
    elif mixes_lengths(model, longest):
        because = "its rotary frequencies depend on the length of an example"
    elif _has_mask_table(model):
        because = "its mask is a table that has room for one example"
    if processes > 1:
        if because:
            raise ModelError(_cannot_divide(model, processes, because))
        with refuse_what_fails(model), _still(model), torch.no_grad():
            _check_divisible(model, parts, processes, seed=seed, dtype=dtype)
    return Probe(bool(because), moved, apart, because)


def _draw(vocabulary: int, seed: int, *, device: torch.device) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocabulary, (length,), generator=generator).to(device) for length in LENGTHS]


def _states(parts: HeadParts, examples: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the decoder's states [T, D] for these examples laid end to end."""
    lengths = [len(ids) for ids in examples]
    return _states_at(parts, torch.cat(list(examples)), positions_of(lengths), lengths)


def _states_at(parts: HeadParts, ids: torch.Tensor, positions: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Return the decoder's states [T, D] for tokens at given positions, which attend inside the lengths."""
    layout = FlatLayout.of(lengths, device=ids.device)
    set_active_layout(layout)
    keywords: dict[str, Any] = {LAYOUT_KEYWORD: layout} if passes_keywords(parts.decoder) else {}
    positions = positions.to(ids.device)
    states: torch.Tensor = parts.decoder(
        input_ids=ids[None], position_ids=positions[None], use_cache=False, **keywords
    ).last_hidden_state[0]
    return states


def _check_own(model: Any, parts: HeadParts, alone: list[torch.Tensor], own: list[torch.Tensor]) -> None:
    for states, logits in zip(alone, own, strict=True):
        ours = parts.adjust(parts.head(parts.to_head(states))).float()
        apart = _apart(ours, logits)
        if apart > SAME.get(states.dtype, SAME[torch.bfloat16]):
            raise ModelError(
                f"{_name(model)}: computed for training, its logits differ from transformers' own by "
                f"{apart:.2g} standard deviations. This architecture has an attention or a logit scale that instil "
                "does not know, and is refused rather than trained wrongly. Choose another model."
            )


def _check_causal(model: Any, parts: HeadParts, ids: torch.Tensor, states: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse a model whose tokens see later ones: another last token must not move the states before it."""
    other = ids.clone()
    other[-1] = (other[-1] + 1) % parts.vocabulary
    moved = _apart(_states(parts, [other])[:-1], states[:-1])
    if moved > _unmoved(model, dtype):
        raise ModelError(
            f"{_name(model)}: computed for training, a token sees the tokens after it (its state moves "
            f"by {moved:.2g} standard deviations when the last token changes). Expected a causal model. Choose another "
            "model."
        )


def _check_divisible(model: Any, parts: HeadParts, processes: int, *, seed: int, dtype: torch.dtype) -> None:
    """Refuse a model whose tokens cannot be divided over processes.

    The tokens of one example attend in pairs here. Whatever else passes between them then shows: a pair moves when
    the tokens of another one change, or a part of the pairs differs from the same pairs among all.
    """
    pairs = PAIRS_PER_PART * processes
    positions, generator = torch.arange(2 * pairs), torch.Generator().manual_seed(seed)
    ids = torch.randint(0, parts.vocabulary, (2 * pairs,), generator=generator)
    changed = ids.clone()
    kept = positions % 4 < 2
    changed[~kept] = (ids[~kept] + 1) % parts.vocabulary  # every second pair
    ids, changed = ids.to(_device(model)), changed.to(_device(model))
    whole = _states_at(parts, ids, positions, [2] * pairs)
    others = _states_at(parts, changed, positions, [2] * pairs)
    if _apart(others[kept], whole[kept]) > _unmoved(model, dtype):
        raise ModelError(_cannot_divide(model, processes, "its states cross tokens outside attention"))
    places = [part_of(2 * pairs, rank=rank, size=processes) for rank in range(processes)]
    divided = [_states_at(parts, ids[part], positions[part], [2] * PAIRS_PER_PART) for part in places]
    if _apart(torch.cat(divided), whole) > SAME.get(dtype, SAME[torch.bfloat16]):
        raise ModelError(_cannot_divide(model, processes, "it computes a part of an example's tokens in another way"))


def _cannot_divide(model: Any, processes: int, because: str) -> str:
    return (
        f"parallel.sequence: {processes}, but {_name(model)} cannot share the tokens of an example: {because}. "
        "Expected a model whose tokens reach each other in instil's attention alone. Set parallel.sequence: 1."
    )


def _has_mask_table(model: Any) -> bool:
    """Return whether a model's own attention has a mask of fixed size (GPT-Neo), too small for a row of examples."""
    inner = underlying(model)
    limit = context_length(inner.config)
    return not inner._can_set_attn_implementation() and any(
        buffer.ndim > 1 and buffer.shape[-2:] == (limit, limit) for buffer in model.buffers()
    )


def _unmoved(model: Any, dtype: torch.dtype) -> float:
    """Return how far a state may move by rounding alone, in standard deviations."""
    return MIXTURE_UNMOVED if _is_mixture(model) and dtype != torch.float32 else UNMOVED


def _name(model: Any) -> str:
    return type(underlying(model)).__name__


def _dtype(model: Any) -> torch.dtype:
    dtype: torch.dtype = next(value.dtype for value in model.parameters() if value.is_floating_point())
    return dtype


def _apart(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference, in standard deviations of the second tensor."""
    first, second = first.float(), second.float()
    return float((first - second).abs().max() / second.std().clamp_min(1e-12))


def _is_mixture(model: Any) -> bool:
    config = underlying(model).config.get_text_config()
    return any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))


def _device(model: Any) -> torch.device:
    device: torch.device = underlying(model).get_input_embeddings().weight.device
    return device


@contextmanager
def _still(model: Any) -> Iterator[None]:
    """Switch dropout and noise off inside the context."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        set_attention(model, "training")

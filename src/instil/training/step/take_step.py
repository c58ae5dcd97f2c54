"""One optimizer step: count the trained weight, sum gradients over micro-batches and processes, move the weights.

The trained weight of the step is known before the first forward pass. Each micro-batch's loss sum is divided by it at
once, so that gradients only have to be added.

Why: a step that does not fit into memory, or overflows in fp16, is repeated from its start with half the micro-batch or
half the loss scale. Every attempt seeds the generators again, so it draws the same random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from instil.errors import NonFiniteError, OutOfMemoryError, TrainingError
from instil.model.device_memory import is_out_of_memory
from instil.preparation.store import ExampleStore
from instil.training.step.clock import Clock
from instil.training.step.learner import Cut, Learner
from instil.training.step.optimizer import set_learning_rate
from instil.training.step.order import Members, step_seed
from instil.training.step.passes import forward, lay_out, my_share, name_rows, smaller_cut
from instil.training.step.precision import FIRST_LOSS_SCALE
from instil.training.step.preference_step import Compared, add_up_preferences, share_of_answers

SCALE_GROWS_AFTER = 1000
"""Steps after which fp16's loss scale is doubled again."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The outcome of a step.

    Attributes:
        loss: Weighted mean loss of the step's trained tokens, before the update; of preferences, the mean over pairs.
        gradient_norm: Global norm before clipping.
        tokens: Tokens of the step, context included.
        trained_tokens: Tokens with a weight above 0.
        moved: Whether the weights moved; False if the step was skipped.
        cut: The cut that worked, for the next step.
        seconds: Seconds by phase.
        compared: What was found about the step's answers, where a run learns from preferences.
    """

    loss: float
    gradient_norm: float
    tokens: int
    trained_tokens: int
    moved: bool
    cut: Cut
    seconds: dict[str, float]
    compared: Compared | None = None


def take_step(
    learner: Learner,
    members: Members,
    *,
    cut: Cut,
    seed: int,
    learning_rate: float,
    clip: float | None = None,
    skip_nonfinite: bool = False,
    say: Callable[[str], None] = print,
) -> StepResult:
    """Train on the examples of one step.

    Args:
        learner: What trains.
        members: The step's examples.
        cut: How to compute it.
        seed: The run's seed.
        learning_rate: Learning rate of this step.
        clip: Maximum gradient norm, or None.
        skip_nonfinite: Whether to skip the step if loss or gradient is not finite, instead of raising.
        say: Prints a line for the user.

    Returns:
        The outcome. The weights have moved, unless `moved` is False.

    Raises:
        TrainingError: If no token of the step is trained.
        NonFiniteError: If loss or gradient is not finite. The weights have not moved.
        OutOfMemoryError: If a single example does not fit, or, with several processes, any micro-batch.
    """
    clock = Clock(learner.ranks.device)
    while True:
        sums = _try_to_add_up(learner, members, cut, seed, clock)
        # Out of memory: again with half of the largest micro-batch.
        if sums is None:
            learner.weights.clear_gradients()
            cut = smaller_cut(
                learner,
                learner.store,
                share_of_answers(learner, learner.store, members.indices, cut).mine,
                cut,
                place=f"step {members.step}",
                remedy=(
                    "Continue with --resume --training.gradient-checkpointing on, or start another run with "
                    "data.max_tokens lower, or an adapter."
                ),
                so_far=" The weights have not moved.",
            )
            say(
                f"step {members.step}: out of memory; repeating it with micro_batch_tokens {cut.micro_batch_tokens} "
                "(the result is the same)"
            )
            continue
        clock.enter("update")
        loss, norm, tokens, trained = _read(learner, sums, _reduce(learner, scale=cut.loss_scale))
        finite = math.isfinite(loss) and math.isfinite(norm)
        # fp16 overflow: a finite loss with gradients that are not. Again with half the scale.
        if not finite and learner.scaled and cut.loss_scale > 1 and math.isfinite(loss):
            cut = replace(cut, loss_scale=cut.loss_scale / 2, scale_age=0)
            continue
        break
    if finite:
        if clip is not None and norm > clip:
            torch._foreach_mul_(learner.weights.gradients(), clip / (norm + 1e-6))
        set_learning_rate(learner.optimizers, learning_rate)
        _move(learner, members)
    learner.weights.clear_gradients()
    if not finite:
        _report_nonfinite(learner, members, loss, norm, skip=skip_nonfinite, say=say)
    return StepResult(loss, norm, tokens, trained, finite, _after_success(learner, cut), clock.seconds(), sums.compared)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the forward and backward passes of a step gave.

    Attributes:
        loss_sum: The weighted loss sum of this process, fp64 and still on the device. Not used with `compared`.
        weight: The trained weight of the step, over all processes.
        tokens: Tokens of this process's share, if it counts them; with `compared`, of all.
        trained: Trained tokens, likewise.
        compared: What was found about answers, over all processes.
    """

    loss_sum: torch.Tensor
    weight: float
    tokens: int
    trained: int
    compared: Compared | None = None


def _try_to_add_up(learner: Learner, members: Members, cut: Cut, seed: int, clock: Clock) -> _Sums | None:
    """Sum the gradients of a step; return None if memory ran out.

    The error is dropped here, because its traceback holds every tensor of the failed attempt.
    """
    try:
        return _add_up_gradients(learner, members, cut, seed, clock)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _add_up_gradients(learner: Learner, members: Members, cut: Cut, seed: int, clock: Clock) -> _Sums:
    """Run the step's forward and backward passes."""
    clock.enter("data")
    learner.weights.clear_gradients()
    total = torch.zeros((), dtype=torch.float64, device=learner.ranks.device)
    if learner.preference is not None:
        compared, tokens, trained = add_up_preferences(
            learner, learner.preference, members, cut, seed=seed, clock=clock
        )
        return _Sums(total, 1.0, tokens, trained, compared)
    weight = step_weight(learner.store, members)
    ranks = learner.ranks
    torch.manual_seed(step_seed(seed, step=members.step, rank=ranks.rank))
    factor = cut.loss_scale / weight
    learner.loss.gradient_scale = factor
    tokens = trained = 0
    for indices in my_share(learner, learner.store, members.indices, cut):
        clock.enter("data")
        batch = lay_out(learner, learner.store, indices)
        clock.enter("forward")
        loss_sum = forward(learner.loss, batch, seed=seed, epoch=members.epoch)
        clock.enter("backward")
        torch.autograd.backward(loss_sum * factor)
        total += loss_sum.detach()
        tokens, trained = tokens + batch.num_tokens * ranks.counts, trained + batch.num_trained
    return _Sums(total, weight, tokens, trained)


def step_weight(store: ExampleStore, members: Members) -> float:
    """Return the trained weight of a step over all processes. It is known before anything is computed.

    Raises:
        TrainingError: If it is 0; the message names the rows.
    """
    weight = float(store.trained_weight[list(members.indices)].sum(dtype="float64"))
    if not weight > 0:
        raise TrainingError(
            f"step {members.step}: no token of its {len(members.indices)} examples is trained "
            f"({name_rows(store, members.indices)}). Expected at least one trained token per step. "
            "Fix the weights of these rows, or set a larger training.batch_size."
        )
    return weight


@torch.no_grad()
def _reduce(learner: Learner, *, scale: float) -> torch.Tensor:
    """Sum the gradients over the processes and undo the loss scale; return their norm, on the device."""
    gradients = learner.weights.gradients()
    if not learner.sharded:
        learner.ranks.sum_gradients(gradients)
    if scale != 1.0:
        torch._foreach_mul_(gradients, 1.0 / scale)
    norm = torch.nn.utils.get_total_norm(gradients)
    full: torch.Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return full


def _read(learner: Learner, sums: _Sums, norm: torch.Tensor) -> tuple[float, float, int, int]:
    """Return the mean loss, the gradient's norm, the tokens and the trained tokens, over all processes.

    Why: loss and norm are read together. Each read waits for the device, which has nothing to do until the host has
    launched more.
    """
    if sums.compared is not None:
        return sums.compared.loss, float(norm), sums.tokens, sums.trained
    loss_sum, read_norm = torch.stack([sums.loss_sum, norm.to(sums.loss_sum)]).tolist()
    loss_sums, tokens, trained = learner.ranks.sum_numbers(loss_sum, sums.tokens, sums.trained)
    return loss_sums / sums.weight, read_norm, int(tokens), int(trained)


def _move(learner: Learner, members: Members) -> None:
    """Let the optimizers move the weights.

    In the first step an optimizer creates its state before it moves anything, and that may not fit.
    """
    try:
        for optimizer in learner.optimizers:
            optimizer.step()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"step {members.step}: the optimizer's state does not fit into memory beside weights and gradients. "
            "This step is not saved. Set adapter.kind: lora, optimizer.name: adamw_8bit, "
            "or parallel.mode: sharded over more processes."
        ) from None
    learner.weights.refresh_model()


def _report_nonfinite(
    learner: Learner, members: Members, loss: float, norm: float, *, skip: bool, say: Callable[[str], None]
) -> None:
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    where = f"step {members.step}: {what}; its rows are {name_rows(learner.store, members.indices)}"
    if not skip:
        raise NonFiniteError(
            f"{where}. The weights have not moved. Check these rows, lower optimizer.lr, or set "
            "training.on_nonfinite: skip_step."
        )
    say(f"{where}; the step is skipped")


def _after_success(learner: Learner, cut: Cut) -> Cut:
    """Return the cut for the next step: in fp16 the loss scale grows again after enough steps."""
    if not learner.scaled:
        return cut
    if cut.scale_age + 1 < SCALE_GROWS_AFTER:
        return replace(cut, scale_age=cut.scale_age + 1)
    return replace(cut, loss_scale=min(cut.loss_scale * 2, FIRST_LOSS_SCALE), scale_age=0)

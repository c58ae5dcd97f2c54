"""The reference of preference tuning: log-probabilities under the model as it starts, computed once.

They are computed before the first step, with the weights that the run starts from, and kept beside the prepared data and
in the run folder. No second model is in memory, and a new adapter's reference is its base, because an adapter starts
as zero.

Why: the model is asked in evaluation mode, without dropout and NEFTune, in one pass before any weight moves. A resumed
run loads its start weights before its checkpoint, so it can compute the same numbers again where they are lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.distributed.tensor import DTensor

from instil.errors import TrainingError
from instil.files import atomic_file
from instil.model.loss.preference import PreferenceLoss, first_loss
from instil.preparation.cache_key import fingerprint
from instil.preparation.store import ExampleStore
from instil.screen import work
from instil.training.step.learner import Cut, Learner, Reference
from instil.training.step.mismatched import mismatched
from instil.training.step.order import Order
from instil.training.step.preference_step import Compared, answers_of, compare, score_quietly, summarise

AT_ONCE = 1024
"""Examples that are scored together, so that a bar can move and long data does not fill the memory."""
FIRST_PAIRS = 8
"""Pairs that the proof before the first step looks at."""
EXACT, ROUNDED = 1e-4, 0.2
"""How far an answer's log-probability may be from its reference, in nats times the square root of its length: in fp32, and
in half precision.

Why: both are of the same weights, but a pass of another shape may be computed by another kernel. Rounding adds up over
tokens like a random walk, so one limit for answers of every length would be too strict for long ones. With the same
weights, bf16 was measured at up to 0.16 from fp32, and fp32 at up to 8e-6 from fp64 (docs/how-it-works/notes/).
"""


@dataclass(frozen=True, slots=True)
class ReferencePlan:
    """What a reference is computed for.

    Attributes:
        order: The steps of the run.
        heldout: The held-out examples.
        loss: The objective.
        longest: Tokens that a mismatched answer of KTO is cut to.
        precision: How the run computes, in words; it is part of the key.
    """

    order: Order
    heldout: ExampleStore
    loss: PreferenceLoss
    longest: int | None
    precision: str


@dataclass(frozen=True, slots=True)
class KeptReference:
    """The reference of a run.

    Attributes:
        reference: Its numbers.
        words: Where they come from.
        paths: The files that keep them.
    """

    reference: Reference
    words: str
    paths: tuple[Path, ...]


def reference_of(learner: Learner, plan: ReferencePlan, *, cut: Cut, folders: Sequence[Path]) -> KeptReference:
    """Return the reference of a run, from the first of its files that holds it, or computed.

    Every process calls this, before the first step, with the weights that the run starts from.

    Args:
        learner: The model and its processes.
        plan: What is needed.
        cut: How the passes are cut.
        folders: Folders that keep it, the run's own first. The others are written to where they can be.

    Raises:
        OutOfMemoryError: If a single example does not fit, or, with several processes, any micro-batch.
    """
    ranks = learner.ranks
    key = _key(learner, plan)
    # The last bits depend on these. So a run takes over another run's numbers only where it would compute the same.
    how = ranks.tell(f"{ranks.size}-{torch.get_num_threads()}-{cut.micro_batch_tokens}")
    paths = tuple(folder / f"reference-{key}-{how}.npz" for folder in folders)
    resumed = [path for path in sorted(folders[0].glob(f"reference-{key}-*.npz")) if path not in paths]
    kept = ranks.tell(_first_intact([*paths, *resumed]) if ranks.is_first else None)
    if kept is not None:
        words = "read from an earlier pass over the same data and weights"
    else:
        kept = _dump(_compute(learner, plan, cut))
        words = "computed before the first step"
    if ranks.is_first:
        # What the run itself computed in another way stays its own.
        is_own = _first_intact(paths) is None and _first_intact(resumed) is not None
        for number, path in enumerate(() if is_own else paths):
            # A folder of prepared data may be shared and read-only.
            with contextlib.suppress(OSError) if number else contextlib.nullcontext():
                if _first_intact([path]) is None:
                    with atomic_file(path) as file:
                        file.write(kept)
    ranks.wait()
    return KeptReference(_parse(kept), words, paths)


def _compute(learner: Learner, plan: ReferencePlan, cut: Cut) -> Reference:
    order, store = plan.order, learner.store
    if order.num_seen >= order.num_examples:
        seen: Sequence[int] = range(len(store))
    else:
        seen = sorted({number for step in _steps(order) for number in order.members(step).indices})
    own = np.full(len(store), np.nan)
    own[list(seen)] = _scored(learner, store, seen, cut)
    heldout = _scored(learner, plan.heldout, range(len(plan.heldout)), cut)
    if plan.loss.of_pairs:
        return Reference(own, heldout)
    steps = [order.members(step).indices for step in _steps(order)]
    found = [_scored_mismatched(learner, store, indices, plan.longest, cut) for indices in _watched(steps)]
    others = _scored_mismatched(learner, plan.heldout, range(len(plan.heldout)), plan.longest, cut)
    return Reference(own, heldout, tuple(found), others)


def _steps(order: Order) -> range:
    return range(1, order.num_steps + 1)


def _watched(steps: Sequence[tuple[int, ...]]) -> Iterable[tuple[int, ...]]:
    with work("reference: mismatched answers", total=len(steps), unit="steps") as bar:
        for indices in steps:
            yield indices
            bar.advance(1)


def _scored(learner: Learner, store: ExampleStore, indices: Sequence[int], cut: Cut) -> npt.NDArray[np.float64]:
    found = []
    with work("reference", total=len(indices), unit="examples") as bar:
        for start in range(0, len(indices), AT_ONCE):
            some = indices[start : start + AT_ONCE]
            found.append(score_quietly(learner, store, some, cut=cut, place="reference").cpu().numpy())
            bar.advance(len(some))
    return np.concatenate(found) if found else np.zeros(0)


def _scored_mismatched(
    learner: Learner, store: ExampleStore, indices: Sequence[int], longest: int | None, cut: Cut
) -> npt.NDArray[np.float64]:
    others = mismatched(store, indices, longest=longest)
    if not others:
        return np.zeros(0)
    found = score_quietly(
        learner, ExampleStore.from_examples(others), range(len(others)), cut=cut, place="mismatched answers"
    )
    return found.cpu().numpy()


def _key(learner: Learner, plan: ReferencePlan) -> str:
    """Return the fingerprint of what the numbers depend on, the same on every process."""
    order = plan.order
    needs_all = order.num_seen >= order.num_examples and plan.loss.of_pairs
    shards = learner.ranks.collect(_hash_of_weights(learner.loss))
    value = {
        "store": learner.store.fingerprint,
        "heldout": plan.heldout.fingerprint,
        "examples": [len(learner.store), len(plan.heldout)],
        "weights": shards if learner.sharded else shards[:1],
        "precision": plan.precision,
        "pairs": plan.loss.of_pairs,
        "longest": None if plan.loss.of_pairs else plan.longest,
        "order": None
        if needs_all
        else [order.batch_size, order.num_steps, order.last_epoch, order.seed, order.shuffle],
    }
    return str(learner.ranks.tell(fingerprint(value)))


def _hash_of_weights(model: torch.nn.Module) -> str:
    """Return a hash of the bytes of all weights and buffers of this process."""
    found = hashlib.blake2b(digest_size=20)
    for name, tensor in sorted(model.state_dict().items()):
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        found.update(f"{name} {tuple(local.shape)} {local.dtype}".encode())
        if local.numel():
            found.update(local.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _first_intact(paths: Iterable[Path]) -> bytes | None:
    """Return the content of the first file that can be read."""
    for path in paths:
        try:
            content = path.read_bytes()
            _parse(content)
        except (OSError, ValueError, KeyError, EOFError):
            continue
        return content
    return None


def _dump(reference: Reference) -> bytes:
    stream = io.BytesIO()
    sizes = np.array([len(some) for some in reference.mismatched], dtype=np.int64)
    several = np.concatenate(reference.mismatched) if reference.mismatched else np.zeros(0)
    others = reference.heldout_mismatched
    np.savez(
        stream,
        own=reference.own,
        heldout=reference.heldout,
        sizes=sizes,
        mismatched=several,
        heldout_mismatched=np.zeros(0) if others is None else others,
    )
    return stream.getvalue()


def _parse(content: bytes) -> Reference:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as read:
            sizes = read["sizes"]
            several = np.split(read["mismatched"], np.cumsum(sizes)[:-1]) if len(sizes) else []
            others = read["heldout_mismatched"] if len(sizes) else None
            return Reference(read["own"], read["heldout"], tuple(several), others)
    except Exception as error:  # zipfile has errors of its own for a damaged file
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class StartProof:
    """What the first pairs say before the first step.

    Attributes:
        found: Their loss, margin and the rest.
        expected: The loss of the comparison while model and reference are equal; None where the answers decide it.
        imitation: What `sft_weight` adds to it: the chosen answers' cross-entropy per token, times this number.
        num_answers: How many answers were asked.
    """

    found: Compared
    expected: float | None
    imitation: float
    num_answers: int

    @property
    def words(self) -> str:
        """The proof in a line."""
        if self.expected is None:
            return (
                f"loss {self.found.loss:.6f} on the first {self.num_answers} answers; the objective has no fixed start"
            )
        name = "ln 2" if abs(self.expected - np.log(2)) < 1e-12 else f"{self.expected:g}"
        if self.imitation:
            name += f" + {self.imitation:.6f} of imitation"
        is_equal = abs(self.found.loss - self.expected - self.imitation) < 1e-6
        equal = f"= {name}" if is_equal else f"is {name} up to rounding"
        return f"proved: loss {self.found.loss:.6f} {equal}, margin {self.found.margin:.1e}"


def prove_start(learner: Learner, order: Order, *, cut: Cut, exact: bool, paths: Sequence[Path] = ()) -> StartProof:
    """Compare the first answers before the first step: every margin is 0, and the loss is its closed form.

    Args:
        learner: The model with its preference.
        order: The steps of the run.
        cut: How the passes are cut.
        exact: Whether the run computes in fp32.
        paths: The files of the reference, for the error.

    Raises:
        TrainingError: If model and reference differ.
    """
    preference = learner.preference
    assert preference is not None
    loss, reference, store = preference.loss, preference.reference, learner.store
    indices = order.members(1).indices[: FIRST_PAIRS * order.together]
    policy = score_quietly(learner, store, indices, cut=cut, place="proof before the first step")
    answers, sides = answers_of(store, indices, policy, None if reference is None else reference.own)
    factors, sums = compare(loss, answers, sides)
    found = summarise(sums.tolist(), has_reference=reference is not None)
    expected, far, slack = first_loss(replace(loss, sft_weight=0.0)), 0.0, 0.0
    imitation = (
        -loss.sft_weight * float(torch.where(sides > 0, answers.mean, 0.0).sum()) / (len(indices) // order.together)
    )
    if reference is not None:
        limits = (EXACT if exact else ROUNDED) * answers.length.sqrt()
        far = float((answers.ratio.abs() / limits).nan_to_num(torch.inf).max())
        # What the limits allow the loss, to first order; twice that holds the rest.
        slack = 1e-6 + 2 * float((factors.abs() * limits).sum()) / float(sums[0])
    is_far = expected is not None and abs(found.loss - expected - imitation) > slack
    if not np.isfinite(found.loss) or far > 1 or is_far:
        raise TrainingError(
            f"reference: before the first step the loss of {len(indices)} answers is {found.loss:.6g}"
            + (f", expected {expected + imitation:.6g}" if expected is not None else "")
            + f", and an answer's log-probability is {far:.3g} times as far from its reference as rounding may put it. "
            f"Model and reference should be equal there. {_advice(paths)}"
        )
    return StartProof(found, expected, imitation, len(indices))


def _advice(paths: Sequence[Path]) -> str:
    there = [str(path) for path in paths if path.exists()]
    if not there:
        return "Please report it."
    return f"Remove {' and '.join(there)}, then continue with --resume; if that does not help, report it."

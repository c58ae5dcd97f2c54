"""What a recipe would do: parameters, steps, tokens, time, memory and disk. `instil.plan` and ``instil plan`` make it.

Why: it is made from the preflight of training, so what it foresees is what a run does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instil.model.loading import choose_device
from instil.preparation.prepare import Prepared
from instil.recipe import REFERENCE_FREE, Recipe
from instil.run_warning import RunWarning
from instil.training.disk_space import DiskNeed, disk_warnings
from instil.training.duration import estimate_seconds
from instil.training.memory.estimate import MEMORY_KINDS, Sizes
from instil.training.memory.fit import Fit
from instil.training.memory.usage import free_memory
from instil.training.preflight import run_preflight
from instil.training.processes.ranks import Ranks
from instil.training.replicate_or_shard import choose_mode
from instil.units import counted, duration, short_count


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a recipe would do.

    Attributes:
        recipe: The resolved recipe.
        prepared: The data, which training uses as it is here.
        sizes: Parameters of the model, and how many of them train.
        rate: The learning rate and where it comes from, in words.
        precision: How the run computes, in words.
        template: The chat template, in words.
        steps: Steps of the optimizer.
        batch_size: Examples or pairs of a step.
        unit: Which of them: ``example`` or ``pair``.
        epochs: Passes over the data.
        tokens: Tokens of all steps.
        trained_tokens: Tokens with a weight above 0.
        seconds: Estimated time of training on this device.
        processes: How the weights are divided over processes, in words.
        fit: The memory needed, by kind, and whether it fits.
        disk: What the run writes.
        notes: What the user should know, a line each.
        warnings: What is probably wrong.
    """

    recipe: Recipe
    prepared: Prepared
    sizes: Sizes
    rate: str
    precision: str
    template: str
    steps: int
    batch_size: int
    unit: str
    epochs: float
    tokens: int
    trained_tokens: int
    seconds: float
    processes: str
    fit: Fit
    disk: DiskNeed
    notes: tuple[str, ...]
    warnings: tuple[RunWarning, ...]

    def sections(self) -> list[tuple[str, list[str]]]:
        """Return the plan as lines for people, under the titles of the run card; the ledger has lines of its own."""
        model = [
            ("parameters", f"{_parameters(self.sizes)}, of which {short_count(self.sizes.trained)} train"),
            ("template", self.template),
        ]
        training = [
            ("steps", f"{self.steps:,} of {counted(self.batch_size, self.unit)} ({self.epochs:.2f} passes)"),
            ("tokens", f"{self.tokens:,}, of which {self.trained_tokens:,} are trained"),
            ("rate", self.rate),
            ("time", f"about {duration(self.seconds)} of training on this device"),
        ]
        machine = [("precision", self.precision), ("processes", self.processes), ("disk", self.disk.words)]
        notes = [("note", note) for note in self.notes]
        warnings = [("warning", warning.text) for warning in self.warnings]
        sections = [
            ("Model", _aligned(model)),
            ("Training", _aligned(training)),
            ("Machine", _aligned(machine)),
            ("Memory", [*self.fit.memory.lines(), *_aligned([("verdict", self.fit.verdict)])]),
            ("Notes", _aligned([*notes, *warnings])),
        ]
        return [(title, lines) for title, lines in sections if lines]

    def lines(self) -> list[str]:
        """Return the lines of all sections."""
        return [line for _, lines in self.sections() for line in lines]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values: bytes, seconds and counts as numbers."""
        memory = self.fit.memory
        return {
            "output": self.recipe.output,
            "parameters": self.sizes.parameters,
            "trained_parameters": self.sizes.trained,
            "template": self.template,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "unit": self.unit,
            "epochs": self.epochs,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "lr": self.recipe.optimizer.lr,
            "rate": self.rate,
            "seconds": self.seconds,
            "precision": self.precision,
            "processes": self.processes,
            "memory": {kind: getattr(memory, kind) for kind in MEMORY_KINDS} | {"peak": memory.peak},
            "free_memory": self.fit.free,
            "fits": self.fit.fits,
            "verdict": self.fit.verdict,
            "micro_batch_tokens": self.fit.micro_batch_tokens,
            "disk": self.disk.total,
            "disk_words": self.disk.words,
            "data": {"folder": str(self.prepared.folder), **self.prepared.to_json()},
            "notes": list(self.notes),
            "warnings": [warning.to_json() for warning in self.warnings],
        }

    def __repr__(self) -> str:
        return "\n".join(self.lines())


def _aligned(facts: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name:<12} {text}" for name, text in facts]


def _parameters(sizes: Sizes) -> str:
    adapter = f" and {short_count(sizes.adapter)} of the adapter" if sizes.adapter else ""
    return short_count(sizes.parameters - sizes.adapter) + adapter


def plan_run(recipe: Recipe, *, say: Callable[[str], None]) -> RunPlan:
    """Plan a run. No weight is loaded; the data is prepared as for training.

    Args:
        recipe: The recipe.
        say: Prints a line of the data's ledger for the user.

    Raises:
        InstilError: If settings, data, template or model are wrong.
    """
    device = choose_device(recipe.device)
    preflight = run_preflight(recipe, Ranks(0, 1, device), say=say, loads=False)
    order, ledger = preflight.order, preflight.prepared.ledger
    sizes, processes = preflight.sizes(), preflight.recipe.parallel.processes
    free = free_memory(device, sharing=processes)
    mode = choose_mode(preflight, sizes, device=device, free=free, num_ranks=processes)
    passes = order.num_seen / order.num_examples
    tokens, trained = round(ledger.tokens * passes), round(ledger.trained_tokens * passes)
    seconds = estimate_seconds(sizes, preflight.precision, tokens=tokens, trained=trained, device=device)
    if preflight.recipe.training.objective not in ("sft", *REFERENCE_FREE):
        # The reference is a third of a step: a forward pass over what is seen once.
        seconds += seconds / 3 / max(1.0, passes)
    if device.type == "cuda":  # on a CPU the processes share its cores, so more of them save no time
        seconds /= processes
    disk = preflight.disk(sizes)
    return RunPlan(
        recipe=preflight.recipe,
        prepared=preflight.prepared,
        sizes=sizes,
        rate=f"{preflight.recipe.optimizer.lr:g}, {preflight.rate_words}",
        precision=preflight.precision.words,
        template=preflight.template,
        steps=order.num_steps,
        batch_size=order.batch_size,
        unit=order.unit,
        epochs=passes,
        tokens=tokens,
        trained_tokens=trained,
        seconds=seconds,
        processes=mode.words,
        fit=mode.fit,
        disk=disk,
        notes=preflight.notes,
        warnings=(*preflight.warnings, *disk_warnings(disk, Path(preflight.recipe.output))),
    )

"""The run card: what a run is about to do, printed before it does it.

It has a few groups. Settings that change what the printed loss means (NEFTune, DFT, weights of sources, frozen parts and
others) stand on it wherever they are not the default, because two runs' losses are compared by eye.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from instil.evaluation.during_training import task_meanings
from instil.evaluation.meanings import label_of
from instil.recipe import AdapterSettings, DataSettings, Recipe, TrainingSettings, objective_words, source_name
from instil.run_warning import PREFIX
from instil.training.checkpoints.mirroring import mirrored_run_of
from instil.training.disk_space import disk_warnings
from instil.training.preference.start import PreferenceStart
from instil.training.preflight import Preflight
from instil.training.records.closing import CardGroup
from instil.training.records.environment import describe_device
from instil.training.records.run_folder import run_name
from instil.training.replicate_or_shard import shares_tokens
from instil.training.setup import Assembled
from instil.units import counted, short_count

Facts = list[tuple[str, str]]


def run_card(
    preflight: Preflight, assembled: Assembled, folder: Path, *, start: PreferenceStart | None = None
) -> list[CardGroup]:
    """Return the run card.

    Args:
        preflight: What is known of the run.
        assembled: The model, ready to train.
        folder: The run folder.
        start: How a run starts that learns from preferences.
    """
    notes = [("note", note) for note in (*preflight.notes, *assembled.notes)]
    disk = disk_warnings(preflight.disk(assembled.sizes), folder)
    warnings = [(PREFIX, warning.text) for warning in (*preflight.warnings, *disk)]
    groups = (
        ("Run", _run(preflight.recipe, folder)),
        ("Model", _model(preflight, assembled)),
        ("Data", _data(preflight)),
        ("Preference", [] if start is None else _preference(preflight.recipe, start)),
        ("Training", _training(preflight, router=assembled.learner.loss.router_coefficient)),
        ("Machine", _machine(preflight.recipe, preflight, assembled)),
        ("Notes", notes),
        ("Warnings", warnings),
    )
    return [CardGroup(title, tuple(facts)) for title, facts in groups if facts]


def _run(recipe: Recipe, folder: Path) -> Facts:
    """Return where the run is, and where a copy of it is kept."""
    place = mirrored_run_of(recipe.checkpoint.mirror, name=run_name(folder))
    copied = [] if place is None else [("copied to", f"{place.url}, while the run goes on")]
    return [("run", str(folder)), *copied]


def _model(preflight: Preflight, assembled: Assembled) -> Facts:
    recipe = preflight.recipe
    share = assembled.num_trained / max(1, assembled.num_parameters)
    what = "every weight" if recipe.adapter.kind == "none" else _adapter(recipe.adapter)
    of_what = "" if recipe.adapter.kind == "none" else " of the model's"
    start = ", random weights" if recipe.model.initialise == "random" else ""
    facts = [
        ("model", f"{recipe.model.name} ({short_count(assembled.num_parameters)} parameters{start})"),
        ("trains", f"{what}: {short_count(assembled.num_trained)} parameters ({share:.1%}{of_what})"),
    ]
    if recipe.training.freeze:
        facts.append(("frozen", ", ".join(recipe.training.freeze)))
    if recipe.model.quantize != "none":
        facts.append(("base", f"quantised, {recipe.model.quantize}"))
    stops = ", ".join(preflight.chat.stop_tokens)
    return [*facts, ("template", f"{preflight.template}; stops on {stops}")]


def _adapter(adapter: AdapterSettings) -> str:
    """Return an adapter in words.

    Example:
        >>> _adapter(AdapterSettings(kind="lora", rank=8, dora=True, targets=["q_proj"]))
        'LoRA, rank 8, alpha 32, DoRA, on q_proj'
    """
    words = ["LoRA", f"rank {adapter.rank}", f"alpha {adapter.alpha:g}"]
    words += ["rank-stabilised"] if adapter.rank_stabilized else []
    words += ["DoRA"] if adapter.dora else []
    words += [f"dropout {adapter.dropout:g}"] if adapter.dropout else []
    if adapter.targets != "all-linear":
        words.append(f"on {', '.join(adapter.targets) if isinstance(adapter.targets, list) else adapter.targets}")
    return ", ".join(words)


def _data(preflight: Preflight) -> Facts:
    ledger, data = preflight.prepared.ledger, preflight.recipe.data
    rows = (
        f"{ledger.rows_trained:,} of {ledger.rows_in:,} rows, {ledger.trained_tokens:,} trained tokens of "
        f"{ledger.tokens:,} an epoch"
    )
    order = preflight.order
    heldout = counted(len(preflight.prepared.heldout) // order.together, order.unit)
    return [("data", rows), *_weighting(data), ("held out", heldout)]


def _weighting(data: DataSettings) -> Iterator[tuple[str, str]]:
    """Yield which tokens count, and how much, where that is not the default."""
    if data.train_on != "assistant":
        yield "train on", {"last": "the last assistant turn only", "all": "every token but the first"}[data.train_on]
    weights = [f"{source_name(source.path)} {source.weight:g}" for source in data.sources if source.weight != 1]
    if weights:
        yield "weights", ", ".join(weights)
    repeats = [f"{source_name(source.path)} {source.repeat} times" for source in data.sources if source.repeat != 1]
    if repeats:
        yield "repeats", ", ".join(repeats)


def _training(preflight: Preflight, *, router: float) -> Facts:
    recipe, order = preflight.recipe, preflight.order
    optimizer = recipe.optimizer
    rate = f"{optimizer.name}, {optimizer.schedule} schedule"
    decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    clip = "" if optimizer.clip is not None else ", no clipping"
    return [
        (
            "steps",
            f"{order.num_steps:,} of {counted(order.batch_size, order.unit)}, {order.steps_per_epoch:,} an epoch",
        ),
        *_loss(recipe.training, router=router),
        ("optimizer", f"{rate}{decay}{clip}"),
        ("rate", f"{float(optimizer.lr or 0):g}, {preflight.rate_words}"),
        *_course(recipe),
    ]


def _preference(recipe: Recipe, start: PreferenceStart) -> Facts:
    """Return what a run learns from preferences, what it compares with, and the proof of its start."""
    reference = f"the model as it starts; log-probabilities {start.reference}"
    return [
        (
            "objective",
            f"{objective_words(recipe.training.objective, recipe.preference)}; not comparable with cross-entropy",
        ),
        ("reference", reference if start.reference else "none: this objective compares with no reference"),
        ("start", start.proof.words),
    ]


def _loss(training: TrainingSettings, *, router: float = 0.0) -> Iterator[tuple[str, str]]:
    """Yield what changes the meaning of the loss.

    Example:
        >>> list(_loss(TrainingSettings(loss="dft", neftune_alpha=5)))
        [('loss', 'DFT: each token weighted by its probability; not comparable with cross-entropy'), ('NEFTune', 'alpha 5: noise on the embeddings in training; the training loss is higher for it, the held-out loss is without it')]
    """
    if training.loss == "dft":
        yield "loss", "DFT: each token weighted by its probability; not comparable with cross-entropy"
    if training.neftune_alpha:
        noise = (
            "noise on the embeddings in training; the training loss is higher for it, the held-out loss is without it"
        )
        yield "NEFTune", f"alpha {training.neftune_alpha:g}: {noise}"
    if router:
        yield "router", f"the load-balancing loss, times {router:g}, is part of the loss"
    if not training.shuffle:
        yield "order", "as in the data, not shuffled"
    if training.on_nonfinite != "stop":
        yield "nonfinite", "a step whose loss or gradient is not finite is skipped"


def _course(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what the tasks of the evaluations mean, what ends a run early, and which step's model it writes.

    Example:
        >>> list(_course(Recipe.from_mapping({"evaluate": {"tasks": ["numeric"]}})))
        [('task', "numeric: answers whose final number is the reference's; on at most 100 held-out prompts")]
    """
    most = counted(recipe.evaluate.max_prompts, "held-out prompt")
    for figure, meaning in task_meanings(recipe.evaluate.tasks):
        yield "task", f"{label_of(figure)}: {meaning}; on at most {most}"
    if recipe.evaluate.patience is not None:
        evaluations = counted(recipe.evaluate.patience, "evaluation")
        yield "stops", f"after {evaluations} without a better held-out loss"
    if recipe.checkpoint.final == "best":
        yield "writes", "the model of the best held-out loss, not of the last step"


def _machine(recipe: Recipe, preflight: Preflight, assembled: Assembled) -> Facts:
    facts = [
        ("device", describe_device(assembled.learner.ranks.device)),
        ("processes", _processes(assembled)),
        ("precision", preflight.precision.words),
        ("attention", assembled.kernel),
        ("memory", assembled.fit.verdict),
    ]
    if assembled.fit.recompute:
        facts.append(("recompute", "activations are computed again in the backward pass (gradient checkpointing)"))
    if recipe.training.compile != "off":
        facts.append(("compile", f"torch.compile: {recipe.training.compile}"))
    if not recipe.training.deterministic:
        facts.append(("kernels", "not deterministic: a resumed run may differ in its last bits"))
    return facts


def _processes(assembled: Assembled) -> str:
    ranks = assembled.learner.ranks
    if ranks.size == 1:
        return "1"
    shared = shares_tokens(ranks.num_sharing)
    return f"{ranks.size}, {'sharded' if assembled.learner.sharded else 'replicated'}{shared}"

"""The sections of a model card in words: data, training, evaluation, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instil.evaluation.intervals import show
from instil.evaluation.meanings import label_of
from instil.recipe import REFERENCE_FREE, Objective, Recipe, objective_words, unit_of
from instil.training.model_card.head import languages_of
from instil.training.model_card.papers import RunPapers, published_name
from instil.training.model_card.subject import CardSubject
from instil.units import counted, duration, loss_words

_REASONS = {"held out": "held out for the evaluation"}


def data_of(papers: RunPapers, recipe: Recipe) -> list[str]:
    """Return what the model was trained on: the sources, and the ledger in words."""
    lines = ["## Data", ""]
    for source in recipe.data.sources:
        settings = source.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
        more = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())
        lines.append(f"- `{source.path}`" + (f" ({more})" if more else ""))
    lines += [f"- `{source.path}`, held out for the evaluation" for source in recipe.data.heldout]
    lines += ["", *_ledger_in_words(papers.ledger)]
    languages = languages_of(papers)
    if languages:
        named = ", ".join(f"{name} ({count:,})" for name, count in languages.items())
        lines.append(f"Languages of the prompts that it was evaluated on: {named}.")
    return [*lines, ""]


def _ledger_in_words(ledger: Mapping[str, Any]) -> Iterator[str]:
    rows_in, trained = ledger.get("rows_in"), ledger.get("rows_trained")
    if not isinstance(rows_in, int) or not isinstance(trained, int):
        return
    yield f"{counted(rows_in, 'row was', 'rows were')} read, and {trained:,} of them trained."
    counts = _counts(ledger.get("left_out"))
    if counts:
        listed = ", ".join(f"{count:,} {_REASONS.get(reason, reason)}" for reason, count in counts.items())
        yield f"Not trained: {listed}."
    tokens, in_loss = ledger.get("tokens"), ledger.get("trained_tokens")
    if isinstance(tokens, int) and tokens and isinstance(in_loss, int):
        yield (
            f"Of {tokens:,} tokens an epoch, {in_loss:,} ({in_loss / tokens:.0%}) count for the loss: "
            "those that the model has to write itself."
        )
    shortened = _counts(ledger.get("shortened"))
    if shortened:
        yield f"Longer examples were shortened: {', '.join(f'{count:,} {how}' for how, count in shortened.items())}."
    both = ledger.get("overlap")
    if isinstance(both, Mapping) and both.get("count"):
        yield f"**{both['count']:,} trained rows are also among the held-out ones.**"


def _counts(tallies: Any) -> dict[str, int]:
    by_reason = tallies if isinstance(tallies, Mapping) else {}
    return {reason: tally["count"] for reason, tally in by_reason.items() if isinstance(tally, Mapping)}


def training_of(papers: RunPapers, recipe: Recipe, step: int | None) -> list[str]:
    """Return how the model was trained, as a table."""
    results, training, optimizer = papers.results, recipe.training, recipe.optimizer
    rows = [("method", _method(recipe))]
    if training.objective != "sft":
        words = objective_words(training.objective, recipe.preference)
        rows.append(("objective", f"{words}; {_reference(training.objective)}"))
    if optimizer.lr is not None:
        decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
        rows.append(("optimizer", f"{optimizer.name}, learning rate {optimizer.lr:g}, {optimizer.schedule}{decay}"))
    length = f"{training.max_steps:,} steps" if training.max_steps else f"{training.epochs:g} epochs"
    if isinstance(results.get("steps"), int):
        length = f"{results['steps']:,} steps"
    rows.append(("length", f"{length} of {counted(training.batch_size, unit_of(training.objective))}"))
    if step is not None:
        rows.append(("weights of", f"step {step:,}"))
    elif recipe.checkpoint.final == "best" and isinstance(results.get("best_step"), int):
        rows.append(("weights of", f"step {results['best_step']:,}, the best on held-out data"))
    if isinstance(results.get("trained_tokens"), int) and step is None:
        rows.append(("tokens", f"{results['tokens']:,}, of which {results['trained_tokens']:,} in the loss"))
    if training.neftune_alpha is not None:
        rows.append(("noise on embeddings", f"NEFTune, alpha {training.neftune_alpha:g}"))
    if training.loss != "cross_entropy":
        rows.append(("loss", training.loss))
    rows.append(("seed", str(training.seed)))
    seconds = results.get("training_seconds")
    device = papers.environment.get("device")
    if isinstance(seconds, int | float) and isinstance(device, str) and step is None:
        rows.append(("took", f"{duration(seconds)} on {device}"))
    if step is None:
        rows += _losses(results)
    return ["## Training", "", "| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows), ""]


def _reference(objective: Objective) -> str:
    return "compared with no reference" if objective in REFERENCE_FREE else "the reference is the model before training"


def _method(recipe: Recipe) -> str:
    adapter = recipe.adapter
    if adapter.kind == "none":
        return "every weight" if not recipe.training.freeze else "every weight but the frozen ones"
    kind = "DoRA" if adapter.dora else "LoRA"
    targets = "all linear layers" if adapter.targets == "all-linear" else ", ".join(adapter.targets)
    quantised = "" if recipe.model.quantize == "none" else f", base in {recipe.model.quantize}"
    return f"{kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, on {targets}{quantised}"


def _losses(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    heldout, best = results.get("heldout_loss"), results.get("best_heldout_loss")
    if isinstance(results.get("loss"), int | float):
        yield "training loss", f"{loss_words(results['loss'])} at the last step"
    if isinstance(heldout, int | float):
        lowest = (
            f"; lowest {loss_words(best)} at step {results.get('best_step')}" if best not in (None, heldout) else ""
        )
        yield "held-out loss", f"{loss_words(heldout)} at the end{lowest}"
    if isinstance(results.get("heldout_accuracy"), int | float):
        yield "held-out pairs won", f"{results['heldout_accuracy']:.1%} at the end"


def evaluation_of(papers: RunPapers) -> list[str]:
    """Return the evaluation's figures with their intervals, beside those of the other model."""
    figures, other = papers.figures(), papers.figures("against")
    if not figures:
        return []
    evaluation = papers.evaluation
    data, against = published_name(str(evaluation.get("data", "prompts"))), evaluation.get("against")
    count = evaluation.get("num_prompts")
    of = f", {counted(count, 'prompt')}" if isinstance(count, int) else ""
    head = ["figure", "this model"]
    if isinstance(against, Mapping):
        head.append(published_name(str(against.get("name"))))
    rows = [head, ["---"] * len(head)]
    for key, figure in figures.items():
        cells = [label_of(key), show(key.split(".", 1)[1], figure)]
        if len(head) == 3:
            cells.append(show(key.split(".", 1)[1], other[key]) if key in other else "")
        rows.append(cells)
    lines = ["## Evaluation", "", f"Measured on `{data}`{of}, with 95% intervals.", ""]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    overlap = evaluation.get("contamination")
    if isinstance(overlap, Mapping) and overlap.get("said"):
        lines += ["", f"Overlap with the training data: {overlap['said']}"]
    return [*lines, ""]


def limits_of(papers: RunPapers, subject: CardSubject) -> list[str]:
    """Return what a reader must not expect of the model."""
    lines = ["## Limits", ""]
    lines.append("- What the base gets wrong, this model may get wrong too. Its safety was not measured.")
    if not papers.figures():
        lines.append("- It was not evaluated: no figure here says how good its answers are.")
    trained = papers.ledger.get("rows_trained")
    if isinstance(trained, int) and trained < 1000:
        lines.append(f"- It was trained on {counted(trained, 'row')} only. Expect little beyond what they show.")
    if papers.recipe is not None:
        limit = papers.recipe.data.max_tokens
        if isinstance(limit, int):
            lines.append(f"- It has seen no example of more than {limit:,} tokens in training.")
    if papers.figures() and (subject.is_gguf or subject.form == "4bit"):
        lines.append("- The figures were measured before the weights were written in this form.")
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def details(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines that are folded under a title."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]

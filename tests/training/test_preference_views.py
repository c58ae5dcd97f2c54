"""Where a finished run of preferences is shown: lists, comparison, report, notebook, model card, records, figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import exit_code, train, write_recipe
from tests.training.pairs import SHORT, STEPS, make_pairs

import instil
from instil.cli.runs import _lowest
from instil.reporting.report_curves import rewards_svg, won_svg
from instil.training.events import Evaluated, StepTaken
from instil.training.records.run_folder import Run
from instil.training.records.trackers import flat_numbers

pytestmark = pytest.mark.slow

TASK: dict[str, Any] = {"evaluate": {**SHORT["evaluate"], "tasks": ["exact_match"]}}


@dataclass(frozen=True)
class Shown:
    """Two runs in one folder: of preferences and of imitation, and the pairs of both."""

    folder: Path
    pairs: Path
    dpo: Run
    sft: Run


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Shown:
    folder = tmp_path_factory.mktemp("shown")
    pairs = make_pairs(folder / "pairs.jsonl")
    runs = {}
    for objective in ("dpo", "sft"):
        change = {"training": {**SHORT["training"], "objective": objective}}
        runs[objective] = train(write_recipe(folder / "runs" / objective, SHORT, TASK, change, base=base, rows=pairs))
    return Shown(folder / "runs", pairs, **runs)


def last_accuracy(run: Run) -> float:
    return [float(line["heldout_accuracy"]) for line in run.metrics() if "heldout_accuracy" in line][-1]


def test_tasks_are_measured_on_the_held_out_prompts_once_each(shown: Shown):
    lines = [line for line in shown.dpo.metrics() if "tasks" in line]
    assert lines
    assert {line["tasks"]["exact_match.exact_match"]["n"] for line in lines} == {6}


def test_results_have_the_share_of_pairs_won(shown: Shown):
    assert shown.dpo.results["heldout_accuracy"] == last_accuracy(shown.dpo)
    assert "heldout_accuracy" not in shown.sft.results
    assert shown.dpo.results["examples"] == 18


def test_runs_are_listed_with_it_and_losses_of_other_objectives_are_not_ranked(
    shown: Shown, capsys: pytest.CaptureFixture[str]
):
    assert exit_code("runs", str(shown.folder), "--sort", "won") == 0
    head, first, *_ = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [word for word in head.split() if word in ("run", "held-out", "won")] == ["run", "held-out", "won"]
    assert f"{last_accuracy(shown.dpo):.1%}" in first
    listed = instil.runs(shown.folder, sort="won")
    assert [run.objective for run in listed] == ["dpo, beta 0.1", "sft"]
    assert [run.heldout_accuracy for run in listed] == [last_accuracy(shown.dpo), None]
    assert listed[0].to_json()["heldout_accuracy"] == last_accuracy(shown.dpo)
    assert "<th>won</th>" in listed._repr_html_().replace(' class="number"', "")
    assert _lowest(listed) == set()
    assert _lowest([listed[0], replace(listed[1], objective=listed[0].objective)]) == {listed[0].folder}


def test_a_comparison_has_a_row_for_it(shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ("runs", "compare", str(shown.dpo.folder), str(shown.sft.folder), "--plot", str(tmp_path / "plot.png"))
    assert exit_code(*words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["won", f"{last_accuracy(shown.dpo):.1%}"] in lines


def test_a_report_draws_pairs_won_and_rewards(shown: Shown, tmp_path: Path):
    assert won_svg(shown.sft.metrics()) == rewards_svg(shown.sft.metrics()) == ""
    page = tmp_path / "report.html"
    assert exit_code("report", str(shown.dpo.folder), "--out", str(page)) == 0
    text = page.read_text(encoding="utf-8")
    for words in ("Pairs won", "Rewards", "of pairs won", "<th>won</th>".replace("<th>", ""), "dpo, beta 0.1"):
        assert words in text, words


def test_a_notebook_shows_the_objective_and_pairs(shown: Shown):
    html = shown.dpo._repr_html_()
    assert "dpo, beta 0.1" in html
    assert "4 steps of 4 pairs" in html
    assert f"{last_accuracy(shown.dpo):.1%} of held-out pairs won" in html
    assert "held-out pairs won" not in shown.sft._repr_html_()


def test_the_model_card_says_what_it_learned_from(shown: Shown):
    card = (shown.dpo.model_folder / "README.md").read_text(encoding="utf-8")
    assert "| objective | dpo, beta 0.1; the reference is the model before training |" in card
    assert "of 4 pairs" in card
    assert f"| held-out pairs won | {last_accuracy(shown.dpo):.1%} at the end |" in card
    head = card.split("---")[1]
    assert "- dpo\n" in head
    assert "- sft\n" not in head
    assert "- sft\n" in (shown.sft.model_folder / "README.md").read_text(encoding="utf-8").split("---")[1]


def test_who_follows_a_run_sees_the_accuracy(tmp_path: Path, base: Path, shown: Shown):
    change = {"training": {**SHORT["training"], "objective": "dpo"}}
    recipe = write_recipe(tmp_path, SHORT, change, base=base, rows=shown.pairs)
    events = list(instil.train(recipe, follow=True, quiet=True))
    taken = [event.accuracy for event in events if isinstance(event, StepTaken)]
    measured = [event.accuracy for event in events if isinstance(event, Evaluated)]
    assert len(taken) == STEPS
    assert all(value is not None and 0 <= value <= 1 for value in (*taken, *measured))
    assert measured[-1] == last_accuracy(Run.open(tmp_path / "run"))


def test_trackers_and_figure_have_every_number(shown: Shown):
    steps = [flat_numbers(line) for line in shown.dpo.metrics() if "loss" in line]
    measured = [flat_numbers(line) for line in shown.dpo.metrics() if "heldout_loss" in line]
    for name in ("accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens", "drift"):
        assert all(name in line for line in steps)
        assert all(f"heldout_{name}" in line for line in measured)
    assert (shown.dpo.folder / "loss.png").stat().st_size > 1000

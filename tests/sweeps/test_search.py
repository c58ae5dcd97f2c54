"""Claims about searches: what a kill leaves, what is proposed afterwards, and what is missing without Optuna."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

import pytest
from tests.training.command_line import exit_code, forked, train_fails, write_recipe
from tests.training.stops import wait_for_steps

from instil.errors import RunError
from instil.sweeps.record import Sweep
from instil.sweeps.search import Search
from instil.sweeps.space import Range, Space
from instil.training.records.run_folder import Run

pytest.importorskip("optuna")
SPACE = Space(
    {
        "optimizer.lr": Range(1e-4, 1e-2, True, False),
        "adapter.rank": Range(4, 64, False, True),
        "adapter.targets": (["q_proj"], ["q_proj", "v_proj"]),
    },
    search="optuna",
    trials=6,
)
WORDS = ("--optimizer.lr", "1e-4..1e-2", "--search", "optuna", "--trials", "3")


def result_of(trial):
    return abs(trial.settings["optimizer.lr"] - 1e-3) + trial.settings["adapter.rank"] / 1000


def searched(path, *, seed=0, opened_again=True):
    """Return the proposals of a whole search; with `opened_again` in a new process's place after every trial."""
    proposals = []
    search = Search(path, SPACE, seed=seed)
    while (trial := search.next()) is not None:
        if opened_again:
            assert Search(path, SPACE, seed=seed).next() == trial, "a trial that was cut is given back as it was"
        proposals.append(trial.settings)
        search.finish(trial, result_of(trial))
        search = Search(path, SPACE, seed=seed) if opened_again else search
    return proposals


@pytest.mark.long
@pytest.mark.slow
def test_a_search_that_is_opened_again_proposes_what_an_uninterrupted_one_does(tmp_path):
    alone = searched(tmp_path / "a.db", opened_again=False)
    assert len(alone) == 6
    assert searched(tmp_path / "a file? with %.db") == alone
    assert len({proposal["optimizer.lr"] for proposal in alone}) == 6, "no trial repeats another's draw"
    assert searched(tmp_path / "b.db", seed=1, opened_again=False) != alone
    for proposal in alone:
        assert 1e-4 <= proposal["optimizer.lr"] <= 1e-2
        assert isinstance(proposal["adapter.rank"], int)
        assert proposal["adapter.targets"] in (["q_proj"], ["q_proj", "v_proj"])


@pytest.mark.slow
def test_failed_trials_count_and_more_trials_may_follow(tmp_path):
    short = replace(SPACE, trials=1)
    search = Search(tmp_path / "s.db", short, seed=0)
    search.finish(search.next(), None)
    assert search.next() is None
    more = Search(tmp_path / "s.db", replace(SPACE, trials=2), seed=0)
    assert more.ended() == 1
    assert more.next().number == 1


def test_a_file_that_is_no_search_is_named(tmp_path):
    (tmp_path / "s.db").write_text("no database, and longer than the header of one " * 3)
    with pytest.raises(RunError, match=r"s\.db: cannot be used"):
        Search(tmp_path / "s.db", SPACE, seed=0)


@pytest.mark.slow
def test_optunas_log_level_is_left_as_it_was(tmp_path):
    import optuna

    before = optuna.logging.get_verbosity()
    searched(tmp_path / "s.db", opened_again=False)
    assert optuna.logging.get_verbosity() == before


@pytest.mark.slow
@pytest.mark.long
def test_a_search_that_is_killed_goes_on(base, rows, tmp_path, capsys):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    child = forked("train", str(recipe), *WORDS, said=tmp_path / "said.txt")
    second = None
    for _ in range(1200):
        second = next((tmp_path / "run").glob("002-*"), None)
        if second is not None:
            break
        time.sleep(0.1)
    wait_for_steps(second, more_than=2)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    first = Sweep.open(tmp_path / "run").runs[0]
    assert first.state == "finished"
    written = (first.folder / "results.json").stat().st_mtime_ns
    steps_before = len(Run(second, False, {}).metrics())
    assert steps_before < 12

    assert exit_code("train", str(recipe), *WORDS, "--resume") == 0
    out = capsys.readouterr().out
    assert "run 2 of 3" in out
    assert "run 1 of 3" not in out
    assert "resuming from" in out
    sweep = Sweep.open(tmp_path / "run")
    assert [run.state for run in sweep.runs] == ["finished"] * 3
    assert len({run.settings["optimizer.lr"] for run in sweep.runs}) == 3
    assert (first.folder / "results.json").stat().st_mtime_ns == written
    assert sweep.best.value == min(run.heldout_loss for run in sweep.runs)

    # The finished search is finished; a changed one is another one.
    assert exit_code("train", str(recipe), "--resume") == 0
    assert "run 3 of 3" not in capsys.readouterr().out
    error = train_fails(recipe, "--resume", "--optimizer.lr", "1e-5..1e-2", *WORDS[2:], capsys=capsys)
    assert "A resumed search keeps its ranges" in error
    error = train_fails(recipe, "--resume", *WORDS, "--best-by", "loss", capsys=capsys)
    assert "the search was begun for the min of heldout_loss" in error


def test_without_optuna_one_line_says_what_to_install(base, rows, tmp_path, monkeypatch, capsys):
    recipe = write_recipe(tmp_path, base=base, rows=rows)
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = train_fails(recipe, *WORDS, capsys=capsys)
    assert "the package optuna is not installed" in error
    assert "pip install 'instil[search]'" in error
    assert not (tmp_path / "run").exists()

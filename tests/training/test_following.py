"""A run that is followed: what is yielded, what is saved by then, and how it ends when nobody follows it any more."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.training.command_line import losses_of, same_bits, without_times, write_recipe

import instil
from instil.training.events import Ended, Evaluated, StepTaken
from instil.training.records.run_folder import Run

SLOW = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path: Path, base: Path, rows: Path) -> Path:
    return write_recipe(tmp_path, base=base, rows=rows)


def follow(recipe: Path, **settings: Any):
    return instil.train(recipe, follow=True, quiet=True, **settings)


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in (folder / "checkpoints").iterdir())


def resumed_equals(recipe: Path, reference: Run) -> bool:
    """Return whether the run, continued to its end, is the run that nothing interrupted."""
    resumed = instil.train(recipe, resume=True, quiet=True)
    assert resumed.finished
    return without_times(resumed) == without_times(reference) and same_bits(resumed, reference)


@pytest.mark.slow
def test_steps_and_evaluations_come_in_order_and_are_written_by_then(recipe: Path, tmp_path: Path, reference: Run):
    seen = []
    for event in follow(recipe):
        metrics = Run.open(tmp_path / "run").metrics()
        if isinstance(event, StepTaken):
            assert metrics[-1]["loss"] == event.loss
            # The checkpoint of each second step is written before the next step is yielded.
            assert checkpoints(tmp_path / "run")[-1:] == ([(event.step - 1) // 2 * 2] if event.step > 2 else [])
        if isinstance(event, Evaluated):
            assert metrics[-1]["heldout_loss"] == event.heldout_loss
        seen.append(event)
    steps = [event for event in seen if isinstance(event, StepTaken)]
    evaluations = [event for event in seen if isinstance(event, Evaluated)]
    assert [event.step for event in steps] == list(range(1, 13))
    assert [event.step for event in evaluations] == [0, 4, 8, 12]
    assert [event.loss for event in steps] == losses_of(reference)
    assert isinstance(seen[-1], Ended)
    assert seen[-1].run.finished
    assert evaluations[1].is_best


def leave_by_break(events: Any) -> None:
    for event in events:
        if isinstance(event, StepTaken) and event.step == 3:
            break
    events.close()


def leave_by_close(events: Any) -> None:
    while not (isinstance(event := next(events), StepTaken) and event.step == 3):
        pass
    events.close()
    events.close()  # a second time changes nothing
    with pytest.raises(StopIteration):
        next(events)


def leave_by_error(events: Any) -> None:
    def work() -> None:
        for event in events:
            if isinstance(event, StepTaken) and event.step == 3:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    events.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "leave",
    [leave_by_break, pytest.param(leave_by_close, marks=SLOW), pytest.param(leave_by_error, marks=SLOW)],
)
def test_a_run_that_is_left_is_saved_at_its_step_and_goes_on(recipe: Path, tmp_path: Path, reference: Run, leave: Any):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    leave(follow(recipe))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    run = Run.open(tmp_path / "run")
    assert not run.finished
    assert len(losses_of(run)) == 3
    assert checkpoints(run.folder)[-1] == 3
    assert resumed_equals(recipe, reference)


@pytest.mark.slow
def test_an_error_in_the_body_reaches_the_caller_after_the_run_is_saved(recipe: Path, tmp_path: Path, reference: Run):
    caught = None
    try:
        for event in follow(recipe):
            if isinstance(event, Evaluated) and event.step == 4:
                raise ValueError("mine")
    except ValueError as error:  # kept, with its traceback, as a notebook keeps the last error
        caught = error
        # The checkpoint is there when the handler runs, not when the error is forgotten.
        assert checkpoints(tmp_path / "run")[-1] == 4
    assert str(caught) == "mine"
    assert resumed_equals(recipe, reference)


@pytest.mark.slow
def test_a_run_that_is_left_before_its_first_step_saves_one(recipe: Path, tmp_path: Path, reference: Run):
    for event in follow(recipe):
        assert isinstance(event, Evaluated)
        assert event.step == 0
        break
    assert checkpoints(tmp_path / "run") == [1]
    assert resumed_equals(recipe, reference)


def test_events_that_nobody_takes_write_nothing(recipe: Path, tmp_path: Path):
    events = follow(recipe)
    events.close()
    assert not (tmp_path / "run").exists()
    assert list(events) == []


@pytest.mark.slow
def test_a_run_is_followed_in_a_thread(recipe: Path, tmp_path: Path, reference: Run):
    """Python takes no signals there; leaving works all the same."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            leave_by_close(follow(recipe))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert checkpoints(tmp_path / "run")[-1] == 3
    assert resumed_equals(recipe, reference)


def test_every_line_of_metrics_is_of_the_documented_types(reference: Run):
    from typing import get_type_hints

    from instil.training.records.metrics import Metric

    hints = get_type_hints(Metric)
    kinds = {"int": int, "float": (float, int), "bool": bool, "dict": dict, "list": list}
    lines = reference.metrics()
    assert len(lines) == 16
    for line in lines:
        for name, value in line.items():
            kind = str(getattr(hints[name], "__origin__", hints[name]))
            expected = kinds[next(word for word in kinds if word in kind)]
            assert isinstance(value, expected), (name, value)
        assert set(line["seconds"]) in ({"data", "forward", "backward", "update", "total"}, {"evaluation"})
    docs = Metric.__doc__ or ""
    assert [name for name in hints if f"{name}: " not in docs] == []

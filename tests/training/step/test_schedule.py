from __future__ import annotations

import pytest

from instil.training.step.schedule import Schedule, learning_rate, warmup_steps


def rates(schedule: Schedule, *, num_steps: int = 10, warmup: float = 2, final: float = 0.0) -> list[float]:
    return [
        round(learning_rate(s, num_steps=num_steps, peak=1.0, schedule=schedule, warmup=warmup, final=final), 3)
        for s in range(1, num_steps + 1)
    ]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]),
        ("wsd", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]),
    ],
)
def test_course_of_the_learning_rate(schedule: Schedule, expected: list[float]):
    assert rates(schedule) == expected


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_the_final_share_is_the_floor(schedule: Schedule):
    found = rates(schedule, final=0.5)
    assert min(found[2:]) >= 0.5
    assert found[-1] < 1.0


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
def test_every_step_moves_something(schedule: Schedule):
    for num_steps in (1, 2, 5, 33):
        found = rates(schedule, num_steps=num_steps, warmup=0.03)
        assert len(found) == num_steps
        assert all(rate > 0 for rate in found)


def test_warm_up_is_a_share_below_one_and_steps_from_one_on():
    assert [warmup_steps(100, w) for w in (0.0, 0.1, 1, 7, 500)] == [0, 10, 1, 7, 100]

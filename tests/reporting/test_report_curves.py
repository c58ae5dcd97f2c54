"""The curves of a report: what is drawn of which metrics."""

from __future__ import annotations

import re

from instil.reporting.report_curves import curves, speeds, task_svg


def test_each_metric_that_was_recorded_has_a_curve():
    metrics = [
        {
            "step": step,
            "loss": 1.0,
            "learning_rate": 1e-3,
            "gradient_norm": 2.0,
            "tokens": 10,
            "seconds": {"total": 0.5},
        }
        for step in range(1, 40)
    ]
    assert re.findall("<figcaption>(.*?)</figcaption>", curves(metrics)) == [
        "Loss",
        "Learning rate",
        "Gradient norm",
        "Speed",
    ]
    assert curves([]) == ""
    assert curves([{"step": 1, "loss": float("nan")}]) == ""


def test_speed_is_tokens_by_seconds_and_odd_lines_have_none():
    lines = [{"step": 1, "tokens": 10, "seconds": {"total": 0}}, {"step": 2, "tokens": 10}, {"step": 3, "seconds": 5}]
    assert speeds(lines) == []
    assert speeds([{"step": 4, "tokens": 10, "seconds": {"total": 0.5}}]) == [(4, 20.0)]


def test_tasks_are_named_and_behaviour_comes_last():
    tasks = {"behaviour.stops": {"value": 1.0}, "exact_match.strict": {"value": 0.25}, "length.words": {"value": 31}}
    svg = task_svg([{"step": 0, "tasks": tasks}, {"step": 1, "tasks": 5}])
    assert "Tasks at the last evaluation: strict 25.0%, stops 100.0%" in svg
    assert task_svg([{"step": 1, "loss": 1.0}]) == ""

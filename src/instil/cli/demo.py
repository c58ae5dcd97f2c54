"""``instil demo``: tune the embedded base model and show the difference."""

from __future__ import annotations

from pathlib import Path


def demo(*, output: Path = Path("runs/demo"), preference: bool = False) -> None:
    """Tune the embedded base model in two minutes on two CPU cores and show what changed. Nothing is downloaded.

    Args:
        output: Run folder to write; an earlier demo there is replaced.
        preference: Then tune it with DPO on pairs of right answers, one of which is preferred: one more minute, into
            OUTPUT-preference.
    """
    from instil.demo.run import run_demo

    run_demo(output, preference=preference)

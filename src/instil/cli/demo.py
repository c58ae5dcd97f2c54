"""``instil demo``: tune the embedded base model and show the difference."""

from __future__ import annotations

from pathlib import Path


def demo(*, output: Path = Path("runs/demo")) -> None:
    """Tune the embedded base model in two minutes on two CPU cores and show what changed. Nothing is downloaded.

    Args:
        output: Run folder to write; an earlier demo there is replaced.
    """
    from instil.demo.run import run_demo

    run_demo(output)

"""`instil.report`: the page of a run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


def report(run: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    """Write one self-contained HTML page of a run, and return its path.

    It has the run's settings, results, curves, sample answers, evaluation, data and environment. It works for a run
    that goes on, was stopped, or is damaged, and names what is missing.

    Args:
        run: A run, or its folder.
        out: The file. Default: ``report.html`` in the run folder.

    Raises:
        RunError: If it is no run folder, or the file cannot be written.

    Example:
        >>> report("runs/demo")  # doctest: +SKIP
        PosixPath('runs/demo/report.html')
    """
    # Why: numpy and pyarrow, which the ledger's package brings, take time to import.
    from instil.reporting.report import write_report

    return write_report(run, out)

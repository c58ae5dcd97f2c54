"""``instil report``: a run as one page."""

from __future__ import annotations

from pathlib import Path


def report(*runs: Path, out: Path | None = None) -> None:
    """Write one HTML page of a run: settings, results, curves, samples, evaluation, data, environment.

    The page is one file that needs no network. It works for a run that goes on, was stopped, or is damaged, and names
    what is missing.

    Args:
        runs: Run folders, or folders of runs such as a sweep. Each run gets its own page.
        out: The file to write, for one run. Default: report.html in the run folder.
    """
    from instil.errors import RunError
    from instil.reporting.report import write_report
    from instil.reporting.runs import find_runs
    from instil.screen import Screen, work

    # A folder without runs stays in the list, so that its error names it.
    found = [path for run in runs for path in (find_runs(run) or [run])]
    if not found or (out is not None and len(found) > 1):
        raise RunError(
            f"report: found {len(found)} runs{' and one --out' if out else ''}. Expected "
            f"{'one run for --out' if found else 'a run folder'}. {'Leave out --out' if found else 'Name one'}."
        )
    screen = Screen()
    for run in found:
        with work("writing the report"):
            page = write_report(run, out)
        screen.done(f"wrote {page}")

"""One process of ``instil train --parallel.processes N``: it trains with the recipe that its launcher sends."""

from __future__ import annotations

from instil.cli.any_terminal import print_on_any_terminal
from instil.cli.main import report_errors
from instil.training.processes.signals import end_with_launcher, stop_on_signals


def main() -> None:
    """Train with the recipe that the launcher sends. An error is one line and exit status 2, as for every verb."""
    print_on_any_terminal()
    with report_errors("train"), stop_on_signals():
        end_with_launcher()
        from instil.training.processes.launcher import receive
        from instil.training.run import train

        task = receive()
        train(task.recipe, resume=task.resume, quiet=task.quiet)


if __name__ == "__main__":
    main()

"""One of the processes that ``instil train --parallel.processes N`` starts: it trains what its launcher hands over."""

from __future__ import annotations

from instil.cli.main import errors_said
from instil.training.processes.signals import end_with_launcher, stop_on_signals


def main() -> None:
    """Train as the launcher of this process was asked to; an error is one line and exit code 2, as everywhere."""
    with errors_said("train"), stop_on_signals():
        end_with_launcher()
        from instil.training.processes.launcher import receive
        from instil.training.run import train

        handed = receive()
        train(handed.recipe, resume=handed.resume, quiet=handed.quiet)


if __name__ == "__main__":
    main()

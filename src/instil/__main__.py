"""Run the command line: ``python -m instil`` is the same as ``instil``.

Why: the command line needs packages, and one of them may be missing or broken. Then every command is one line that says
so, and ``instil env`` still prints what there is.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Run the command line, or say why it cannot run."""
    try:
        # Why: this import, and those of the verbs, are what may fail.
        from instil.cli.main import main as run

        run()
    except ImportError as error:
        if "--traceback" in sys.argv or (error.name or "").startswith("instil"):
            raise
        _report(error)


def _report(error: ImportError) -> None:
    """Print which package keeps a command from running, or the environment if that was the command; exit."""
    # Why: these need the standard library only.
    from instil import env
    from instil.environment.privacy import without_private

    if sys.argv[1:2] == ["env"]:
        print(json.dumps(env().to_json(), indent=1) if "--json" in sys.argv else env())
        sys.exit(0)
    print(
        f"error: instil: a package cannot be imported ({without_private(str(error))}). "
        "Expected a whole installation. Run: instil env; --traceback shows where.",
        file=sys.stderr,
    )
    sys.exit(2)


if __name__ == "__main__":
    main()

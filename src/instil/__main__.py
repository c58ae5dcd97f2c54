"""Run the command line: ``python -m instil`` is the same as ``instil``."""

from instil.cli.main import main

main()

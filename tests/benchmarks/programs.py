"""The benchmarks as modules. They are programs beside the package, so they are imported from their own folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
PROGRAMS = tuple(sorted(path.stem for path in FOLDER.glob("*.py") if "def build_parser()" in path.read_text()))
"""Every benchmark with a command line of its own."""


def program(name: str) -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)

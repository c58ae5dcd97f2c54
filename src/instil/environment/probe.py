"""Imports packages in a process of their own and reports what happens: run as a script, with a question on stdin.

The question is one line of JSON: ``path``, the module search path, and ``steps``: modules to import, and `MACHINE`. The
answers are lines of JSON on stdout: ``{"step": ..., "result": ..., "error": text or null}``, one a step.

Why: an import can end the process or never return. So no import of instil stands here, and what packages print goes
nowhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

MACHINE = "machine"
"""The step that measures memory and devices, with the modules that were imported before it."""


def answers(steps: list[str]) -> Any:
    """Yield the answer of each step."""
    for step in steps:
        result, error = None, None
        try:
            result = machine() if step == MACHINE else bool(importlib.import_module(step))
        except BaseException as failure:  # a package may raise anything, SystemExit too
            text = (str(failure).strip().splitlines() or [""])[0]
            error = f"{type(failure).__name__}: {text}" if text else type(failure).__name__
        yield {"step": step, "result": result, "error": error}


def machine() -> dict[str, Any]:
    """Return memory, threads and devices, as far as psutil and torch were imported."""
    facts: dict[str, Any] = {}
    psutil, torch = sys.modules.get("psutil"), sys.modules.get("torch")
    if psutil is not None:
        memory = psutil.virtual_memory()
        facts |= {"memory": memory.total, "free_memory": memory.available}
    if torch is not None:
        facts |= {"threads": torch.get_num_threads(), "built_for": built_for(torch), "gpus": gpus(torch)}
    return facts


def built_for(torch: Any) -> str | None:
    """Return which GPUs torch was built for; None if for the CPU alone."""
    versions = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    return next((f"{name} {version}" for name, version in versions.items() if version), None)


def gpus(torch: Any) -> list[dict[str, Any]]:
    """Return name and memory of each device that torch can compute on besides the CPU."""
    found: list[dict[str, Any]] = []
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        name = f"{device.name}, compute capability {device.major}.{device.minor}"
        found.append({"name": name, "memory": total, "free_memory": free})
    if torch.backends.mps.is_available():
        found.append({"name": "Apple GPU (mps)", "memory": None, "free_memory": None})
    return found


def main() -> None:
    """Read the question and answer it."""
    question = json.loads(sys.stdin.readline())
    sys.path[:] = question["path"]
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for line in answers(question["steps"]):
            print(json.dumps(line), file=answer, flush=True)
        os._exit(0)  # what a package does at exit is of no interest here


if __name__ == "__main__":
    main()

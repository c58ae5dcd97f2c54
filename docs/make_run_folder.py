"""Write docs/reference/run-folder.md from the code that names the files: ``python docs/make_run_folder.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

from docs_site.markdown import cell, docstring_of, table, write

from instil.training.records.metrics import Metric
from instil.training.records.run_folder import RunPaths

HEAD = """# Run folder

What each file of a run is, when it is written, and who reads it.

`instil train` makes the folder when data, template and model have passed their checks. A refused run leaves nothing.
Every file is written whole or not at all. A run folder can be moved and copied, and it is a model for every command.
This page is written by `python docs/make_run_folder.py` from `src/instil/training/records/`.
"""
WRITTEN = {
    "recipe": "at the start",
    "environment": "at the start",
    "card": "at the start",
    "ledger": "at the start",
    "metrics": "at each step",
    "samples": "at each evaluation",
    "picture": "during the run, and at the end",
    "checkpoints": "at each evaluation or every `checkpoint.every` steps, and when stopped",
    "model": "at the end",
    "adapter": "at the end, with `adapter.kind: lora`",
    "trackers": "at the start, with a tracker that has ids",
    "results": "at the end: with it, the run is finished",
}
"""Property of `RunPaths` → when its file is written."""
READ = {
    "recipe": "`train --resume`, `runs compare`, `report`",
    "environment": "`train --resume`, `runs`, `report`",
    "card": "`report`",
    "ledger": "`report`",
    "metrics": "`runs`, `runs compare`, `report`",
    "samples": "`report`",
    "picture": "you",
    "checkpoints": "`train --resume`, `export`",
    "model": "`chat`, `generate`, `evaluate`, `serve`, `export`, transformers",
    "adapter": "`chat`, `generate`, `evaluate`, `serve`, `export`, peft",
    "trackers": "`train --resume`",
    "results": "`runs`, `report`",
}
"""Property of `RunPaths` → who reads its file."""
LATER = """## Written by other commands

| path | what it is |
|---|---|
| `report.html` | the page of `instil report` |
| `evaluation/evaluation.json` | figures, intervals and answers of `instil evaluate` |
| `evaluation/evaluation.md`, `evaluation/evaluation.html` | the same, to read |
| `notes.json` | tags and a note that you wrote on the page of the run in `instil studio` |

## A checkpoint

A checkpoint is a folder `checkpoints/step-000100`. Nothing in it is pickled.

| path | what it is |
|---|---|
| `manifest.json` | SHA-256 of every other file; with it, the checkpoint is complete |
| `state.json` | how far the run is, and what must be the same when it goes on |
| `weights-00000.safetensors` | the weights, or the pieces of them that process 0 holds |
| `optimizer-00000.safetensors` | the state of the optimizer, in the same pieces |
| `pieces-00000.json` | which rows of which tensor each piece is |
"""


def paths() -> dict[str, tuple[str, str]]:
    """Return the paths of a run folder: property → name in the folder, and what it is."""
    run = RunPaths(Path("run"))
    properties = {name: value for name, value in vars(RunPaths).items() if isinstance(value, property)}
    named = {}
    for name, value in properties.items():
        path = getattr(run, name).relative_to("run").as_posix()
        is_folder = "." not in path
        named[name] = (f"{path}/" if is_folder else path, cell(inspect.getdoc(value)))
    return named


def page() -> str:
    """Return the page."""
    rows = [[f"`{path}`", meaning, WRITTEN[name], READ[name]] for name, (path, meaning) in paths().items()]
    metrics = [[f"`{entry.arg_name}`", cell(entry.description)] for entry in docstring_of(Metric).params]
    return "\n".join(
        [
            HEAD,
            "## Files\n",
            table(["path", "what it is", "written", "read by"], rows) + "\n",
            "## A line of metrics.jsonl\n",
            f"{docstring_of(Metric).short_description} {docstring_of(Metric).long_description or ''}".strip() + "\n",
            table(["key", "meaning"], metrics) + "\n",
            LATER,
        ]
    )


if __name__ == "__main__":
    write("run-folder.md", page())

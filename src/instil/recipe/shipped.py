"""The recipes that ship in the package, found by name: ``instil train full --data rows.jsonl``."""

from __future__ import annotations

from pathlib import Path

from instil.files import home_path

FOLDER = Path(__file__).parents[1] / "recipes"
LAUNCH = FOLDER / "launch"
SUFFIXES = (".yaml", ".yml")
"""How the name of a recipe file ends."""


def shipped_names() -> list[str]:
    """Return the names of the recipes that ship in the package.

    Example:
        >>> "full" in shipped_names() and "lora" in shipped_names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launch_files() -> dict[str, Path]:
    """Return the files that start a recipe on a cluster, by name.

    Example:
        >>> sorted(launch_files())
        ['launch/hf-jobs', 'launch/kubernetes', 'launch/skypilot', 'launch/slurm', 'launch/torchrun']
    """
    return {f"launch/{path.stem}": path for path in sorted(LAUNCH.iterdir())}


def recipe_file(word: str | Path) -> Path | None:
    """Return the file of a recipe that is named by its path or by a shipped name, or None if the word is no recipe.

    A shipped name comes before a file or folder of that name, which is written with a folder: ``./full``.

    Example:
        >>> recipe_file("full").name, recipe_file("mine.yaml").name, recipe_file("rows.jsonl")
        ('full.yaml', 'mine.yaml', None)
    """
    name = str(word)
    if name.lower().endswith(SUFFIXES):
        return home_path(name)
    return FOLDER / f"{name}.yaml" if name in shipped_names() else None


def summary_of(name: str) -> str:
    """Return the first sentence of the comment at the head of a shipped recipe, or of a file that starts one.

    Example:
        >>> summary_of("full"), summary_of("launch/slurm")
        ('Full fine-tuning: every weight trains.', 'Slurm: train on machines of a cluster, in as many jobs as it takes.')
    """
    path = launch_files().get(name, FOLDER / f"{name}.yaml")
    comment = []
    for line in path.read_text(encoding="utf-8").removeprefix("#!/bin/bash\n").splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        comment.append(line.strip("# "))
    return " ".join(comment).partition(". ")[0].rstrip(".") + "."

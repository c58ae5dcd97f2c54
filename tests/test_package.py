"""Claims about the package as a whole: what is exported, what imports what, what an import costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import instil

SOURCE = Path(instil.__file__).parent
ORDER = (
    ("errors",),
    ("units",),
    ("files",),
    ("conversation",),
    ("setting_aliases",),
    ("recipe", "recipe_yaml"),
    ("data",),
    ("template",),
    ("preparation.threads",),
    ("model",),
    ("encoding",),
    ("preparation",),
    ("generation",),
    ("inspection",),
    ("evaluation",),
    ("training",),
    ("export",),
    ("demo",),
    ("cli", "__main__"),
)
"""A module may import what stands in its own line or above it. `data.preparation` stands below encoding, which it calls; `data.known_stores` below the model, whose files it looks at."""


def layer(module: str) -> int | None:
    """Give the line of ORDER that a module such as ``data.preparation`` belongs to; the longest prefix wins."""
    found = None
    longest = -1
    for index, prefixes in enumerate(ORDER):
        for prefix in prefixes:
            if (module == prefix or module.startswith(prefix + ".")) and len(prefix) > longest:
                found, longest = index, len(prefix)
    return found


def imports_of(path: Path) -> set[str]:
    """Give the instil modules that a file imports anywhere in it, without the leading ``instil.``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("instil."):
            names.add(node.module.removeprefix("instil."))
            names |= {f"{node.module.removeprefix('instil.')}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("instil.") for alias in node.names if alias.name.startswith("instil.")}
    return names


def test_imports_point_one_way():
    wrong, looked_at = [], 0
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        mine = layer(module)
        if mine is None:
            assert module == "__init__", f"{module} has no place in ORDER"
            continue
        for name in imports_of(path):
            theirs = layer(name)
            looked_at += 1
            if theirs is not None and theirs > mine:
                wrong.append(f"{module} imports {name}")
    assert looked_at > 20
    assert wrong == []


def test_every_public_name_exists_and_is_documented():
    names = [name for name in instil.__all__ if name != "__version__"]
    assert len(names) > 10
    for name in names:
        assert getattr(instil, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        instil.nothing


@pytest.mark.parametrize("code", ["import instil", "from instil.cli.main import build_app; build_app()"])
def test_import_leaves_torch_and_transformers_alone(code):
    script = (
        f"{code}; import sys; print([m for m in ('torch', 'transformers', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_verb_can_be_imported_without_torch():
    from instil.cli.main import VERBS

    script = "import importlib, sys\n"
    for _, where, _ in VERBS:
        module, _, attribute = where.partition(":")
        assert hasattr(importlib.import_module(module), attribute), where
        script += f"importlib.import_module({module!r})\n"
    script += "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

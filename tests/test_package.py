"""Claims about the package as a whole: what is exported, what imports what, what an import costs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path

import pytest

import instil

SOURCE = Path(instil.__file__).parent
ORDER = (
    ("way_in",),
    ("errors",),
    ("waiting_threads",),
    ("units",),
    ("run_warning",),
    ("refused_writes",),
    ("files", "file_use"),
    ("remote",),
    ("views",),
    ("screen",),
    ("environment",),
    ("ray_cluster",),
    ("conversation",),
    ("setting_aliases",),
    ("recipe",),
    ("data",),
    ("template",),
    ("model",),
    ("encoding",),
    ("preparation",),
    ("generation",),
    ("inspection",),
    ("evaluation",),
    ("training",),
    ("reporting",),
    ("exporting",),
    ("sweeps",),
    ("demo",),
    ("api",),
    ("studio",),
    ("cli", "__main__"),
)
"""A module may import what is in its own line or above it; there are no exceptions."""
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}
PACKAGES = {
    ".".join(path.relative_to(SOURCE).parent.parts) for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE
}
ROOMS = ("data", "encoding", "preparation", "model", "training")
LARGEST_ROOM = 16


def layer(module: str) -> int:
    """Return the line of ORDER that a module such as ``data.reading`` belongs to."""
    top = module.split(".")[0]
    return next(index for index, names in enumerate(ORDER) if top in names)


def imports_of(path: Path) -> set[str]:
    """Return the modules of instil that a file imports anywhere in it, without the leading ``instil.``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("instil."):
            package = node.module.removeprefix("instil.")
            for alias in node.names:
                names.add(f"{package}.{alias.name}" if f"{package}.{alias.name}" in MODULES else package)
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("instil.") for alias in node.names if alias.name.startswith("instil.")}
    return names


@cache
def all_imports() -> dict[str, set[str]]:
    """Return the imports of every module; its file is read at the first test that asks, not where tests are collected."""
    return {module: imports_of(path) for module, path in MODULES.items()}


def room_of(module: str) -> str:
    """Return the sub-package of a module that lies in one, else the module itself."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 else module


def circles(imports: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return every import circle as the modules along it; found by removing what imports nothing that is left."""
    left = {module: {name for name in names if name in imports and name != module} for module, names in imports.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    found = []
    while left:
        way = [next(iter(left))]
        while (following := next(iter(left[way[-1]] & left.keys()))) not in way:
            way.append(following)
        circle = way[way.index(following) :]
        found.append(circle)
        for module in circle:
            del left[module]
        while free := [module for module, names in left.items() if not names & left.keys()]:
            for module in free:
                del left[module]
    return found


def test_imports_point_one_way():
    assert len(MODULES) > 200
    assert [
        module
        for module in MODULES
        if module and module != "__init__" and not any(module.split(".")[0] in names for names in ORDER)
    ] == []
    upward = [
        f"{module} imports {name}"
        for module, names in all_imports().items()
        if module != "__init__"
        for name in names
        if layer(name) > layer(module)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) in ([["b", "c"]], [["c", "b"]])
    assert sum(map(len, all_imports().values())) > 800
    assert circles(all_imports()) == []


def test_no_rooms_import_each_other_in_a_circle():
    rooms: dict[str, set[str]] = {}
    for module, names in all_imports().items():
        rooms.setdefault(room_of(module), set()).update(name if name in PACKAGES else room_of(name) for name in names)
    assert circles(rooms) == []


def test_no_room_is_too_large():
    sizes = Counter(module.rpartition(".")[0] for module in MODULES if module not in PACKAGES)
    assert {
        package: size for package, size in sizes.items() if package.split(".")[0] in ROOMS and size > LARGEST_ROOM
    } == {}


@pytest.mark.slow
def test_imports_inside_functions_say_why():
    """An import of our own code inside a function hides a dependency; it is allowed where it keeps torch out, with a reason; for `cli` the reason stands in its docstring."""
    without_reason = []
    looked_at = 0
    for module, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            own = [
                node
                for node in ast.walk(function)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("instil")
            ]
            looked_at += len(own)
            if own and not module.startswith("cli."):
                before_first = lines[function.lineno : own[0].lineno]
                if not any("Why:" in line for line in before_first):
                    without_reason.append(f"{module}:{own[0].lineno}")
    assert looked_at > 10
    assert "Why:" in (ast.get_docstring(ast.parse(MODULES["cli"].read_text(encoding="utf-8"))) or "")
    assert without_reason == []


def test_the_step_knows_no_recipe_and_no_folder():
    below = {module: names for module, names in all_imports().items() if module.startswith("training.step.")}
    assert len(below) > 6
    forbidden = ("recipe", "files", "training.records", "training.checkpoints", "training.processes.launcher")
    assert [
        f"{module} imports {name}" for module, names in below.items() for name in names if name.startswith(forbidden)
    ] == []


def test_one_module_decides_the_weight_of_a_token():
    """Whoever makes an example with weights calls `encoding.weights`; nobody else writes one."""
    callers = {module for module, names in all_imports().items() if "encoding.weights" in names}
    assert callers == {
        "encoding.encoder",
        "encoding.grouping",
        "encoding.token_texts",
        "inspection.repair",
        "encoding.plain_text",
        "encoding.plans.batch_encoder",
        "encoding.truncation",
        "preparation.encode_pairs",
        "preparation.encode_rows",
    }
    makes_examples = {
        module
        for module, path in MODULES.items()
        if re.search(r"\bExample\(|replace\(\s*example\b", path.read_text(encoding="utf-8"))
        and module.split(".")[0] in ("encoding", "preparation")
    }
    assert "encoding.encoder" in makes_examples
    # The store gives back what was stored, and the prompt that is explained has no trained token.
    in_doctests = {"preparation.batches", "preparation.torch_examples"}
    assert makes_examples - callers - in_doctests <= {"encoding.weights", "preparation.store", "encoding.token_origins"}


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


@pytest.mark.slow
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

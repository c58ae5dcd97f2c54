"""Claims about the packages that `instil env` knows: those of pyproject.toml, each imported by its real name."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import instil
from instil.environment.packages import CORE, EXTRAS, fits, installed_versions, module_of, required_version, version_of

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"docs", "dev"}


def names_in(requirements: list[str]) -> list[str]:
    return [re.split(r"[<>=~!\[]", line)[0] for line in requirements]


def test_the_packages_are_those_of_pyproject():
    assert list(CORE) == names_in(PROJECT["dependencies"])
    extras = {
        extra: names_in(lines)
        for extra, lines in PROJECT["optional-dependencies"].items()
        if extra not in FOR_DEVELOPERS
    }
    assert {extra: list(names) for extra, names in EXTRAS.items()} == extras


def test_each_installed_package_can_be_imported_by_the_name_that_is_known():
    installed = [name for name in {*CORE, *(name for names in EXTRAS.values() for name in names)} if version_of(name)]
    assert len(installed) >= len(CORE)
    assert [name for name in installed if find_spec(module_of(name)) is None] == []


def test_the_version_of_instil_needs_no_installation(monkeypatch):
    def not_there(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_there)
    assert version_of("instil") == instil.__version__
    assert installed_versions(["instil", "torch"]).keys() == {"python", "instil"}


def test_required_versions_are_read_from_the_metadata():
    assert required_version("no-such-package") is None
    required = required_version("transformers")
    assert required is not None
    assert fits("5.17.0", required)
    assert not fits("4.57.1", required)


def test_a_package_that_is_not_installed_has_no_version():
    assert version_of("no-such-package") is None
    assert set(installed_versions(["numpy", "no-such-package"])) == {"python", "numpy"}

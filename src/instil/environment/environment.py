"""`instil.env`: what instil runs on, for a person who looks for a fault, and nothing that is private.

Why: the text is made to be pasted into an issue. It has no path, no name of a user or a machine, no variable of the
environment and no token.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from instil.environment.machine import memory_limit, usable_cores
from instil.environment.packages import CORE, EXTRAS, fits, module_of, required_version, version_of
from instil.environment.privacy import without_private
from instil.environment.probe import MACHINE
from instil.environment.probing import Answer, ask
from instil.units import byte_size, counted
from instil.views.html import frame, table, warnings


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device besides the CPU.

    Attributes:
        name: Its name.
        memory: Its memory in bytes, None if unknown.
        free_memory: What of it is free.
    """

    name: str
    memory: int | None
    free_memory: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Environment:
    """What instil runs on. Its `repr` is what ``instil env`` prints.

    Attributes:
        instil: Version of instil.
        python: Version of Python.
        system: Operating system, kernel and kind of processor.
        packages: Version of each package that every installation has, None if it is missing.
        extras: For each extra, the versions of its packages.
        cores: CPU cores that this process may use.
        threads: Threads that torch computes with, None if torch cannot be imported.
        memory: Memory of the machine in bytes, None if unknown.
        free_memory: What of it is free.
        memory_limit: Limit of this container, None if there is none.
        built_for: Which GPUs torch was built for, None if for the CPU alone.
        gpus: Devices that torch can compute on besides the CPU.
        problems: What is wrong, with what to do.
    """

    instil: str
    python: str
    system: str
    packages: Mapping[str, str | None]
    extras: Mapping[str, Mapping[str, str | None]]
    cores: int
    threads: int | None
    memory: int | None
    free_memory: int | None
    memory_limit: int | None
    built_for: str | None
    gpus: tuple[Gpu, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; memory in bytes."""
        return asdict(self)

    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return everything as titles with names and values, as it is printed."""
        versions = [("instil", self.instil), ("Python", self.python), ("system", self.system)]
        core = [(name, version or "not installed") for name, version in self.packages.items()]
        extras = [(extra, _extra_words(versions)) for extra, versions in self.extras.items()]
        return [("", versions), ("Packages", core), ("Extras", extras), ("Machine", self._machine())]

    def _machine(self) -> list[tuple[str, str]]:
        threads = "" if self.threads is None else f", {counted(self.threads, 'thread')} of torch"
        limit = "" if self.memory_limit is None else f"; this container may use {byte_size(self.memory_limit)}"
        torch = f"torch is built for {self.built_for}" if self.built_for else "torch is built for the CPU"
        if self.threads is None:
            torch = "torch cannot be imported"
        devices = [(f"GPU {number}", _memory_words(gpu)) for number, gpu in enumerate(self.gpus)]
        return [
            ("CPU", f"{counted(self.cores, 'core')}{threads}"),
            ("memory", _of(self.free_memory, self.memory) + limit),
            *(devices or [("GPU", f"none that torch sees; {torch}")]),
        ]

    def __repr__(self) -> str:
        lines = []
        for title, facts in self.groups():
            width = max(len(name) for name, _ in facts)
            lines += ["", title] if title else []
            lines += [f"{name:{width}} {value}" for name, value in facts]
        lines += ["", "Problems", *self.problems] if self.problems else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        (_, versions), *others = self.groups()
        tables = "".join(f"<div><b>{title}</b>{table((), facts)}</div>" for title, facts in others)
        facts = [value if name == "system" else f"{name} {value}" for name, value in versions]
        return frame("environment", facts=facts, body=warnings(self.problems) + f'<div class="tables">{tables}</div>')


def env() -> Environment:
    """Return versions, devices and memory, and which packages are missing or cannot be imported. Nothing private.

    Packages are imported in a process of their own, so a broken one is named and breaks nothing. This takes seconds.

    Example:
        >>> found = env()  # doctest: +SKIP
        >>> found.packages["torch"], found.gpus, found.problems  # doctest: +SKIP
        ('2.11.0', (), ())
    """
    # Why: the package's own version; the package imports no torch.
    from instil import __version__

    packages = {name: version_of(name) for name in CORE}
    extras = {extra: {name: version_of(name) for name in names} for extra, names in EXTRAS.items()}
    everything = packages | {name: version for names in extras.values() for name, version in names.items()}
    installed = {module_of(name): name for name, version in everything.items() if version}
    first = [module for module in ("psutil", "torch") if module in installed]
    answers = ask([*first, MACHINE, *(module for module in installed if module not in first)])
    machine = answers[MACHINE].result or {}
    problems = [
        *_missing(packages),
        *(problem for name, version in everything.items() if (problem := _wrong_version(name, version))),
        *(_broken(name, everything[name], answers[module]) for module, name in installed.items() if answers[module].error),
        *([f"devices cannot be measured: {answers[MACHINE].error}."] if answers[MACHINE].error else []),
    ]  # fmt: skip
    return Environment(
        instil=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=without_private(_system()),
        packages=packages,
        extras=extras,
        cores=usable_cores(),
        threads=machine.get("threads"),
        memory=machine.get("memory"),
        free_memory=machine.get("free_memory"),
        memory_limit=memory_limit(),
        built_for=machine.get("built_for"),
        gpus=tuple(Gpu(**gpu) for gpu in machine.get("gpus", ())),
        problems=tuple(map(without_private, problems)),
    )


def _missing(packages: Mapping[str, str | None]) -> list[str]:
    return [
        f"{name}: not installed. Expected {name}{required_version(name) or ''}. Run: pip install instil"
        for name, version in packages.items()
        if version is None
    ]


def _wrong_version(name: str, version: str | None) -> str:
    required = required_version(name)
    if not version or not required or fits(version, required):
        return ""
    return f"{name}: found {version}. Expected {required}. Run: pip install '{name}{required}'"


def _broken(name: str, version: str | None, answer: Answer) -> str:
    return f"{name}: {version} is installed and cannot be imported ({answer.error}). Install it again."


def _extra_words(versions: Mapping[str, str | None]) -> str:
    """Return the installed versions of an extra, and what it lacks."""
    found = [f"{name} {version}" for name, version in versions.items() if version]
    missing = [name for name, version in versions.items() if not version]
    if not found:
        return "not installed"
    return ", ".join(found) + (f"; not installed: {', '.join(missing)}" if missing else "")


def _memory_words(gpu: Gpu) -> str:
    return gpu.name if gpu.memory is None else f"{gpu.name}, {_of(gpu.free_memory, gpu.memory)}"


def _of(free: int | None, total: int | None) -> str:
    if total is None:
        return "unknown"
    return byte_size(total) + ("" if free is None else f", {byte_size(free)} free")


def _system() -> str:
    """Return the names of the operating system, its kernel and the kind of processor."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux, or one that does not say
        name = f"macOS {platform.mac_ver()[0]}" if platform.system() == "Darwin" else ""
    kernel = f"{platform.system()} {platform.release()}"
    return ", ".join(part for part in (name, kernel, platform.machine()) if part)

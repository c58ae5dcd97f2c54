"""The packages that instil uses, and their installed versions, read without importing them."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from instil import __version__

CORE = (
    "torch", "transformers", "tokenizers", "safetensors", "jinja2", "numpy", "llvmlite", "pyarrow", "pydantic", "pyyaml",
    "rich", "cyclopts", "datasets", "peft", "matplotlib", "psutil", "zstandard", "charset-normalizer", "fsspec", "py3langid",
)  # fmt: skip
"""Packages that every installation has."""
EXTRAS = {
    "qlora": ("bitsandbytes",),
    "serve": ("fastapi", "uvicorn", "llguidance"),
    "studio": ("fastapi", "uvicorn", "jinja2", "python-multipart"),
    "tracking": ("tensorboard", "wandb", "trackio"),
    "metrics": ("sacrebleu", "rouge-score", "scikit-learn", "jsonschema"),
    "harness": ("lm-eval",),
    "gguf": ("gguf",),
    "quantise": ("gguf", "llama-cpp-python"),
    "excel": ("openpyxl",),
    "s3": ("s3fs",),
    "gcs": ("gcsfs",),
    "azure": ("adlfs",),
    "search": ("optuna",),
    "ray": ("ray",),
}
"""Packages of each extra that a user of instil chooses."""
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn", "llama-cpp-python": "llama_cpp", "lm-eval": "lm_eval"}
"""What is imported, where the name of a package differs by more than a hyphen."""


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return Python's version and those of the packages that are installed.

    Example:
        >>> sorted(installed_versions(["pyyaml", "no-such-package"]))
        ['python', 'pyyaml']
    """
    found = {name: version_of(name) for name in names}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}


def version_of(name: str) -> str | None:
    """Return the version of an installed package; None if it is not installed or its metadata is damaged.

    Why: instil itself also runs from a source tree that is not installed, so its own version is not looked up.
    """
    if name == "instil":
        return __version__
    try:
        return metadata.version(name) or None
    except metadata.PackageNotFoundError:
        return None


def module_of(name: str) -> str:
    """Return the module that a package is imported as.

    Example:
        >>> module_of("pyyaml"), module_of("rouge-score")
        ('yaml', 'rouge_score')
    """
    return MODULES.get(name, name.replace("-", "_"))


def required_version(name: str) -> str | None:
    """Return which versions of a package instil requires, such as ``>=5.17,<6``.

    None if instil's metadata is missing, or the package `packaging`, which reads it.
    """
    try:
        from packaging.requirements import Requirement

        requirements = [Requirement(line) for line in metadata.requires("instil") or ()]
    except (ImportError, metadata.PackageNotFoundError):
        return None
    return next((str(one.specifier) for one in requirements if one.name.lower() == name), None)


def fits(version: str, required: str) -> bool:
    """Return whether a version is one of those required; True if one of the two cannot be read.

    Example:
        >>> fits("5.18.0", "<6,>=5.17"), fits("4.57.1", "<6,>=5.17"), fits("2.11.0+cpu", ">=2.11")
        (True, False, True)
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(required).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True

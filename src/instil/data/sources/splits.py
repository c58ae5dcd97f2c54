"""Divide the files of a folder into splits, as `datasets.load_dataset` does for a folder or a cloned Hub data set.

In this order: ``configs`` in the front matter of README.md, names such as ``data/train-00000-of-00002.parquet``, folders
named after a split, files named after a split. Where none of these is there, every file is of split ``train``.

Why: the rules are those of `datasets.data_files`, written again because that package needs a second to import. A test
compares both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from instil.errors import DataError

ALL = "all"
"""The split that stands for every file of a folder."""
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_File = TypeVar("_File")
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*\..*")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def splits_of(
    folder: Path | str,
    names: Mapping[_File, str],
    *,
    readme: Callable[[], str | None],
    subset: str | None = None,
) -> dict[str, list[_File]]:
    """Return the files of each split, sorted by name.

    Args:
        folder: The folder or its address, for errors.
        names: All its data files, each with its path in the folder.
        readme: Returns the text of the README.md in the folder, or None if there is none.
        subset: Configuration to take from README.md; by default the first, or the one marked as default.

    Raises:
        DataError: If README.md has no such configuration.
    """
    configured = _configured(folder, names, subset, readme)
    if configured is not None:
        return configured
    shards: dict[str, list[_File]] = {}
    for path, name in names.items():
        if match := _SHARD.fullmatch(name):
            shards.setdefault(match.group(1), []).append(path)
    if shards:
        return shards
    for is_of in (_lies_in, _is_named):
        found = {split: [path for path, name in names.items() if is_of(name, split)] for split in _KEYWORDS}
        if any(found.values()):
            return {split: paths for split, paths in found.items() if paths}
    return {"train": list(names)}


def files_of_split(
    folder: Path | str, splits: Mapping[str, Sequence[_File]], files: Sequence[_File], split: str
) -> list[_File]:
    """Return the files of a split, of several (``train+test``), or of the whole folder (``all``).

    Raises:
        DataError: If the folder has no such split.
    """
    if split == ALL and ALL not in splits:
        return list(files)
    chosen: dict[_File, None] = {}
    for name in split.split("+"):
        if name not in splits:
            raise DataError(
                f"{folder}: has no split {name!r}. Expected one of: {', '.join(splits)}, or {ALL} for every file. "
                "Set split."
            )
        chosen |= dict.fromkeys(splits[name])
    return list(chosen)


def not_read(splits: Mapping[str, Sequence[_File]], files: Sequence[_File], chosen: Iterable[_File]) -> str:
    """Return which files of a folder are left, by split, for people; an empty string if there are none."""
    left = set(files) - set(chosen)
    parts = [f"{name} ({_listed(paths)})" for name, paths in splits.items() if left.issuperset(paths)]
    other = left - {path for paths in splits.values() for path in paths}
    if other:
        parts.append(f"files of no split ({_listed([path for path in files if path in other])})")
    return ", ".join(parts)


def _listed(paths: Sequence[object]) -> str:
    return PurePosixPath(str(paths[0])).name if len(paths) == 1 else f"{len(paths)} files"


def _is_named(name: str, split: str) -> bool:
    return _has_keyword(name.rpartition("/")[2], split, ends=False)


def _lies_in(name: str, split: str) -> bool:
    return any(_has_keyword(part, split, ends=True) for part in name.split("/")[:-1])


def _has_keyword(name: str, split: str, *, ends: bool) -> bool:
    words = "|".join(_KEYWORDS[split])
    behind = r"(?:[-._ 0-9].*)?" if ends else r"[-._ 0-9].*"
    return re.fullmatch(rf"(?:.*[-._ 0-9])?(?:{words}){behind}", name) is not None


def _configured(
    folder: Path | str, names: Mapping[_File, str], subset: str | None, readme: Callable[[], str | None]
) -> dict[str, list[_File]] | None:
    """Return the splits that README.md names, or None where it names none."""
    configs = [config for config in _configs(readme) if isinstance(config, Mapping) and config.get("data_files")]
    if not configs:
        return None
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    if subset is not None and subset not in by_name:
        raise DataError(f"{folder}: has no subset {subset!r}. Expected one of: {', '.join(by_name)}. Set subset.")
    default = next((config for config in configs if config.get("default")), by_name.get("default", configs[0]))
    data_files = (default if subset is None else by_name[subset])["data_files"]
    entries = data_files if isinstance(data_files, list) else [data_files]
    splits: dict[str, list[_File]] = {}
    for entry in entries:
        split, patterns = (
            (str(entry.get("split", "train")), entry.get("path", []))
            if isinstance(entry, Mapping)
            else ("train", entry)
        )
        is_of = _matcher([patterns] if isinstance(patterns, str) else list(patterns))
        splits.setdefault(split, []).extend(path for path, name in names.items() if is_of(name))
    return {split: paths for split, paths in splits.items() if paths} or None


def _matcher(patterns: Sequence[Any]) -> Callable[[str], bool]:
    return lambda name: any(
        fnmatch(name, str(pattern)) or ("**/" in str(pattern) and fnmatch(name, str(pattern).replace("**/", "")))
        for pattern in patterns
    )


def _configs(readme: Callable[[], str | None]) -> list[Any]:
    """Return ``configs`` of the front matter of README.md. A damaged one is no reason not to read the data."""
    import yaml  # Why: needed only where a README lies beside the data

    try:
        front = _FRONT_MATTER.match(readme() or "")
        matter = yaml.safe_load(front.group(1)) if front else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    configs = matter.get("configs") if isinstance(matter, Mapping) else None
    return configs if isinstance(configs, list) else []

"""Finds a model by name: `demo`, a run folder, a model folder, an adapter folder or a Hub id.

Every command that takes a model calls this module, so all accept the same names. A Hub model is downloaded completely
before it is used, without code and without pickled weights.

Why: a name is looked up on disk first. The Hub is contacted only if no file or folder resembles the name, so a mistyped
path never becomes a download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from instil.errors import ModelError, first_line_of, nearest
from instil.files import home_path, nearest_beside
from instil.model.folder.file_checks import ADAPTER_CONFIG, has_tokenizer, read_json
from instil.screen.library_bars import download_bars

Kind = Literal["base", "run", "folder", "adapter", "hub"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
TOKENIZER_HUB_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
HUB_FILES = ("*.safetensors", *TOKENIZER_HUB_FILES)


@dataclass(frozen=True)
class ModelLocation:
    """The folders that hold a model's files.

    Attributes:
        name: The name as the user wrote it.
        kind: What the name refers to; `base` is the embedded base model.
        folder: Folder with config.json and weights; for an adapter, the folder of its base.
        adapter_folder: Folder with adapter_config.json, if there is an adapter.
        base: Name of an adapter's base, as adapter_config.json has it.
    """

    name: str
    kind: Kind
    folder: Path
    adapter_folder: Path | None = None
    base: str | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """The folder to load the tokenizer from: the adapter's, if it holds a tokenizer, else the model's."""
        if self.adapter_folder is not None and has_tokenizer(self.adapter_folder):
            return self.adapter_folder
        return self.folder

    @property
    def base_name(self) -> str:
        """A name of the base for use elsewhere: a Hub id or `demo` stays as it is, a path becomes absolute."""
        if self.adapter_folder is None:
            is_named, name = self.kind in ("base", "hub"), self.name
        else:
            name = self.base or ""
            is_path = (self.adapter_folder / name).is_dir() or Path(name).exists()
            is_named = HUB_ID.fullmatch(name) is not None and not is_path
        return name if is_named else str(self.folder.resolve())


def locate(name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False) -> ModelLocation:
    """Find a model.

    Args:
        name: `demo`, run folder, model folder, adapter folder or Hub id.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Also download the Python files of a Hub model.

    Returns:
        Its location. `check_weights` and `check_tokenizer` check whether the files are complete; this function does
        not.

    Raises:
        ModelError: If nothing has that name, or the folder holds no model.
    """
    return _locate(name, revision, trust_remote_code=trust_remote_code, hub_files=HUB_FILES)


def _path(name: object) -> Path:
    """Return a name as a path.

    Raises:
        ModelError: If it is neither a text nor a path.
    """
    if isinstance(name, str | PathLike) and isinstance(text := fspath(name), str) and "\0" not in text:
        return home_path(text)
    raise ModelError(
        f"model: found {name!r}. Expected `demo`, a run, model or adapter folder, or a Hub id. Give its name as text."
    )


def _locate(name: object, revision: str | None, *, trust_remote_code: bool, hub_files: Sequence[str]) -> ModelLocation:
    path = _path(name)
    text = fspath(name)  # type: ignore[call-overload]
    if revision is not None and (text == "demo" or path.exists()):
        raise ModelError(
            f"model.revision: found {revision!r}, but {text} is on this disk. Only a Hub id has revisions. Leave it "
            "out."
        )
    if text == "demo":
        return ModelLocation(text, "base", _demo_folder())
    if path.is_file():
        raise ModelError(f"{text}: is a file. Expected a folder, a Hub id or `demo`. Name the folder that contains it.")
    if path.is_dir():
        return _in_folder(text, path)
    if not is_on_hub(text):
        raise ModelError(
            f"{text}: no such model folder{nearest_beside(path)}. Expected `demo`, a run, model or adapter folder, or a Hub id such as "
            "owner/name. Check the path."
        )
    return _from_hub(text, revision, [*hub_files, "*.py"] if trust_remote_code else hub_files)


def is_on_hub(name: str) -> bool:
    """Return whether a model would be read from the Hub: its name has the form of an id, and nothing here has it.

    Example:
        >>> is_on_hub("owner/name"), is_on_hub("runs/nothing"), is_on_hub("demo")
        (True, False, False)
    """
    path = _path(name)
    # `runs/nothing` has the form of a Hub id, but is a mistyped path; so is a name in a folder that is here.
    owner = name.partition("/")[0]
    is_local = owner != name and (owner == "runs" or Path(owner).exists())
    return (
        name != "demo"
        and not path.exists()
        and not path.is_absolute()
        and not is_local
        and bool(HUB_ID.fullmatch(name))
    )


def locate_tokenizer(
    name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False
) -> ModelLocation:
    """Find a model of which only the tokenizer is needed; a folder with nothing but a tokenizer is enough.

    Raises:
        ModelError: If nothing has that name, or the folder holds neither a model nor a tokenizer.
    """
    folder = _path(name)
    if folder.is_dir() and has_tokenizer(folder) and not (folder / "config.json").exists():
        return ModelLocation(str(name), "folder", folder)
    return _locate(name, revision, trust_remote_code=trust_remote_code, hub_files=TOKENIZER_HUB_FILES)


def run_folder(location: ModelLocation) -> Path | None:
    """Return the run that a model belongs to, or None.

    The location names the run itself, or its ``model/`` or ``adapter/`` folder. A recipe alone does not make its
    folder a run, because a base model may lie beside a recipe.
    """
    folder = (location.adapter_folder or location.folder).parent
    if location.kind == "run":
        return folder
    is_run = all((folder / name).exists() for name in ("recipe.yaml", "environment.json"))
    return folder if location.kind in ("folder", "adapter") and is_run else None


def _demo_folder() -> Path:
    folder = Path(__file__).parents[2] / "demo" / "base"
    if not (folder / "config.json").exists():
        raise ModelError(f"demo: the embedded base model is missing from {folder}. Install instil again.")
    return folder


def _in_folder(name: str, path: Path) -> ModelLocation:
    if (path / ADAPTER_CONFIG).exists():
        return _adapter(name, path, kind="adapter")
    if (path / "config.json").exists():
        return ModelLocation(name, "folder", path)
    if (path / "sweep.json").exists():
        best = read_json(path / "sweep.json").get("best")
        one = f"the best one is {path / str(best)}" if best else "see sweep.json there"
        raise ModelError(f"{name}: a sweep of several runs. Expected one of them; {one}. Name it.")
    if not (path / "recipe.yaml").exists():
        entries = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise ModelError(
            f"{name}: no model here (found {entries}). Expected config.json, adapter_config.json or a run's "
            "recipe.yaml. Check the path."
        )
    model = path / "model"
    if (model / ADAPTER_CONFIG).exists():
        return _adapter(name, model, kind="run")
    if (model / "config.json").exists():
        return ModelLocation(name, "run", model)
    raise ModelError(
        f"{name}: a run that has not finished: it has no model/ yet. "
        f"Finish it with `instil train {path / 'recipe.yaml'} --resume`."
    )


def _adapter(name: str, path: Path, *, kind: Kind) -> ModelLocation:
    """Return the location of an adapter and its base, which is a folder beside it, another path, a Hub id or `demo`."""
    config = read_json(path / ADAPTER_CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base:
        raise ModelError(f"{path}: adapter_config.json names no base model. Set base_model_name_or_path in it.")
    beside = path / str(base)
    here = next((str(path) for path in (beside, home_path(str(base))) if path.is_dir()), str(base))
    if base != "demo":
        _refuse_chain(name, Path(here))
    try:
        location = locate(here, None if Path(here).is_dir() or here == "demo" else revision)
    except ModelError as error:
        raise ModelError(
            f"{name}: an adapter whose base {base!r} cannot be found ({str(error).removesuffix('.')}). "
            "Put the base there or correct base_model_name_or_path in adapter_config.json."
        ) from None
    if location.adapter_folder is not None:
        raise _chain(name, base)
    return ModelLocation(name, kind, location.folder, path, str(base))


def _refuse_chain(name: str, base: Path) -> None:
    """Refuse an adapter as base before its own base is looked up: two that name each other would never end."""
    if any((place / ADAPTER_CONFIG).exists() for place in (base, base / "model")):
        raise _chain(name, base)


def _chain(name: str, base: object) -> ModelError:
    return ModelError(
        f"{name}: an adapter on another adapter ({base}). Expected a complete model as base. "
        "Merge the first one with `instil export`."
    )


def _from_hub(name: str, revision: str | None, files: Sequence[str]) -> ModelLocation:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=list(files), tqdm_class=download_bars())
        )
    except Exception as error:  # the Hub client raises many classes; each means that the model cannot be downloaded
        reason = first_line_of(error)
        raise ModelError(
            f"{name}: no such folder{nearest(name, ['demo']) or nearest_beside(home_path(name))}, and it cannot be downloaded from the Hub ({reason}). "
            "Check the spelling, the revision, the network and, for a gated model, the login."
        ) from None
    if (folder / ADAPTER_CONFIG).exists():
        return _adapter(name, folder, kind="adapter")
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{name}: the Hub repository has no config.json. Expected a model in transformers' format. Check the name."
        )
    return ModelLocation(name, "hub", folder)

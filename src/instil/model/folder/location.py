"""Finds a model by the name that a person gives it.

A name is `demo`, a run folder, a model folder, an adapter folder or a Hub id; everything that takes a model asks here, so all
verbs accept the same names. Questionable on purpose: a name is tried on the disk first and goes to the Hub only where nothing
on the disk resembles it; a Hub model is fetched whole before it is used, without code and without pickled weights.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from instil.errors import ModelError

Kind = Literal["base", "run", "folder", "adapter", "hub"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


@dataclass(frozen=True)
class ModelLocation:
    """Where a model's files lie.

    Attributes:
        name: As the person gave it.
        kind: What the name turned out to be; `base` is the embedded base model.
        folder: Folder with config.json and weights; of an adapter, its base's.
        adapter_folder: Folder with adapter_config.json, where there is an adapter.
        base: The base that an adapter names, as it is written there.
    """

    name: str
    kind: Kind
    folder: Path
    adapter_folder: Path | None = None
    base: str | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """The folder to load the tokenizer from: the adapter's own where it has one."""
        if self.adapter_folder is not None and has_tokenizer(self.adapter_folder):
            return self.adapter_folder
        return self.folder

    @property
    def base_name(self) -> str:
        """Name the whole model as it is understood elsewhere: a Hub id or `demo` stays, a path becomes absolute."""
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
        trust_remote_code: Also fetch the Python files of a Hub model.

    Returns:
        Its location. Whether weights and tokenizer are whole is checked by `check_weights` and `check_tokenizer`.

    Raises:
        ModelError: If there is nothing of that name, or the folder holds no model.
    """
    text = str(name)
    path = Path(name).expanduser()
    if revision is not None and (text == "demo" or path.exists()):
        raise ModelError(
            f"model.revision: found {revision!r}, but {text} is on this disk; only a Hub id has revisions; leave it out"
        )
    if text == "demo":
        return ModelLocation(text, "base", _demo_folder())
    if path.is_file():
        raise ModelError(f"{text}: is a file; expected a folder, a Hub id or `demo`; name the folder that it lies in")
    if path.is_dir():
        return _in_folder(text, path)
    if not HUB_ID.fullmatch(text) or path.is_absolute() or ("/" in text and Path(text.split("/")[0]).exists()):
        raise ModelError(
            f"{text}: no such model folder; expected `demo`, a run, model or adapter folder, or a Hub id such as "
            "owner/name; check the path"
        )
    return _from_hub(text, revision, trust_remote_code=trust_remote_code)


def _demo_folder() -> Path:
    folder = Path(__file__).parents[2] / "demo" / "base"
    if not (folder / "config.json").exists():
        raise ModelError(f"demo: the embedded base model is missing from {folder}; install instil again")
    return folder


def _in_folder(name: str, path: Path) -> ModelLocation:
    if (path / "adapter_config.json").exists():
        return _adapter(name, path, kind="adapter")
    if (path / "config.json").exists():
        return ModelLocation(name, "folder", path)
    if not (path / "recipe.yaml").exists():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise ModelError(
            f"{name}: no model here (found {found}); expected config.json, adapter_config.json or a run's recipe.yaml; "
            "check the path"
        )
    model = path / "model"
    if (model / "adapter_config.json").exists():
        return _adapter(name, model, kind="run")
    if (model / "config.json").exists():
        return ModelLocation(name, "run", model)
    raise ModelError(
        f"{name}: a run that has not finished: it has no model/ yet; "
        f"finish it with `instil train {path / 'recipe.yaml'} --resume`"
    )


def _adapter(name: str, path: Path, *, kind: Kind) -> ModelLocation:
    config = read_json(path / "adapter_config.json")
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base:
        raise ModelError(f"{path}: adapter_config.json names no base model; set base_model_name_or_path in it")
    beside = path / str(base)
    here = next((str(path) for path in (beside, Path(str(base)).expanduser()) if path.is_dir()), str(base))
    if base != "demo":
        _refuse_chain(name, Path(here))
    try:
        found = locate(here, None if Path(here).is_dir() or here == "demo" else revision)
    except ModelError as error:
        raise ModelError(
            f"{name}: an adapter whose base {base!r} cannot be found ({error}); "
            "put the base there or mend base_model_name_or_path in adapter_config.json"
        ) from None
    if found.adapter_folder is not None:
        raise _chain(name, base)
    return ModelLocation(name, kind, found.folder, path, str(base))


def _refuse_chain(name: str, base: Path) -> None:
    """Refuse an adapter as base before its own base is looked for: two that name each other would never end."""
    if any((place / "adapter_config.json").exists() for place in (base, base / "model")):
        raise _chain(name, base)


def _chain(name: str, base: object) -> ModelError:
    return ModelError(
        f"{name}: an adapter on another adapter ({base}); expected a whole model as base; "
        "merge the first one with `instil export`"
    )


def _from_hub(name: str, revision: str | None, *, trust_remote_code: bool) -> ModelLocation:
    from huggingface_hub import snapshot_download

    patterns = [*HUB_FILES, "*.py"] if trust_remote_code else HUB_FILES
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the Hub client raises many kinds; each means that the model is not at hand
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: no such folder, and not to be had from the Hub ({reason}); "
            "check the spelling, the revision, the network and, for a gated model, the login"
        ) from None
    if (folder / "adapter_config.json").exists():
        return _adapter(name, folder, kind="adapter")
    if not (folder / "config.json").exists():
        raise ModelError(f"{name}: the Hub repository has no config.json; expected a model in transformers' form")
    return ModelLocation(name, "hub", folder)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        ModelError: If it is missing or no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: missing; expected a whole model folder; copy or download the model again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); copy or download the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: found a JSON {type(value).__name__}; expected an object; copy the model again")
    return value


def locate_tokenizer(
    name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False
) -> ModelLocation:
    """Find a model of which only the tokenizer is needed: a folder that holds nothing else is enough.

    Raises:
        ModelError: If there is nothing of that name, or the folder holds neither model nor tokenizer.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() and has_tokenizer(folder) and not (folder / "config.json").exists():
        return ModelLocation(str(name), "folder", folder)
    return locate(name, revision, trust_remote_code=trust_remote_code)


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder holds the files of a tokenizer."""
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def check_tokenizer(folder: Path) -> None:
    """Raise ModelError where a model folder has no tokenizer."""
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder}: a model folder without a tokenizer; expected tokenizer.json or a tokenizer model beside "
            "config.json; copy the tokenizer's files there"
        )


def check_weights(folder: Path) -> None:
    """Check that a model folder's safetensors are there and whole, without reading them.

    Raises:
        ModelError: If there are none, some are missing, one is cut short, or they are pickled.
    """
    files = weight_files(folder)
    if not files:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{folder}: weights only in {pickled[0]}, which is pickled and could run code; expected {WEIGHTS}; "
                "convert it where you trust it (transformers' save_pretrained writes safetensors)"
            )
        raise ModelError(
            f"{folder}: a model folder without weights; expected {WEIGHTS}; "
            "copy them there, or set model.initialise: random"
        )
    for path in files:
        read_header(path)


def check_adapter(folder: Path) -> None:
    """Check that an adapter's files are there and whole, without reading its weights.

    Raises:
        ModelError: If not.
    """
    read_json(folder / ADAPTER_CONFIG)
    if not (folder / ADAPTER_WEIGHTS).exists():
        pickled = ", pickled weights are not read" if (folder / "adapter_model.bin").exists() else ""
        raise ModelError(
            f"{folder}: an adapter without {ADAPTER_WEIGHTS}{pickled}; expected it beside {ADAPTER_CONFIG}; "
            "copy or download it again"
        )
    read_header(folder / ADAPTER_WEIGHTS)


def weight_files(folder: Path) -> list[Path]:
    """Give the safetensors files that transformers loads from a folder, whether they are there or not.

    Raises:
        ModelError: If an index is there and names none.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not index.exists():
        return []
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(
            f"{index}: names no shards; expected weight_map, an object from tensor to file; copy or download the model again"
        )
    return [folder / name for name in sorted(set(named.values()))]


def read_header(path: Path) -> dict[str, Any]:
    """Read what a safetensors file says about its tensors: type, shape and place of each by name.

    Raises:
        ModelError: If it is missing, damaged, or not as long as that promises; safetensors itself checks that.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise ModelError(f"{path}: a file of the weights is missing; copy or download the model again")
    try:
        with safe_open(path, framework="np"):
            pass
    except MemoryError:
        raise ModelError(
            f"{path}: no memory for the model: its {path.stat().st_size / 1e9:.1f} GB cannot even be mapped under this process's limit; "
            "raise the limit (ulimit -v), or load a smaller model"
        ) from None
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: cut short or no safetensors file ({path.stat().st_size} bytes; {error}); copy or download the model again"
        ) from None
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}

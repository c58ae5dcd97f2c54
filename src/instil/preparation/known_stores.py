"""Which store a recipe's data has, known from files alone: what makes preparing again instant.

The store's own key needs the tokenizer, and loading one imports torch: seconds. So beside the stores stands which one came out when the very same files and
settings were asked for the last time. Questionable on purpose: more goes into this key than can change the data (every file of the model's folder but its weights, the
versions of all packages that encode), for a new key costs seconds and a wrong one would train on the wrong data.
"""

from __future__ import annotations

import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from instil.data.sources.rows import STDIN
from instil.errors import InstilError
from instil.preparation.cache_key import cache_folder, check_folder, file_hashes, fingerprint, write_memory
from instil.preparation.chunks import find_input
from instil.preparation.prepare import Prepared, open_store
from instil.preparation.store import VERSION
from instil.template.resolve import read_template

if TYPE_CHECKING:
    from instil.model.folder.location import ModelLocation
    from instil.recipe import Recipe

_REMEMBERED = 1_000
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"})
_PACKAGES = ("instil", "transformers", "tokenizers", "jinja2", "pyarrow")


def open_known(recipe: Recipe, location: ModelLocation) -> Prepared | None:
    """Open the store that this recipe had the last time; None where that is not known, or the store is gone or damaged.

    Args:
        recipe: The recipe as it is written, before anything is filled in.
        location: Its model.
    """
    folder = cache_folder(recipe)
    known = _known(folder)
    key = _key(recipe, location)
    if key is None or key not in known:
        return None
    file_hashes(folder).save()
    store, day = known[key]
    return open_store(folder / str(store)) if day in (None, date.today().isoformat()) else None


def remember(recipe: Recipe, location: ModelLocation, prepared: Prepared, *, day: str | None) -> None:
    """Note which store a recipe has.

    Args:
        recipe: As for `open_known`.
        location: As for `open_known`.
        prepared: What came out.
        day: The day that was filled in because the template prints it and the recipe names none.
    """
    folder = cache_folder(recipe)
    key = _key(recipe, location)
    if key is None:
        return
    file_hashes(folder).save()
    path = _path(folder)
    known = {**_known(folder), key: [prepared.folder.name, day]}
    write_memory(path, dict(list(known.items())[-_REMEMBERED:]))


def _path(folder: Path) -> Path:
    return folder / "known-stores.json"


def _known(folder: Path) -> dict[str, list[str | None]]:
    try:
        return json.loads(_path(folder).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return {}


def _key(recipe: Recipe, location: ModelLocation) -> str | None:
    """Fingerprint everything that data can depend on but the day; None where some of it is no file: standard input, the Hub, code of a model's own."""
    folder = cache_folder(recipe)
    sources = [*recipe.data.sources, *recipe.data.heldout]
    if recipe.model.trust_remote_code or any(source.path == STDIN for source in sources):
        return None
    check_folder(folder)
    try:
        inputs = [find_input(source, heldout=False, spool=folder) for source in sources]
        template = recipe.model.template and read_template(recipe.model.template).source
    except InstilError:
        return None  # the long way says what is wrong
    if not all(found.files for found in inputs):
        return None
    hashes = file_hashes(folder)
    try:
        content = [[[name, hashes.of(path)] for path, name in found.files] for found in inputs]
        model = [
            [str(path.relative_to(root)), hashes.of(path)]
            for root in dict.fromkeys((location.folder, location.tokenizer_folder))
            for path in sorted([*root.iterdir(), *root.glob("additional_chat_templates/*")])
            if path.is_file() and path.suffix not in _WEIGHTS
        ]
    except OSError:
        return None
    settings = recipe.model.model_dump(mode="json", exclude={"name", "revision", "initialise", "quantize"})
    return fingerprint(
        {
            "version": VERSION,
            "packages": {name: version(name) for name in _PACKAGES},
            "data": recipe.data.model_dump(mode="json", exclude={"workers", "store"}),
            "model": [settings, template, model],
            "content": content,
            "seed": recipe.training.seed,
        }
    )

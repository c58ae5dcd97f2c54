"""Turn the recipe's `model.template` into the Jinja source of a template.

The setting may be a named template, a format string, Jinja source, a .jinja file or a model folder. They are tried in
this order.

Why: with ``stop_token: eos`` the source itself is changed: the model's EOS replaces the text of the stop token. The
template that is saved with the model therefore prints exactly what was trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from instil.errors import TemplateError, nearest
from instil.files import home_path
from instil.template.format_string import is_format_string, read_format_string
from instil.template.library import NAMED_TEMPLATES, template_source

DEFAULT_TEMPLATE = "chatml"
"""The template of a base model that has none."""
_LONGEST_NAME = 59


def short_name(template: str, *, otherwise: str) -> str:
    r"""Return a template's name or path as the user wrote it, and `otherwise` for Jinja source.

    Example:
        >>> short_name("chatml", otherwise="source"), short_name("{% for m in messages %}\n", otherwise="source")
        ('chatml', 'source')
    """
    return template if len(template) <= _LONGEST_NAME and "\n" not in template else otherwise


@dataclass(frozen=True, slots=True)
class ResolvedTemplate:
    """A template and its known properties.

    Attributes:
        name: Name for messages to the user.
        source: Jinja source.
        stop_token: The token that ends an assistant turn. None: the tokenizer's EOS, or not known; the encoder then
            finds it.
        control_tokens: Texts that should be single tokens; empty if not known.
        note: A note to the user if a folder has several templates and none was chosen, or None.
    """

    name: str
    source: str
    stop_token: str | None = None
    control_tokens: tuple[str, ...] = ()
    note: str | None = None


def resolve_template(spec: str, *, stop_token: Literal["own", "eos"] = "own", eos_token: str | None = None) -> str:
    """Return the Jinja source of a recipe's `model.template`.

    Args:
        spec: A named template, a .jinja file, a model or run folder (FOLDER:NAME for one of several templates in it),
            Jinja source, or a format string.
        stop_token: ``eos`` replaces the template's own stop token with the model's EOS.
        eos_token: The model's EOS; required for ``eos``.

    Raises:
        TemplateError: If it is none of these. The message suggests the nearest name.

    Example:
        >>> "<|im_end|>" in resolve_template("chatml", stop_token="eos", eos_token="</s>")
        False
    """
    return read_template(spec, stop_token=stop_token, eos_token=eos_token).source


def read_template(
    spec: str, *, stop_token: Literal["own", "eos"] = "own", eos_token: str | None = None
) -> ResolvedTemplate:
    """Return a template with its name, stop token and control tokens. Arguments and errors as in `resolve_template`."""
    found = _find(spec)
    return found if stop_token == "own" else _ended_by_eos(found, eos_token)


def _find(spec: str) -> ResolvedTemplate:
    # From the most certain to the least. Jinja source cannot be a path, and a path with braces is taken for a source.
    if spec in NAMED_TEMPLATES:
        named = NAMED_TEMPLATES[spec]
        return ResolvedTemplate(spec, template_source(spec), named.stop_token, named.control_tokens)
    if is_format_string(spec):
        read = read_format_string(spec)
        stop = None if read.stop_token == "{eos_token}" else read.stop_token
        return ResolvedTemplate("format string", read.source, stop, read.control_tokens)
    if "{{" in spec or "{%" in spec:
        return ResolvedTemplate("chat template", spec)
    if spec and "\n" not in spec and len(spec) < 1000:
        path = home_path(spec)
        if path.is_file():
            return _read_file(path)
        if path.is_dir():
            return _read_folder(path)
        if names_one_of_a_folder(spec):
            folder, _, name = spec.rpartition(":")
            return _read_folder(home_path(folder), name)
    raise TemplateError(
        f"template {spec[:60]!r}: no such name or file{nearest(spec, NAMED_TEMPLATES)}. "
        f"Expected one of {', '.join(NAMED_TEMPLATES)}, a .jinja file, a model folder, FOLDER:NAME, Jinja source, "
        "or a format string with {user} and {assistant}. Run: instil template list"
    )


def _read_file(path: Path) -> ResolvedTemplate:
    source = _read_text(path)
    if is_format_string(source):
        read = _find(source.removesuffix("\n"))
        return ResolvedTemplate(path.name, read.source, read.stop_token, read.control_tokens)
    if "{{" not in source and "{%" not in source:
        raise TemplateError(
            f"{path}: it contains neither Jinja nor {{user}} and {{assistant}}. "
            "Expected a chat template. Check the path."
        )
    return ResolvedTemplate(path.name, source)


def names_one_of_a_folder(spec: str) -> bool:
    """Return whether a template is named as FOLDER:NAME, which chooses one of several."""
    folder, _, _ = spec.rpartition(":")
    return bool(folder) and home_path(folder).is_dir()


def _read_folder(folder: Path, wanted: str | None = None) -> ResolvedTemplate:
    for place in (folder, folder / "model"):
        if found := _templates_in(place):
            break
    else:
        raise TemplateError(
            f"{folder}: there is no chat template in this folder. Expected chat_template.jinja, or chat_template in "
            "tokenizer_config.json. Name a template instead."
        )
    name = wanted or "default"
    if name not in found:
        raise TemplateError(
            f"{folder}: it has no chat template {name!r}{nearest(name, found)}. Expected one of {', '.join(found)}. "
            f"Name one as {folder}:{next(iter(found))}"
        )
    if wanted:
        return ResolvedTemplate(f"{folder.name}:{name}", found[name])
    others = [each for each in found if each != name]
    note = None
    if others:
        note = (
            f"{folder}: its default chat template is used, not {', '.join(others)}; "
            f"to use another, name it as {folder}:{others[0]}"
        )
    return ResolvedTemplate(folder.name, found[name], note=note)


def _templates_in(place: Path) -> dict[str, str]:
    """Return a folder's chat templates by name, as transformers finds them: files, or else the configuration's."""
    files = {"default": place / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((place / "additional_chat_templates").glob("*.jinja"))}
    found = {name: _read_text(path) for name, path in files.items() if path.is_file()}
    config = place / "tokenizer_config.json"
    return _published(config) if not found and config.is_file() else found


def _published(config: Path) -> dict[str, str]:
    """Return the chat templates of a tokenizer_config.json by name. One without a name is the default."""
    try:
        given = json.loads(_read_text(config)).get("chat_template")
        named = {item["name"]: item["template"] for item in given} if isinstance(given, list) else {"default": given}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise TemplateError(f"{config}: damaged ({error}). Expected a JSON object. Copy the tokenizer again.") from None
    for source in named.values():
        if not isinstance(source, str | None):
            raise TemplateError(
                f"{config}: chat_template is a {type(source).__name__}. Expected Jinja source. "
                "Copy the tokenizer again."
            )
    return {name: source for name, source in named.items() if source}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(
            f"{path}: cannot be read ({error}). Expected a Jinja chat template in UTF-8. Check the file."
        ) from None


def _ended_by_eos(found: ResolvedTemplate, eos_token: str | None) -> ResolvedTemplate:
    if not eos_token:
        raise TemplateError(
            f"{found.name}: model.stop_token is eos, but the tokenizer has no EOS token. Expected one. "
            "Set model.stop_token: own."
        )
    if found.stop_token is None:
        return found
    source = found.source.replace(found.stop_token, eos_token)
    kept = tuple(token for token in found.control_tokens if token != found.stop_token)
    return ResolvedTemplate(found.name, source, eos_token, kept)

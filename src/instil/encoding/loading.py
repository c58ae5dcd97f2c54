"""Loads a tokenizer and chooses its chat template.

The only place that loads a tokenizer: `ChatTokenizer.from_pretrained`, whose proof a user reads, and every run call the
same function, so they cannot disagree.

Why: of a tokenizer with several chat templates, ``default`` is taken and, for a conversation with tools, ``tool_use``,
as transformers and servers do. FOLDER:NAME or the template's source choose another.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from instil.errors import ModelError, TemplateError
from instil.files import home_path
from instil.model.folder.config import load_config, reason_of
from instil.model.folder.file_checks import check_tokenizer
from instil.model.folder.kept_facts import kept_fact
from instil.model.folder.location import ModelLocation, locate
from instil.model.library_noise import quiet_transformers
from instil.template.chat_template import ChatTemplate
from instil.template.resolve import ResolvedTemplate, resolve_template, short_name


def load_tokenizer(name_or_folder: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load a transformers tokenizer.

    Args:
        name_or_folder: Folder with a tokenizer, or a Hub id; ``demo`` is the embedded base model.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Run Python code that comes with it.

    Raises:
        ModelError: If there is no tokenizer, or it cannot be read; also if config.json, which transformers reads to
            choose the tokenizer's class, is damaged.
    """
    folder = locate("demo").folder if name_or_folder == "demo" else home_path(name_or_folder)
    is_folder = folder.is_dir()
    if is_folder:
        check_tokenizer(folder)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_folder and not trust_remote_code:
                tokenizer = _load_from_folder(folder)
            else:
                tokenizer = _load_any(
                    str(folder if is_folder else name_or_folder),
                    revision=revision,
                    trust_remote_code=trust_remote_code,
                    local_files_only=is_folder,
                )
    except Exception as error:  # tokenizers raises bare Exception for damaged files, transformers many classes
        raise _unreadable(name_or_folder, folder, error, trust_remote_code=trust_remote_code) from None
    # transformers would warn of long texts; `data.max_tokens` limits lengths here.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ModelError(
            f"{folder}/tokenizer_config.json: model_max_length is {tokenizer.model_max_length!r}. Expected a number. "
            "Correct it."
        )
    return tokenizer


def _load_any(name: str, **options: Any) -> Any:
    """Load a tokenizer with transformers' AutoTokenizer, which imports torch."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, **options)


def _load_from_folder(folder: Path) -> Any:
    """Load the tokenizer of a folder as AutoTokenizer does, by the class that AutoTokenizer chose the last time.

    AutoTokenizer decides on a class and calls its `from_pretrained` with the arguments below.
    """
    load = partial(_load_any, str(folder), revision=None, trust_remote_code=False, local_files_only=True)
    loaded: list[Any] = []

    def find() -> str:
        loaded.append(load())
        return _class_name(loaded[0])

    name = str(kept_fact(folder, "tokenizer", find))
    if loaded:
        return loaded[0]
    module, _, class_name = name.partition(":")
    if not class_name:
        return load()
    chosen = getattr(import_module(module), class_name)
    return chosen.from_pretrained(str(folder), revision=None, local_files_only=True, _from_auto=True, _commit_hash=None)


def _class_name(tokenizer: Any) -> str:
    """Return module and name of a tokenizer's class; empty for one that only AutoTokenizer should load.

    Those are classes from outside of transformers, and classes that have no tokenizer.json behind them.
    """
    from transformers.tokenization_utils_tokenizers import TokenizersBackend

    chosen = type(tokenizer)
    is_own = chosen.__module__.startswith("transformers.") and issubclass(chosen, TokenizersBackend)
    return f"{chosen.__module__}:{chosen.__qualname__}" if is_own else ""


def _unreadable(name: str | Path, folder: Path, error: Exception, *, trust_remote_code: bool) -> ModelError:
    """Return the error for a tokenizer that transformers could not load.

    Raises:
        ModelError: If the fault is config.json's.
    """
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{name}: the tokenizer comes with its own Python code, which is not run unasked. "
            "Set model.trust_remote_code: true (--trust-remote-code) if you trust it."
        )
    if not folder.is_dir():
        return ModelError(
            f"{name}: no tokenizer could be loaded ({reason_of(error)}). Expected a folder or Hub id with "
            "tokenizer.json. Check the name, or copy the tokenizer's files into the folder."
        )
    if (folder / "config.json").exists():
        load_config(ModelLocation(str(folder), "folder", folder), trust_remote_code=trust_remote_code)
    return ModelError(f"{folder}: the tokenizer cannot be read ({reason_of(error)}). Copy it again.")


def template_for(tokenizer: Any, template: str | ResolvedTemplate | None, *, date: str | None) -> ChatTemplate:
    """Compile a tokenizer's own template, or the one given, which then becomes the tokenizer's.

    Raises:
        TemplateError: If there is none, or it does not compile.
    """
    tool_use = None
    if template is None:
        source, tool_use = _own_sources(tokenizer)
        name = "chat template"
    elif isinstance(template, str):
        source = resolve_template(template)
        name = short_name(template, otherwise="chat template")
    else:
        source, name = template.source, template.name
    if template is not None:
        tokenizer.chat_template = source
    return ChatTemplate(source, special_tokens=tokenizer.special_tokens_map, date=date, name=name, tool_use=tool_use)


def _own_sources(tokenizer: Any) -> tuple[str, str | None]:
    """Return the sources of a tokenizer's own template and of its template for conversations with tools."""
    name = tokenizer.name_or_path or "tokenizer"
    own: Any = tokenizer.chat_template
    source, tool_use = (own.get("default"), own.get("tool_use")) if isinstance(own, dict) else (own, None)
    if not source and own and isinstance(own, dict):
        raise TemplateError(
            f"{name}: its chat templates are named {', '.join(map(repr, own))}, and none is 'default'. Expected "
            "that one. Set model.template to the one that is served, as FOLDER:NAME or a .jinja file."
        )
    if not source:
        raise TemplateError(
            f"{name}: it has no chat template. Expected one in tokenizer_config.json or "
            "chat_template.jinja. Set model.template (chatml, a .jinja file …)."
        )
    if not isinstance(source, str) or not isinstance(tool_use, str | None):
        raise TemplateError(
            f"{name}: its chat template is a {type(source).__name__}. Expected Jinja source. "
            "Set model.template, or copy the tokenizer again."
        )
    return source, tool_use

"""Load a tokenizer and choose its chat template.

The one place where encoding touches transformers' loading. Questionable on purpose: of a tokenizer with several chat templates, ``default`` is taken
and, where a conversation has tools, ``tool_use``, as transformers and servers choose; the others are chosen by FOLDER:NAME or their source.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instil.errors import ModelError, TemplateError
from instil.template.chat_template import ChatTemplate

if TYPE_CHECKING:
    from instil.template.resolve import ResolvedTemplate


def load_tokenizer(name_or_folder: Any, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load a transformers tokenizer.

    Args:
        name_or_folder: Folder or Hub id; ``demo`` is the embedded base model.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Run Python code that comes with it.

    Raises:
        ModelError: If there is none.
    """
    from transformers import AutoTokenizer

    if name_or_folder == "demo":
        name_or_folder = Path(__file__).parents[1] / "demo" / "base"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoTokenizer.from_pretrained(
                str(name_or_folder), revision=revision, trust_remote_code=trust_remote_code
            )
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and others for the same cause
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"{name_or_folder}: no tokenizer could be loaded ({reason[0] if reason else type(error).__name__}); expected a folder or "
            "Hub id with tokenizer.json; check the name, or copy the tokenizer's files into the folder"
        ) from error


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
        from instil.template.resolve import resolve_template

        source, name = (
            resolve_template(template),
            template if len(template) < 60 and "\n" not in template else "chat template",
        )
    else:
        source, name = template.source, template.name
    if template is not None:
        tokenizer.chat_template = source
    return ChatTemplate(source, special_tokens=tokenizer.special_tokens_map, date=date, name=name, tool_use=tool_use)


def _own_sources(tokenizer: Any) -> tuple[str, str | None]:
    found: Any = tokenizer.chat_template
    source, tool_use = (found.get("default"), found.get("tool_use")) if isinstance(found, dict) else (found, None)
    if not source and found and isinstance(found, dict):
        raise TemplateError(
            f"{tokenizer.name_or_path or 'tokenizer'}: its chat templates are named {', '.join(map(repr, found))}, and none is 'default'; expected "
            "that one; set model.template to the one that is served, as FOLDER:NAME or a .jinja file"
        )
    if not source:
        raise TemplateError(
            f"{tokenizer.name_or_path or 'tokenizer'}: it has no chat template; expected one in tokenizer_config.json or "
            "chat_template.jinja; set model.template (chatml, a .jinja file …)"
        )
    if not isinstance(source, str) or not isinstance(tool_use, str | None):
        raise TemplateError(
            f"{tokenizer.name_or_path or 'tokenizer'}: its chat template is a {type(source).__name__}; expected Jinja source; "
            "set model.template, or copy the tokenizer again"
        )
    return source, tool_use

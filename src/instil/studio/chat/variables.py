"""The variables that a chat template asks for, beside what every template gets."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

ALWAYS = frozenset(
    {
        *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "builtin_tools"),
        *("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
        *("raise_exception", "strftime_now", "tojson", "loop"),
    }
)
_OWN_TAGS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
LARGEST = 1_000_000
"""Bytes of a template that is read."""


def template_variables(path: Path | None) -> list[str]:
    """Return the names, sorted; none if the file cannot be read as a template.

    Why only its names: the template is not run here.
    """
    if path is None:
        return []
    try:
        if path.stat().st_size > LARGEST:
            return []
        # transformers' own tags, which mark what is trained; what stands between them counts.
        source = _OWN_TAGS.sub("", path.read_text(encoding="utf-8"))
        environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False)
        tree = environment.parse(source)
    except (OSError, UnicodeDecodeError, TemplateSyntaxError, RecursionError):
        return []
    # A name that is set in one branch counts as asked for in the others; one that is asked whether it is there really is.
    tested = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    assigned = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    names = meta.find_undeclared_variables(tree)
    return sorted((names - (assigned - tested)) - ALWAYS - environment.globals.keys())

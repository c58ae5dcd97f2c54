"""Names that options have in other tools, or in another verb, for the error about an unknown option.

Why: the nearest name by letters is seldom what is meant. `--format gguf` is nearer to `--out` than to `--as`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

_OUTPUTS: Final = dict.fromkeys(
    ("output", "output-dir", "out-dir", "output-path", "output-file", "outfile", "outdir", "save-dir"), "--out"
)
_LOADING: Final = {
    **dict.fromkeys(("dtype", "torch-dtype"), "--precision"),
    **dict.fromkeys(("quantization", "quantize", "quant"), "--load"),
    "load-in-4bit": "--load 4bit",
    "load-in-8bit": "--load 8bit",
}
_SETTINGS: Final = {
    **{f"columns.{role}": f"--data.columns.{role}" for role in ("system", "user", "assistant")},
    "from": "--data.format",
}
ELSEWHERE: Final[Mapping[str, Mapping[str, str]]] = {
    "export": {
        **_OUTPUTS,
        **dict.fromkeys(("format", "to", "target", "type", "output-format", "export-format"), "--as"),
        **dict.fromkeys(("precision", "torch-dtype"), "--dtype"),
        **dict.fromkeys(
            ("outtype", "quantization", "quantize", "quant", "quantization-method", "quantization-type"),
            "--as gguf --dtype",
        ),
        "load-in-4bit": "--as 4bit",
    },
    "convert": {
        **_OUTPUTS,
        **dict.fromkeys(("as", "target", "output-format", "to-format", "out-format"), "--to"),
        **dict.fromkeys(("input-format", "in-format", "from-format"), "--from"),
        **dict.fromkeys(("input", "input-file"), "--data"),
        **{f"data.columns.{role}": f"--columns.{role}" for role in ("system", "user", "assistant")},
        **{f"data.{name}": f"--{name}" for name in ("on-bad-row", "prompt-completion")},
        "data.format": "--from",
    },
    "train": _SETTINGS,
    "plan": _SETTINGS,
    "prepare": _SETTINGS,
    "inspect": _SETTINGS,
    "evaluate": {
        **_OUTPUTS,
        **_LOADING,
        **dict.fromkeys(("dataset", "data-path", "test-file"), "--data"),
        **dict.fromkeys(("base", "baseline", "compare", "compare-with"), "--against"),
        **dict.fromkeys(("metric", "metrics"), "--task"),
    },
    "generate": {**_OUTPUTS, **_LOADING, **dict.fromkeys(("input", "input-file", "dataset"), "--prompts")},
    "chat": _LOADING,
    "serve": _LOADING,
}
"""By verb: an option that it does not have, and what to write instead. The typed value follows, unless it has one."""
_WITH_PROMPTS = ("evaluate", "generate")
_READING = ("format", "from", "columns", "data.columns", "data.format", "on-bad-row", "data.on-bad-row")
_EXPORTS = ("merged", "adapter", "4bit", "gguf", "ollama")
_COMPLETE = ("--load 4bit", "--load 8bit", "--as 4bit")


def meant_option(verb: str, option: str, value: str) -> str:
    """Return what to write instead of an option of another tool, or an empty string.

    Args:
        verb: The verb.
        option: The option that was typed.
        value: The value that was typed with it; empty if there is none.

    Example:
        >>> meant_option("export", "--format", "gguf"), meant_option("export", "--quantization", "q4_k_m")
        ('Write --as gguf.', 'Write --as gguf --dtype q4_k_m.')
        >>> meant_option("export", "--colour", "red")
        ''
    """
    name = option.lstrip("-").replace("_", "-").lower()
    if verb in _WITH_PROMPTS and any(name == known or name.startswith(f"{known}.") for known in _READING):
        return (
            "The format of each row is recognised. Rewrite other rows first: instil convert FILE OUT.jsonl "
            "--columns.user '{question}' --columns.assistant '{answer}'; it has --from and --on-bad-row too."
        )
    meant = ELSEWHERE.get(verb, {}).get(name)
    if meant is None:
        return ""
    if verb == "export" and value in _EXPORTS:
        return f"Write --as {value}."
    return f"Write {meant}." if not value or meant in _COMPLETE else f"Write {meant} {shlex.quote(value)}."

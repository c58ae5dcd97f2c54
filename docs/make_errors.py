"""Write docs/reference/errors.md from the exception tree: ``python docs/make_errors.py``."""

from __future__ import annotations

from docs_site.markdown import cell, docstring_of, table, write

from instil import errors
from instil.errors import InstilError

HEAD = """# Errors

What each kind of error means, what usually causes it, and the exit codes of the commands.

A message reads *place: what was found. Expected what. What to do.* The command line prints it as one line.
`--traceback` shows where it came from. From Python, `except instil.InstilError` catches every kind.
This page is written by `python docs/make_errors.py` from `src/instil/errors.py`.
"""
CAUSES = {
    "InstilError": "One of the kinds below; it is never raised itself.",
    "RecipeError": "A key that is misspelled or comes from another tool: the message names the setting that decides the same.",
    "DataError": "A path that is not there, a file that is damaged, or a row without an answer.",
    "FormatError": "Columns that no format has, or several formats at once. Set `data.format` or `data.columns`.",
    "NoPairError": "Answers that all have the same score. Set `data.on_bad_row: skip` to leave such rows out.",
    "TemplateError": "A base model without a chat template, or a template that refuses the order of the roles.",
    "EncodingError": "A template that prints an answer differently in the middle of a conversation than at its end.",
    "DroppedTextError": "A system message or a thought that the template leaves out. `data.dropped_text` decides.",
    "ModelError": "A folder that is no model, weights that do not fit its config, or an architecture that is not supported.",
    "TrainingError": "A step without a trained token, or processes that do not have the same data.",
    "NonFiniteError": "A learning rate that is too high, or a model that cannot be trained in this precision.",
    "OutOfMemoryError": "One example that is too long for the device. Lower `data.max_tokens`, or use LoRA or 4 bits.",
    "CheckpointError": "`--resume` with other data or settings, or a file of the checkpoint that was changed.",
    "RunError": "The output folder holds a finished run, or another process writes to it now.",
    "GenerationError": "A prompt that is longer than the context, or a temperature below 0.",
    "EvaluationError": "A task that needs a column which the rows do not have.",
    "ExportError": "A GGUF type that the architecture lacks, or an exported model that answers differently.",
    "ServeError": "A port that is in use, or an address that is not this machine's.",
    "MissingPackageError": "An extra that is not installed. The message has the command that installs it.",
}
"""Kind of error → what usually causes it."""
EXIT_CODES = {
    "0": "The command has done all of it.",
    "1": "`template prove` and `template compare` found a difference; or a run of a sweep failed.",
    "2": "An error that you can fix. One line on standard error says what to do.",
    "130": "Ctrl-C stopped it. A run saves a checkpoint first; `--resume` continues it.",
    "141": "The reader of its output went away, as with `| head`.",
    "143": "SIGTERM stopped it. A run saves a checkpoint first; `--resume` continues it.",
}
"""Exit code of the command line → what it means."""


def kinds() -> list[type[InstilError]]:
    """Return every kind of error, each after the kind that it belongs to."""

    def below(kind: type[InstilError]) -> list[type[InstilError]]:
        own = sorted((sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__), key=_position)
        return [kind, *(deeper for sub in own for deeper in below(sub))]

    return below(InstilError)


def _position(kind: type[InstilError]) -> int:
    return list(vars(errors)).index(kind.__name__)


def page() -> str:
    """Return the page."""
    tree = (errors.__doc__ or "").split("\n\n")[1]
    rows = [
        [f"`{kind.__name__}`", cell(docstring_of(kind).short_description), CAUSES[kind.__name__]] for kind in kinds()
    ]
    codes = [[f"`{code}`", cell(meaning)] for code, meaning in EXIT_CODES.items()]
    parts = [
        HEAD,
        "## The tree\n",
        "```text\n" + "\n".join(line.removeprefix("    ") for line in tree.splitlines()) + "\n```\n",
        "## Kinds\n",
        table(["error", "meaning", "usual cause"], rows) + "\n",
        "## Exit codes\n",
        table(["code", "meaning"], codes) + "\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    write("errors.md", page())

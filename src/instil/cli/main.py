"""Entry point: the table of verbs, and what happens to errors.

Verbs are imported only when they are called, so that ``instil --help`` costs no torch. An `InstilError` becomes one line
and exit status 2; ``--traceback`` shows where it came from.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from cyclopts import App, CycloptsError, UnknownOptionError, UnusedCliTokensError

from instil import __version__
from instil.errors import SMALLER_WEIGHTS, InstilError, nearest
from instil.setting_aliases import known_elsewhere, last_name
from instil.training.processes.signals import stopped_by

VERBS: tuple[tuple[str, str, str], ...] = (
    ("demo", "instil.cli.demo:demo", "Tune the embedded base model in two minutes and show what changed."),
    ("train", "instil.cli.train:train", "Train with the settings of a recipe and write a run folder."),
    ("plan", "instil.cli.plan:plan", "Show what a recipe would do: parameters, memory, steps, time."),
    (
        "inspect",
        "instil.cli.inspect:inspect",
        "Show data as the model will see it: every token, and whether it is trained.",
    ),
    ("prepare", "instil.cli.prepare:prepare", "Encode a recipe's data ahead of training."),
    ("convert", "instil.cli.convert:convert", "Rewrite conversations in another format."),
    ("template", "instil.cli.template:app", "List, show, prove and compare chat templates."),
    ("chat", "instil.cli.chat:chat", "Talk to a model."),
    ("generate", "instil.cli.generate:generate", "Answer a file of prompts."),
    ("evaluate", "instil.cli.evaluate:evaluate", "Measure a model, alone or against its base."),
    ("serve", "instil.cli.serve:serve", "Serve a model over an OpenAI-compatible HTTP API."),
    (
        "export",
        "instil.cli.export:export",
        "Write a model for others to use: merged, adapter, 4-bit, GGUF or Ollama.",
    ),
    ("runs", "instil.cli.runs:app", "List and compare runs."),
)


ABOUT = (
    "Turn a base language model into one that follows instructions. What is trained is what is served.\n\n"
    "Begin with `instil demo`, or with a recipe, a YAML file of settings: train writes a run folder, which chat, generate, evaluate, "
    "serve and export take as their model. `instil COMMAND --help` says more; --traceback shows where an error came from."
)


def build_app(asked: str | None = None) -> App:
    """Make the command-line application; verbs stay unimported until they run.

    Args:
        asked: The verb that was typed: its help is its own text, where the list of verbs has a line for each.
    """
    app = App(
        name="instil",
        help=ABOUT,
        version=__version__,
        help_format="plaintext",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, where, summary in VERBS:
        app.command(where, name=name, help=None if name == asked else summary)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when it worked, 2 on an error that the user can fix, 130 on Ctrl-C, 143 where SIGTERM stopped a run."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = _with_truth_values([word for word in words if word != "--traceback"])
    _refuse_unknown_verb(words)
    with errors_said(words[0] if words else "", traceback=traceback):
        build_app(words[0] if words else None)(words)


@contextlib.contextmanager
def errors_said(verb: str, *, traceback: bool = False) -> Iterator[None]:
    """Say what a verb raises on one line and exit.

    Args:
        verb: Its name.
        traceback: Let errors through, for Python to show where they come from.
    """
    try:
        yield
    except CycloptsError as error:
        _fail(f"instil {verb}: {_said(error)}; run: instil {verb} --help")
    except InstilError as error:
        if traceback:
            raise
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if traceback or not _is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "the system has no more")
        more = f"{SMALLER_WEIGHTS}, give fewer or shorter rows, or use a larger device"
        _fail(f"instil {verb}: no memory ({reason}). {more}.")
    except KeyboardInterrupt as error:
        said, status = stopped_by(error)
        _fail(said, status=status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _with_truth_values(words: list[str]) -> list[str]:
    """Join an option and the ``true`` or ``false`` behind it, as a recipe would have it: cyclopts takes a flag's value after ``=`` alone."""
    joined: list[str] = []
    for word in words:
        option = joined[-1] if joined and "--" not in joined else ""
        if word.lower() in ("true", "false") and option.startswith("--") and "=" not in option:
            joined[-1] = f"{option}={word}"
        else:
            joined.append(word)
    return joined


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:
        return False
    from instil.model.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def _said(error: CycloptsError) -> str:
    """Give what is wrong with an option; of a setting's value in the words that a recipe's error has."""
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or ())
        return f"{unused!r} belongs to no option (a switch takes true or false); leave it out, or name its option before it"
    if isinstance(error, UnknownOptionError) and _takes_a_recipe(error):
        from instil.recipe import in_another_group  # pydantic, which only an error needs here

        option = error.token.keyword or ""
        if meant := known_elsewhere(option) or in_another_group(last_name(option)):
            return f"unknown option {option}{meant}"
    found = getattr(error.__cause__, "errors", None)  # pydantic's, which is not imported for this
    if found is None:
        return str(error)
    first = found()[0]
    key = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{key}: found {first['input']!r}; {said[:1].lower()}{said[1:]}"


def _takes_a_recipe(error: UnknownOptionError) -> bool:
    return any(name.startswith("--optimizer.") for argument in error.argument_collection for name in argument.names)


def _refuse_unknown_verb(words: Sequence[str]) -> None:
    names = [name for name, _, _ in VERBS]
    if words and not words[0].startswith("-") and words[0] not in names:
        _fail(f"instil: unknown verb {words[0]!r}{nearest(words[0], names)}; allowed: {', '.join(names)}")


def _fail(message: str, *, status: int = 2) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)

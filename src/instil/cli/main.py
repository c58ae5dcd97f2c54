"""The entry point: the table of verbs, and the handling of errors.

A verb is imported only when it is called. An `InstilError` becomes one line and exit status 2; ``--traceback`` shows
where the error came from.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instil import __version__
from instil.cli.any_terminal import print_on_any_terminal
from instil.cli.list_options import with_lists
from instil.cli.short_options import with_short_options
from instil.cli.swept_options import with_sweeps
from instil.errors import SMALLER_WEIGHTS, InstilError, RecipeError, nearest
from instil.files import home_path
from instil.refused_writes import FULL, refusal_of
from instil.remote.urls import clean_url, is_url, name_of_url
from instil.screen import Screen, show_work
from instil.training.processes.signals import stopped_by
from instil.way_in import on_the_command_line

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

    from instil.cli.flowing_help import FlowingHelp

_IN_HOME = re.compile(r"~[\w.-]*(/\S.*)?")
VERBS: tuple[tuple[str, str, str], ...] = (
    ("demo", "instil.cli.demo:demo", "Tune the embedded base model in two minutes and show what changed."),
    ("train", "instil.cli.train:train", "Train on data, with or without a recipe, and write a run folder."),
    ("plan", "instil.cli.plan:plan", "Show what a recipe would do: parameters, memory, steps, time."),
    (
        "inspect",
        "instil.cli.inspect:inspect",
        "Show data as the model will see it: every token, and whether it is trained.",
    ),
    ("recipe", "instil.cli.recipe:app", "List and show the recipes that ship, or write one for your data."),
    ("prepare", "instil.cli.prepare:prepare", "Encode data ahead of training."),
    ("convert", "instil.cli.convert:convert", "Rewrite conversations in another format."),
    ("template", "instil.cli.template:app", "List, show, prove and compare chat templates."),
    ("chat", "instil.cli.chat:chat", "Talk to a model."),
    ("generate", "instil.cli.generate:generate", "Answer a file of prompts."),
    ("evaluate", "instil.cli.evaluate:evaluate", "Measure a model, alone or against its base."),
    ("studio", "instil.cli.studio:studio", "Open data, runs and jobs of a folder in a browser."),
    ("serve", "instil.cli.serve:serve", "Serve a model over an OpenAI-compatible HTTP API."),
    (
        "export",
        "instil.cli.export:export",
        "Write a model for others to use: merged, adapter, 4-bit, GGUF or Ollama.",
    ),
    ("runs", "instil.cli.runs:app", "List and compare runs."),
    ("clean", "instil.cli.clean:clean", "List prepared data by age and size, and remove some."),
    ("report", "instil.cli.report:report", "Write one page of a run: settings, curves, samples, evaluation."),
    ("env", "instil.cli.env:env", "Show versions, devices, memory and broken packages. Nothing private."),
)

ANSWER_AT_ONCE = frozenset({"runs", "report", "clean", "recipe"})
"""Verbs that import no torch, or ask their user."""
HELP = frozenset({"--help", "-h"})
READ_FROM = frozenset({"--prompts", "--data"})
"""Options that take ``-`` for standard input."""
HIDING = frozenset({"--quiet", "--quiet=true", "--help", "-h", "--version"})

ABOUT = (
    "Turn a base language model into one that follows instructions. What is trained is what is served.\n\n"
    "Begin with `instil demo`, or with your data: `instil train rows.jsonl --model MODEL`. A recipe is a YAML file of "
    "settings; `instil recipe new` writes one. `train` writes a run folder, and chat, "
    "generate, evaluate, serve and export take that folder as their model. `instil COMMAND --help` describes a "
    "command, and --traceback shows where an error came from."
)


def build_app(typed_verb: str | None = None, *, help_formatter: FlowingHelp | None = None) -> App:
    """Return the command-line application. It imports a verb only when the verb runs.

    Args:
        typed_verb: The verb on the command line. It shows its own help instead of the line in the list of verbs.
        help_formatter: What prints the help, instead of cyclopts' own.
    """
    from cyclopts import App  # Why: as `_cyclopts_error`

    app = App(
        name="instil",
        help=ABOUT,
        version=__version__,
        help_format="plaintext",
        help_formatter=help_formatter,
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, where, summary in VERBS:
        app.command(where, name=name, help=None if name == typed_verb else summary)
    return app


def _help_formatter(words: Sequence[str]) -> FlowingHelp | None:
    """Return what prints the help, if the words ask for some or are a group of commands."""
    if len(words) > 2 and HELP.isdisjoint(words):
        return None
    from instil.cli.flowing_help import FlowingHelp  # Why: rich's tables would slow every verb

    return FlowingHelp()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The exit status is 0 on success and 2 on an error that the user can fix. It is 130 on Ctrl-C, and 143 if SIGTERM
    stopped a run.
    """
    with on_the_command_line():
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    """Run the verb that the words name."""
    print_on_any_terminal()
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words
    words = _join_values([word for word in words if word != "--traceback"])
    _check_verb(words)
    with report_errors(words[0] if words else "", words, traceback=traceback), _work_shown(words):
        app, words = parser_of(words)
        app(words)


def parser_of(words: Sequence[str]) -> tuple[App, list[str]]:
    """Return what reads a command line, and its words as that takes them.

    Raises:
        InstilError: If an option's value is wrong or missing.
    """
    words = with_lists(with_sweeps(with_short_options([_in_home(word) for word in _join_values(list(words))])))
    from instil.cli.whole_numbers import check_whole_numbers  # Why: as `_cyclopts_error`

    app = build_app(words[0] if words else None, help_formatter=_help_formatter(words))
    check_whole_numbers(app, words)
    return app, words


def _work_shown(words: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Return a context that shows the work of a verb on a terminal, from its first moment on.

    Why: torch takes seconds to import, and a terminal without a word for so long looks stuck.
    """
    if not words or words[0].startswith("-") or not HIDING.isdisjoint(words):
        return contextlib.nullcontext()
    return show_work("" if words[0] in ANSWER_AT_ONCE else f"instil {words[0]}", loading="loading the libraries")


@contextlib.contextmanager
def report_errors(verb: str, words: Sequence[str] = (), *, traceback: bool = False) -> Iterator[None]:
    """Print an error of a verb on one line and exit.

    Args:
        verb: The name of the verb.
        words: The command line.
        traceback: Let errors through, so that Python prints where they come from.
    """
    try:
        yield
        sys.stdout.flush()  # at exit it is too late to report a full disk
    except _cyclopts_error() as error:
        from instil.cli.wording import describe  # Why: as `_cyclopts_error`

        _fail(f"instil {verb}: {_sentence(describe(error, verb, list(words)))} Run: instil {verb} --help")
    except InstilError as error:
        if traceback:
            raise
        if isinstance(error, RecipeError):
            from instil.cli.wording import typed_setting  # Why: as `_cyclopts_error`

            _fail(typed_setting(error, words))
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if traceback or not _is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "the system has no more")
        _fail(
            f"instil {verb}: no memory ({reason}). "
            f"{SMALLER_WEIGHTS}, use fewer or shorter rows, or use a larger device."
        )
    except KeyboardInterrupt as error:
        message, status = stopped_by(error)
        _fail(message, status=status)
    except BrokenPipeError:  # the reader has gone, as with `| head`; Python must not flush into the closed pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        # An error without a file comes from elsewhere, such as the network, or from standard output.
        refusal = refusal_of(error, Path(str(error.filename or "standard output")))
        if traceback or refusal is None or not (error.errno in FULL or error.filename):
            raise
        # What Python still holds for standard output would fail again at exit, with a traceback.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        found = "cannot be written" if error.errno in FULL else "cannot be read or written"
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"instil {verb}: {place}{found} ({refusal.reason}). {refusal.remedy}, and run it again.")


def _cyclopts_error() -> type[CycloptsError]:
    """Return the base class of cyclopts' errors.

    Why: cyclopts is imported once the terminal has its first line; an import here and in `build_app` waits for that.
    """
    from cyclopts import CycloptsError

    return CycloptsError


def _join_values(words: list[str]) -> list[str]:
    """Join an option and the value after it with ``=``, where cyclopts expects that: ``true`` or ``false``, and ``-``."""
    joined: list[str] = []
    for word in words:
        option = joined[-1] if joined and "--" not in joined else ""
        is_switch = word.lower() in ("true", "false") and option.startswith("--") and "=" not in option
        if is_switch or (word == "-" and option in READ_FROM):
            joined[-1] = f"{option}={word}"
        else:
            joined.append(word)
    return joined


def _in_home(word: str) -> str:
    """Replace ``~`` at the start of a path where the shell does not, and clear an address of secrets.

    The shell leaves ``~`` in quotes and behind ``--option=``.
    """
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if _IN_HOME.fullmatch(value):
        return f"{option}{equals}{home_path(value)}"
    # The address of a server, such as that of a judge, names no file and stays.
    return f"{option}{equals}{clean_url(value)}" if is_url(value) and "." in name_of_url(value) else word


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:
        return False
    from instil.model.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def _sentence(text: str) -> str:
    """End a text with a full stop if it has no end of its own."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _check_verb(words: Sequence[str]) -> None:
    """Exit if the first word is no verb."""
    names = [name for name, _, _ in VERBS]
    if words and not words[0].startswith("-") and words[0] not in names:
        _fail(f"instil: unknown command {words[0]!r}{nearest(words[0], names)}. Expected one of {', '.join(names)}.")


def _fail(message: str, *, status: int = 2) -> None:
    """Print a message on one line of standard error and exit; a terminal wraps it between words."""
    Screen(stderr=True).error(" ".join(message.split()))
    sys.exit(status)

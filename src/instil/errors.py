"""The exception tree: every error that instil raises on purpose.

    InstilError                      anything a user can fix; the CLI prints one line and exits 2
    ├── RecipeError                  a setting: unknown key, wrong value, settings that contradict each other
    ├── DataError                    a file or a row: the message starts with its place
    │   ├── FormatError              a row in no known format, or one that the target format cannot hold
    │   └── NoPairError              a row of scored answers in which none is better than another
    ├── TemplateError                a chat template: missing, does not compile, or refuses a conversation
    ├── EncodingError                a conversation whose loss mask cannot be decided with certainty
    │   └── DroppedTextError         text of a conversation that the template does not print
    ├── ModelError                   a model folder: missing parts, wrong sizes, unsupported combination
    ├── TrainingError                a run that must stop
    │   ├── NonFiniteError           a loss or gradient that is not finite
    │   └── OutOfMemoryError         the device is too small for the smallest micro-batch
    ├── CheckpointError              a checkpoint that is incomplete, damaged or from another run
    ├── RunError                     a run folder: exists already, locked, half-written
    ├── GenerationError              a prompt or a sampling setting
    ├── EvaluationError              a task, a metric or its data
    ├── ExportError                  a target that cannot hold the model, or a parity check that failed
    ├── ServeError                   the HTTP server cannot start as configured
    └── MissingPackageError          an optional package; the message contains the install command

A message reads: *place: what was found. Expected what. What to do.*
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable

from instil.way_in import worded


class InstilError(Exception):
    """Anything a user can fix. The CLI prints its message on one line and exits 2.

    The message is written with options of the command line. In Python it names arguments instead (`way_in`).
    """

    def __str__(self) -> str:
        return worded(super().__str__())


class RecipeError(InstilError):
    """A setting is unknown, has a wrong value, or contradicts another."""


class DataError(InstilError):
    """A data file or a row in it cannot be used. The message starts with its place."""


class FormatError(DataError):
    """A row is in no known format, or the target format cannot hold it."""


class NoPairError(DataError):
    """A row of scored answers has no better and worse one. Preparation leaves it out and counts it."""


class TemplateError(InstilError):
    """A chat template is missing, does not compile, or refuses a conversation."""


class EncodingError(InstilError):
    """A conversation's loss mask cannot be decided with certainty, so it is refused."""


class DroppedTextError(EncodingError):
    """The template does not print some text of a conversation. `data.dropped_text` decides what happens."""


class ModelError(InstilError):
    """A model folder lacks a part, has wrong sizes, or requires an unsupported combination."""


class TrainingError(InstilError):
    """A run must stop."""


class NonFiniteError(TrainingError):
    """A loss or a gradient is not finite; the weights have not moved."""


class OutOfMemoryError(TrainingError):
    """The device cannot hold even the smallest micro-batch of a step."""


class CheckpointError(InstilError):
    """A checkpoint is incomplete, damaged, or belongs to another run."""


class RunError(InstilError):
    """A run folder exists already, is locked, or is half-written."""


class GenerationError(InstilError):
    """A prompt or a sampling setting cannot be used."""


class EvaluationError(InstilError):
    """An evaluation task, a metric or its data cannot be used."""


class ExportError(InstilError):
    """The target cannot hold the model, or the exported model does not equal the run's."""


class ServeError(InstilError):
    """The HTTP server cannot start as configured."""


class MissingPackageError(InstilError):
    """An optional package is not installed; the message contains the command that installs it."""

    def __init__(self, package: str, *, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for}: the package {package} is not installed. It belongs to the extra {extra!r}. "
            f"Run: pip install 'instil[{extra}]'"
        )
        self._rebuild = functools.partial(type(self), package, needed_for=needed_for, extra=extra)

    def __reduce__(self) -> tuple[Callable[[], MissingPackageError], tuple[()]]:
        """Pickle the arguments of the constructor; by default Python would pass it the message alone."""
        return self._rebuild, ()


SMALLER_WEIGHTS = (
    "Load the model in 16 bits or quantised (--precision bf16, --load 4bit; in a recipe model.quantize: 4bit)"
)
"""The remedy if a model does not fit into memory. It stands here because the command line prints it without torch."""


def first_line_of(error: BaseException) -> str:
    r"""Return the first line of an error of another library, or its class's name if it has no text.

    Example:
        >>> first_line_of(OSError("no space\non device")), first_line_of(KeyError())
        ('no space', 'KeyError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest allowed name, or an empty string.

    Example:
        >>> nearest("optimiser", ["optimizer", "data"])
        " (did you mean 'optimizer'?)"
        >>> nearest("zzz", ["optimizer"])
        ''
    """
    close = closest(name, allowed)
    return "" if close is None else f" (did you mean {close!r}?)"


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the closest allowed name, or None if none is close."""
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)), None)

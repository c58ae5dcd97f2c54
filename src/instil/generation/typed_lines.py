"""Reads what a person types in the chat, or the lines of a pipe. It imports no torch, so the prompt is there at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

OPENING = "Type a message. /help lists the commands, /tokens shows tokens, Ctrl-D leaves."
LEAVE = ("/exit", "/quit")
DIM, BOLD, PLAIN = "\033[2m", "\033[1m", "\033[0m"


class TypedLines:
    r"""The lines of a chat, without empty ones. A line that ends with ``\`` continues in the next one.

    Args:
        keyboard: Whether a person types; then prompts are shown and lines can be edited.
        coloured: Whether the output supports colours.
    """

    def __init__(self, *, keyboard: bool, coloured: bool) -> None:
        if keyboard:
            import readline  # noqa: F401  (gives input() line editing and history)
        self.keyboard, self.coloured = keyboard, coloured
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether a Ctrl-C comes from this program rather than from the keyboard; it is passed on then."""

    def __iter__(self) -> Iterator[str]:
        """Yield lines until /exit, /quit or the end of the input."""
        while (line := self.next_line()) is not None and line.strip() not in LEAVE:
            yield line

    def next_line(self) -> str | None:
        """Return the next line that is not empty; None at the end of the input."""
        while True:
            line = self.ask(f"{BOLD}you{PLAIN}  " if self.coloured else "you  ")
            while line is not None and line.endswith("\\"):
                more = self.ask("...  ")
                line = line[:-1] + ("" if more is None else "\n" + more)
            if line is None or line.strip():
                return line

    def ask(self, prompt: str) -> str | None:
        """Return one line as it was typed; None at the end of the input."""
        if not self.keyboard:
            line = sys.stdin.readline()
            return line.rstrip("\r\n") if line else None
        try:
            return input(prompt)
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            if self.interrupted():
                raise
            print("\n(press Ctrl-D or type /exit to leave)")
            return ""

    def note(self, text: str) -> None:
        """Print a line that is neither a question nor an answer."""
        print(f"{DIM}{text}{PLAIN}" if self.coloured else text)

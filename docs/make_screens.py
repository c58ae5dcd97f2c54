"""Write the screens of README.md: two commands run on a terminal of 80 columns, what they leave on it put between marks.

    python docs/make_screens.py

The rows are made here, so that nobody's data is shown. Only the lines of the screen are kept, not its colours.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
COLUMNS, LINES = 80, 60
COMMANDS = {
    "inspect": "instil inspect rows.jsonl --model demo",
    "train": "instil train rows.jsonl --model demo --training.max-steps 30 --evaluate.max-new-tokens 16 --data.max-tokens 128 "
    "--data.on-bad-row skip",
}
_PART = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def rows() -> list[dict[str, str]]:
    """Return questions and answers, one of which is empty."""
    made = [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(2, 32) for b in range(3, 23)]
    return [*made, {"question": "What is 1 + 1?", "answer": ""}]


def shown(written: str) -> list[str]:
    """Return what a terminal shows at the end: bars are drawn and removed with the few sequences known here."""
    lines, at, column = [""], 0, 0
    for part in _PART.finditer(written):
        text, count, command = part.group(), part.group(1), part.group(2)
        if command == "K":
            lines[at], column = "", 0
        elif command == "A":
            at = max(0, at - int(count or 1))
        elif command:
            continue  # colours, and the cursor shown or hidden
        elif text == "\r":
            column = 0
        elif text == "\n":
            at, column = at + 1, 0
            lines += [""] * (at + 1 - len(lines))
        else:
            lines[at] = lines[at][:column].ljust(column) + text + lines[at][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines]


def run(command: str, folder: Path) -> str:
    """Run a command on a terminal of 80 columns, and return its screen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    done = subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=folder,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=environment,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    if done.wait():
        sys.exit(f"{command}: exit status {done.returncode}\n{written.decode('utf-8', 'replace')}")
    return "\n".join(shown(written.decode("utf-8"))).strip("\n")


def main() -> None:
    """Run the commands and replace what stands between their marks in README.md."""
    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
        for verb, command in COMMANDS.items():
            screen = run(command, folder)
            block = f"<!-- screen: {verb} -->\n```text\n$ {command}\n{screen}\n```\n<!-- end -->"
            text, count = re.subn(
                rf"<!-- screen: {verb} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.S
            )
            assert count == 1, f"README.md has no marks for {verb}"
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write the screens of the pages: their commands run on a terminal of 80 columns, and what they leave on it.

    python docs/make_screens.py [PAGE …]

A screen stands between two marks, after the block with its command:

    ```sh
    instil plan rows.jsonl
    ```

    <!-- screen -->
    ```text
    …
    ```
    <!-- end -->

- `<!-- screen: only Machine, Notes -->` keeps the parts whose first line begins so, and `…` for what is left out.
- `<!-- before: COMMAND -->` runs a command that is not shown. $ROOT is this repository, $CORPUS the corpus.
- `<!-- corpus: NAME, NAME as OTHER -->` brings data sets of the corpus ($INSTIL_CORPUS) into the folder. Without a corpus
  such a page is left as it is, and the others are written.
- `<!-- file: NAME -->` before a block makes its content a file, which the commands can read.

The commands of a page run in order in one new folder. The rows are made here, so that nobody's data is shown. Only the
lines of the screen are kept, not its colours.
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

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, LINES = 80, 60
_PART = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")
_STEP = re.compile(
    r"<!-- before: (?P<before>.+?) -->"
    r"|```sh\n(?P<command>[^`]+)```\n\n<!-- screen(?:: only (?P<only>.+?))? -->\n(?P<screen>.*?)<!-- end -->",
    re.DOTALL,
)

_CORPUS = re.compile(r"<!-- corpus: (.+?) -->")
_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)


def sums() -> list[dict[str, str]]:
    """Return 600 questions with their answers, and one with an empty answer."""
    rows = [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(2, 32) for b in range(3, 23)]
    return [*rows, {"question": "What is 1 + 1?", "answer": ""}]


def link_data_sets(folder: Path, page_text: str) -> bool:
    """Link the corpus's data sets that a page names; return False if it names some and there is no corpus."""
    named = _CORPUS.search(page_text)
    if named is None:
        return True
    corpus = os.environ.get("INSTIL_CORPUS")
    if corpus is None:
        return False
    for part in named[1].split(", "):
        name, _, other = part.partition(" as ")
        (folder / (other or name)).symlink_to(Path(corpus, "datasets", name).resolve(strict=True))
    return True


def write_rows(folder: Path, page_text: str) -> None:
    """Write the rows that every page may name, and the files that the page shows."""
    for name, rows in (("rows", sums()), ("test", sums()[:-1:7])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for name, text in files_of(page_text).items():
        (folder / name).write_text(text, encoding="utf-8")


def files_of(page_text: str) -> dict[str, str]:
    """Return the files that a page shows, by name."""
    return dict(_FILE.findall(page_text))


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
    """Run a command line of the shell on a terminal of 80 columns, and return its screen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    corpus = os.environ.get("INSTIL_CORPUS", "")
    environment = {**os.environ, "TERM": "xterm-256color", "ROOT": str(ROOT), "CORPUS": corpus}
    line = re.sub(r"(^|[;&|(]\s*)instil ", rf"\1{sys.executable} -m instil ", command)
    done = subprocess.Popen(
        ["bash", "-c", line], cwd=folder, stdout=theirs, stderr=theirs, stdin=theirs, env=environment
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
    # A check that finds something ends with 1; that is part of a page about faults. So does a program that fails.
    screen = "\n".join(shown(written.decode("utf-8", "replace"))).strip("\n")
    if done.wait() not in (0, 1) or "Traceback (most recent call last)" in screen:
        sys.exit(f"{command}: exit status {done.returncode}\n{screen}")
    return screen


def parts_of(screen: str, only: str | None) -> str:
    """Return the parts of a screen whose first line begins with one of the words; all of them without words."""
    if not only:
        return screen
    starts = tuple(word.strip() for word in only.split(","))
    kept: list[str] = []
    parts = re.split(r"\n\n+", screen)
    for part in parts:
        if part.startswith(starts):
            kept.append(part)
        elif not kept or kept[-1] != "…":
            kept.append("…")
    assert len(kept) > 1 or kept[0] != "…", f"no part of the screen begins with {starts}:\n{screen}"
    return "\n\n".join(kept)


def rewrite(page: Path) -> bool:
    """Run the commands of a page, and replace its screens. Return False if it needs a corpus and there is none."""
    page_text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, page_text)
        if not link_data_sets(folder, page_text):
            return False

        def replaced(step: re.Match[str]) -> str:
            if step["before"]:
                run(step["before"], folder)
                return step.group()
            screen = parts_of(run(step["command"].replace("\\\n", " ").strip(), folder), step["only"])
            before = page_text[step.start() : step.start("screen")]
            return f"{before}```text\n{screen}\n```\n<!-- end -->"

        page.write_text(_STEP.sub(replaced, page_text), encoding="utf-8")
    return True


def main() -> None:
    """Write the screens of the pages that are named, or of all."""
    pages = [Path(name) for name in sys.argv[1:]] or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if "<!-- screen" in page.read_text(encoding="utf-8"):
            print(page if rewrite(page) else f"{page}: left as it is; set INSTIL_CORPUS to the corpus's folder")


if __name__ == "__main__":
    main()

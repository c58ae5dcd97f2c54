"""Build the docs site in its three languages.

    python docs/make_site.py [--execute] [--out build/site]

Each language has a folder, and ``index.html`` leads to the reader's one. Any warning is an error: a link that leads
nowhere, a translation that has lost a link. ``--execute`` runs the lessons of the course and shows what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docs_site.languages import LANGUAGES, tag_of

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
START = "docs/index.html"


def front_page() -> str:
    """Return the page that leads to the reader's language: by the browser's list of languages, or by a click."""
    links = "\n".join(
        f'<li><a lang="{tag_of(code)}" href="{code}/{START}">{name}</a></li>' for code, name in LANGUAGES.items()
    )
    folders = json.dumps({code.split("_")[0]: code for code in LANGUAGES})
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>instil</title>
<script>
const folderOf = language => ({folders})[language.toLowerCase().split("-")[0]];
location.replace((navigator.languages.map(folderOf).find(folder => folder) || "en") + "/{START}");
</script>
<body style="font: 1.1rem/2 sans-serif; margin: 3rem">
<h1>instil</h1>
<ul>
{links}
</ul>
"""


def sphinx(language: str, out: Path) -> bool:
    """Build the site of a language. Return whether it has no warning.

    Why a process of its own: Sphinx keeps the words of its first language for the life of a process.
    """
    strict = ["--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    where = ["-c", str(DOCS), "-d", str(out.parent / "doctrees" / language), str(ROOT), str(out / language)]
    command = [sys.executable, "-m", "sphinx", *strict, "-D", f"language={language}", *where]
    return subprocess.run(command).returncode == 0


def build(out: Path, languages: list[str], *, num_at_once: int) -> int:
    """Build the site; return how many languages failed."""
    with ThreadPoolExecutor(num_at_once) as pool:
        are_right = list(pool.map(lambda language: sphinx(language, out), languages))
    (out / "index.html").write_text(front_page(), encoding="utf-8")
    return are_right.count(False)


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Build the docs site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site")
    parser.add_argument("--languages", nargs="+", choices=list(LANGUAGES), default=list(LANGUAGES))
    parser.add_argument("--execute", action="store_true", help="run the lessons, and show their outputs")
    options = parser.parse_args()
    if options.execute:
        os.environ["DOCS_EXECUTE"] = "1"
    options.out.mkdir(parents=True, exist_ok=True)
    # The first language that runs the lessons keeps their outputs for the next.
    failed = build(options.out, options.languages, num_at_once=1 if options.execute else 2)
    if failed:
        sys.exit(f"{failed} of {len(options.languages)} languages have errors, above.")
    print(f"The site is in {options.out}. Read it: make serve-docs")


if __name__ == "__main__":
    main()

"""Write docs/refused-templates.md: what is refused over the corpus, by template and reason.

Run as ``python -m tests.conformance.refusals`` from the repository's root; ``--check`` only prints the counts.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.oracle import Verdict, judge
from tests.conformance.tokenizers_made import make_tokenizer
from tests.corpus import corpus_path

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.reasoning_block import TAG

DOCUMENT = Path(__file__).parents[2] / "docs" / "refused-templates.md"


def corpus_entries() -> list[dict[str, Any]]:
    """Every template of the corpus but the variants that another tool patched for its own training."""
    folder = corpus_path()
    assert folder is not None, "the corpus is absent; set INSTIL_CORPUS"
    entries = json.loads((folder / "templates" / "index.json").read_text())
    return [entry for entry in entries if entry["kind"] != "trl-training"]


def corpus_chat(entry: dict[str, Any]) -> ChatTokenizer:
    folder = corpus_path()
    assert folder is not None
    source = (folder / "templates" / entry["file"]).read_text(encoding="utf-8")
    marks = {tag for tag in TAG.findall(source) if re.search(r"[|｜]|_of_|_start|_end|^\[|^</?s>$", tag)}
    bos, eos = entry.get("bos_token") or "", entry.get("eos_token") or "</s>"
    return ChatTokenizer.from_tokenizer(
        make_tokenizer("byte_level", template=source, special=tuple(sorted(marks)), bos=bos, eos=eos)
    )


def verdicts(entry: dict[str, Any]) -> Iterator[tuple[str, Verdict]]:
    """Judge one template on every conversation; those whose answer the template drops are unfit."""
    chat = corpus_chat(entry)
    for name, messages in {**TALKS, "reasoning": REASONING, "tool call": CALLING}.items():
        verdict = judge(chat, messages, [TOOL] if name == "tool call" else None)
        if verdict.kind == "refused" and "does not print the assistant's text" in verdict.detail:
            verdict = Verdict("unfit", verdict.detail)
        yield name, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    counts: Counter[str] = Counter()
    refused: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in corpus_entries():
        for name, verdict in verdicts(entry):
            counts[verdict.kind] += 1
            if verdict.kind == "wrong":
                print(f"WRONG {entry['file']}: {name}: {verdict.detail}")
            if verdict.kind == "refused":
                reason = re.sub(r"^conversation: message \d+: ", "", verdict.detail)
                refused[entry["file"]][reason].append(name)
    judged = counts["exact"] + counts["refused"] + counts["wrong"]
    print(json.dumps({**counts, "refused_share": round(counts["refused"] / judged, 4)}))
    if not check:
        DOCUMENT.write_text(_document(counts, judged, refused), encoding="utf-8")


def _document(counts: Counter[str], judged: int, refused: dict[str, dict[str, list[str]]]) -> str:
    lines = [
        "# What is rejected, and why",
        "",
        "Look up here whether a published template has a case that cannot be trained with certainty.",
        "",
        "A conversation is rejected if serving's prompt and the template's own rendering leave open what the",
        "model must write. This page lists every rejection over the public templates that the tests use, with",
        "the encoder's reason. It is generated:",
        "",
        "```sh",
        "python -m tests.conformance.refusals",
        "```",
        "",
        "| pairs of a template and a conversation that it accepts | number |",
        "|---|---|",
        f"| all | {judged:,} |",
        f"| exact | {counts['exact']:,} |",
        f"| wrong | {counts['wrong']:,} |",
        f"| rejected | {counts['refused']:,} ({counts['refused'] / judged:.1%}) |",
        "",
        "A *talk* is one of these conversations of plain text. Two others have reasoning and a tool call.",
        "",
        "```text",
        *textwrap.wrap(", ".join(TALKS), 98),
        "```",
        "",
    ]
    for name, reasons in sorted(refused.items()):
        lines += [f"## {name}", ""]
        shortest: dict[str, tuple[str, list[str]]] = {}
        for reason, cases in reasons.items():
            key = re.sub(r"'[^']*'|\"[^\"]*\"", "_", reason)
            shortest.setdefault(key, (reason, []))[1].extend(cases)
        for reason, cases in shortest.values():
            lines += [
                *textwrap.wrap(f"Rejected: {_named(cases)}.", 98),
                "",
                "```text",
                *textwrap.wrap(reason[:400], 98),
                "```",
                "",
            ]
    return "\n".join(lines)


def _named(cases: list[str]) -> str:
    """Name conversations, nearly all talks as those that are missing."""
    missing = [name for name in TALKS if name not in cases]
    others = [name for name in cases if name not in TALKS]
    if len(missing) > 4:
        return ", ".join(cases)
    talks = f"every talk except {', '.join(missing)}" if missing else "every talk"
    return "; ".join([talks, *others])


if __name__ == "__main__":
    main()

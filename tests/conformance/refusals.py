"""Write docs/how-it-works/refused-templates.md: what is refused over the corpus, by template and reason.

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
from typing import Any, TypeAlias

from tests.conformance.cases import CALLING, REASONING, TALKS, TOOL
from tests.conformance.oracle import Verdict, judge
from tests.conformance.tokenizers_made import make_tokenizer
from tests.corpus import corpus_path

from instil.encoding.chat_tokenizer import ChatTokenizer
from instil.encoding.turns.reasoning_block import TAG

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-it-works" / "refused-templates.md"


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


Reasons: TypeAlias = dict[str, dict[str, list[str]]]
"""Template → reason → the conversations that are refused for it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    counts: Counter[str] = Counter()
    undecided: Reasons = defaultdict(lambda: defaultdict(list))
    dropped: Reasons = defaultdict(lambda: defaultdict(list))
    for entry in corpus_entries():
        for name, verdict in verdicts(entry):
            counts["dropped" if verdict.dropped else verdict.kind] += 1
            if verdict.kind == "wrong":
                print(f"WRONG {entry['file']}: {name}: {verdict.detail}")
            if verdict.dropped:
                missing = re.fullmatch(r".*? all of the conversation: (.*?)\. Expected .*", verdict.detail, re.DOTALL)
                assert missing is not None, verdict.detail
                dropped[entry["file"]][missing[1]].append(name)
            elif verdict.kind == "refused":
                reason = re.sub(r"^conversation: message \d+: ", "", verdict.detail)
                undecided[entry["file"]][reason].append(name)
    judged = counts["exact"] + counts["refused"] + counts["dropped"] + counts["wrong"]
    print(json.dumps({**counts, "refused_share": round((counts["refused"] + counts["dropped"]) / judged, 4)}))
    if not check:
        DOCUMENT.write_text(_document(counts, judged, undecided, dropped), encoding="utf-8")


def _document(counts: Counter[str], judged: int, undecided: Reasons, dropped: Reasons) -> str:
    lines = [
        "# What is rejected, and why",
        "",
        "Look up here whether a published template has a case that cannot be trained with certainty.",
        "",
        "A conversation is rejected for one of two reasons:",
        "",
        "- serving's prompt and the template's own rendering leave open what the model must write;",
        "- the template [does not print all of it](#text-that-a-template-does-not-print).",
        "",
        "This page lists every rejection over the public templates that the tests use. It is generated:",
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
        f"| rejected: it is open what to write | {counts['refused']:,} ({counts['refused'] / judged:.1%}) |",
        f"| rejected: not all of it is printed | {counts['dropped']:,} ({counts['dropped'] / judged:.1%}) |",
        "",
        "A pair whose answer the template does not print at all is not counted.",
        "",
        "A *talk* is one of these conversations of plain text. Two others have reasoning and a tool call.",
        "",
        "```text",
        *textwrap.wrap(", ".join(TALKS), 98),
        "```",
        "",
    ]
    for name, reasons in sorted(undecided.items()):
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
    return "\n".join([*lines, *_dropped_texts(dropped)])


def _dropped_texts(dropped: Reasons) -> list[str]:
    """Return the section about conversations that a template does not print completely."""
    rows = []
    for name, reasons in sorted(dropped.items()):
        cases = [case for of_reason in reasons.values() for case in of_reason]
        missing = sorted({re.sub(r"message|[\d(),]", "", reason.partition(":")[0]) for reason in reasons})
        rows.append(
            f"| {_named(cases)} | {', '.join(' '.join(words.split()) for words in missing)} | {name.removesuffix('.jinja')} |"
        )
    return [
        "## Text that a template does not print",
        "",
        "The model would not see it in serving either. [what-is-trained.md](what-is-trained.md) says what counts.",
        "`data.dropped_text: accept` trains such rows without the text.",
        "",
        "| rejected | not printed | template |",
        "|---|---|---|",
        *rows,
        "",
    ]


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

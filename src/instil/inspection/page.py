"""Build the mask page: one HTML file with its data, style and script, without any network request.

`page_file` writes it, `views.page` has the frame and the look. The rows are JSON with every distinct token once. The
page draws one row at a time, so thousands of rows stay usable. The script writes text nodes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from instil.inspection.findings import KINDS
from instil.inspection.shown_examples import ShownExample, ShownPair, parts_of
from instil.inspection.shown_rows import ShownRow
from instil.views.html import script, style_sheet
from instil.views.page import html_page
from instil.views.tokens import blocks_of


@dataclass(frozen=True, slots=True)
class PageText:
    """The text of the page around its rows.

    Attributes:
        title: Heading.
        facts: Short facts under the heading: model, template, stop token, number of rows shown.
        ledger: Lines of the ledger.
        formats: Format of each file.
        proof_passed: Whether the template's proof passed.
        proof: Lines of the proof.
        charts: Title and (label, count) bars of each histogram.
        counts: Number of findings of each kind in all rows.
    """

    title: str
    facts: Sequence[str] = ()
    ledger: Sequence[str] = ()
    formats: Sequence[str] = ()
    proof_passed: bool = True
    proof: Sequence[str] = ()
    charts: Sequence[tuple[str, Sequence[tuple[str, int]]]] = ()
    counts: Mapping[str, int] | None = None


def build_page(rows: Iterable[ShownRow], text: PageText) -> str:
    """Return the page as HTML.

    Args:
        rows: The rows to show. They are packed one by one and not kept.
        text: The text around them.
    """
    style, own_script, body = (_part(name) for name in ("mask.css", "mask.js", "mask.html"))
    return html_page(
        f"{text.title} – what is trained",
        body=body,
        style=style_sheet("tokens.css") + style_sheet("examples.css") + style,
        script=script("tokens.js") + script("examples.js") + own_script,
        data=_data(rows, text),
    )


def _data(rows: Iterable[ShownRow], text: PageText) -> dict[str, Any]:
    counts = text.counts or {}
    kinds = [name for name in KINDS if counts.get(name)]
    pack = Packer(kinds)
    packed = [pack.row(row) for row in rows]
    return {
        "title": text.title,
        "facts": list(text.facts),
        "ledger": list(text.ledger),
        "formats": list(text.formats),
        "proof": {"passed": text.proof_passed, "lines": list(text.proof)},
        "charts": [{"title": title, "bins": [list(bar) for bar in bars]} for title, bars in text.charts],
        "kinds": [
            {
                "name": name,
                "title": KINDS[name].title,
                "severity": KINDS[name].severity,
                "remedy": KINDS[name].remedy,
                "reasoned": KINDS[name].reasoned,
                "count": counts[name],
            }
            for name in kinds
        ],
        "pieces": list(pack.pieces),
        "fields": list(pack.fields),
        "rows": packed,
    }


class Packer:
    """Packs rows: every distinct (id, text) and field name once, weights and origins as runs."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = {name: index for index, name in enumerate(kinds)}
        self.pieces: dict[tuple[int, str], int] = {}
        self.fields: dict[str, int] = {}

    def row(self, row: ShownRow) -> dict[str, Any]:
        """Return a row as JSON values, whose tokens and fields are numbers in `pieces` and `fields`."""
        packed = {
            "place": str(row.place),
            "findings": [[self._kinds[found.kind], found.seen] for found in row.findings if found.kind in self._kinds],
            "examples": [self._example(example) for example in row.examples],
        }
        pairs = _pairs(row.examples)
        return {**packed, "pairs": pairs} if pairs else packed

    def _example(self, example: ShownExample) -> dict[str, Any]:
        ids: list[int] = []
        runs: list[list[Any]] = []
        for token in example.tokens:
            ids.append(self.pieces.setdefault((token.id, token.text), len(self.pieces)))
            field = None if token.field is None else self.fields.setdefault(token.field, len(self.fields))
            origin = [round(float(token.weight), 6), token.message, field]
            if runs and runs[-1][1:] == origin:
                runs[-1][0] += 1
            else:
                runs.append([1, *origin])
        blocks = [list(block) for block in blocks_of(example.tokens, example.roles)]
        packed = {
            "roles": list(example.roles),
            "tokens": ids,
            "runs": runs,
            "blocks": blocks,
            "shortened": example.shortened,
            "limit": example.limit,
        }
        if example.side is None:
            return packed
        return {**packed, "side": example.side, "answer": example.answer, "leftOut": example.left_out}


def _pairs(examples: Sequence[ShownExample]) -> list[list[int]]:
    """Return the position of the first example of each pair, and the number of tokens that both sides have in common."""
    pairs = []
    at = 0
    for part in parts_of(examples):
        if isinstance(part, ShownPair):
            pairs.append([at, part.num_common])
            at += 1
        at += 1
    return pairs


def _part(name: str) -> str:
    return resources.files("instil.inspection").joinpath("page", name).read_text(encoding="utf-8")

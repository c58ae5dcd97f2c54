"""What a page shows of an inspection: ledger, findings and histograms, out of the JSON of ``instil inspect --json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instil.inspection.findings import KINDS
from instil.inspection.histogram import Bin, bin_label

PLACES_SHOWN = 3
_TALLIES = ("left_out", "parts_left_out", "shortened", "rendered")
_COUNTS = ("duplicates", "escaped", "inline_reasoning", "part_weights")
_CHARTS = ("tokens", "trained_tokens", "chosen_tokens", "rejected_tokens")


def report_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of the report."""
    ledger, tokens = report["ledger"], report["ledger"]["tokens"]
    share = ledger["trained_tokens"] / tokens if tokens else 0.0
    return {
        "ledger": ledger,
        "share": f"{share:.1%}",
        "tallies": [
            (name, reason, tally["count"], tally["places"][:PLACES_SHOWN])
            for name in _TALLIES
            for reason, tally in sorted(ledger[name].items())
        ]
        + [
            (name, "", ledger[name]["count"], ledger[name]["places"][:PLACES_SHOWN])
            for name in _COUNTS
            if ledger[name]["count"]
        ],
        "findings": findings_view(report),
        "charts": [
            *_length_charts(report),
            ("trained_share", {}, _bars(report["trained_share"]["bins"], percent=True)),
        ],
        "formats": report["formats"],
        "notes": report["notes"],
        "warnings": [warning["text"] for warning in report["warnings"]],
    }


def findings_view(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each kind of finding with its count and its first places."""
    kept: dict[str, list[Mapping[str, Any]]] = {}
    for finding in report["findings"]["kept"]:
        kept.setdefault(finding["kind"], []).append(finding)
    return [
        {
            "kind": name,
            "severity": KINDS[name].severity,
            "repaired": KINDS[name].repaired,
            "count": count,
            "places": len(places_of(report, name)),
            "first": kept.get(name, [])[:PLACES_SHOWN],
        }
        for name, count in report["findings"]["counts"].items()
    ]


def places_of(report: Mapping[str, Any], kind: str) -> list[str]:
    """Return the places of the kept findings of a kind, each once; of all kinds for ``any``."""
    found = report["findings"]["kept"]
    places = [one["place"] for one in found if (kind == "any" or one["kind"] == kind) and one["place"] is not None]
    return list(dict.fromkeys(places))


def findings_at(report: Mapping[str, Any], places: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return kind and words of the findings of some places."""
    wanted, found = set(places), {}  # type: ignore[var-annotated]
    for one in report["findings"]["kept"]:
        if one["place"] in wanted:
            found.setdefault(one["place"], []).append((one["kind"], one["seen"]))
    return found


def _length_charts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], list[tuple[str, int, float]]]]:
    names = [name for name in _CHARTS if report.get(name, {}).get("count")]
    if report["ledger"]["reading"] != "sft":
        names = [name for name in names if name != "trained_tokens"]
    return [(name, report[name], _bars(report[name]["bins"])) for name in names]


def _bars(bins: Sequence[Sequence[float]], *, percent: bool = False) -> list[tuple[str, int, float]]:
    """Return label, count and width in percent of each bin."""
    most = max((count for _, _, count in bins), default=0) or 1
    return [
        (bin_label(Bin(low, high, int(count)), percent=percent), int(count), round(100 * count / most, 2))
        for low, high, count in bins
    ]

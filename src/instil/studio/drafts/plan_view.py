"""What the page shows of a plan: facts with their keys, memory as parts of a bar, and the runs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instil.units import byte_size, duration, short_count

BAR = 1000
"""Width of the bar in its own units."""
SEEN = 4
"""How many times the need the free memory may be to be drawn too."""


def plan_view(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan as the page shows it.

    Args:
        plan: What `instil plan --json` printed, of a run or of a sweep.
    """
    if "plans" not in plan:
        return _run_view(plan) | {"runs": [], "num_runs": 1}
    first = next(iter(plan["plans"].values()))
    largest = max(plan["plans"].values(), key=lambda run: run["memory"]["peak"] / max(1, run["free_memory"]))
    runs = [
        {
            "name": name,
            "steps": f"{run['steps']:,}",
            "memory": byte_size(run["memory"]["peak"]),
            "time": duration(run["seconds"]),
            "fits": run["fits"],
        }
        for name, run in plan["plans"].items()
    ]
    facts = [
        ("runs", f"{plan['runs']:,}"),
        ("best_by", plan["best_by"]),
        ("time", duration(plan["seconds"])),
        ("disk", byte_size(plan["disk"])),
    ]
    warnings = list(plan["warnings"])
    return {
        "facts": facts,
        "memory": _memory(largest),
        "notes": list(plan["notes"]),
        "warnings": warnings,
        "runs": runs,
        "num_runs": plan["runs"],
        "rows": _rows(first),
    }


def _run_view(plan: Mapping[str, Any]) -> dict[str, Any]:
    facts = [
        ("parameters", short_count(plan["parameters"])),
        (
            "trained",
            f"{short_count(plan['trained_parameters'])} ({_share(plan['trained_parameters'], plan['parameters'])})",
        ),
        ("steps", f"{plan['steps']:,}"),
        ("batch", f"{plan['batch_size']:,}"),
        ("passes", f"{plan['epochs']:.2f}"),
        ("tokens", f"{plan['tokens']:,}"),
        ("trained_tokens", f"{plan['trained_tokens']:,} ({_share(plan['trained_tokens'], plan['tokens'])})"),
        ("lr", f"{plan['lr']:g}"),
        ("time", duration(plan["seconds"])),
        ("disk", byte_size(plan["disk"])),
        ("precision", plan["precision"]),
        ("template", plan["template"]),
    ]
    return {
        "facts": facts,
        "memory": _memory(plan),
        "notes": list(plan["notes"]),
        "warnings": [warning["text"] for warning in plan["warnings"]],
        "rows": _rows(plan),
    }


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0%"


def _rows(plan: Mapping[str, Any]) -> dict[str, Any]:
    data = plan["data"]
    return {"in": data.get("rows_in"), "examples": data.get("examples"), "left_out": data.get("rows_left_out")}


def _memory(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the memory by kind, each with its place in a bar as long as the larger of need and free memory, or as the need."""
    kinds = [(kind, size) for kind, size in plan["memory"].items() if kind != "peak"]
    peak, free = plan["memory"]["peak"], plan["free_memory"]
    need = max(sum(size for _, size in kinds), peak, 1)
    whole = need if free > SEEN * need else max(need, free)  # a small part of much would be no bar at all
    parts, at = [], 0.0
    for number, (kind, size) in enumerate(kinds):
        width = BAR * size / whole
        parts.append(
            {"kind": kind, "size": byte_size(size), "x": f"{at:.1f}", "width": f"{width:.1f}", "colour": number}
        )
        at += width
    return {
        "parts": parts,
        "peak": byte_size(peak),
        "free": byte_size(free),
        "free_x": f"{min(BAR - 2, BAR * free / whole):.1f}" if free <= SEEN * need else "",
        "fits": plan["fits"],
        "micro_batch": f"{plan['micro_batch_tokens']:,}",
    }

"""Measure preference tuning (DPO): pairs per second and peak memory, beside TRL on the same pairs in the same order.

    python benchmarks/preference.py [--work 135m] [--peer trl] [--reference stored,computed] [--steps 10] [--repeats 1]
                                    [--equal-steps 3] [--data FILE] [--model MODEL] [--template chatml]

`demo` is the embedded base model, `135m` a random model in the shape of SmolLM2-135M. All sides load the same folder, in
fp32. A pair is a question with its own answer, which is chosen, and the answer to the next question, which is rejected.
Batch 8; learning rate constant; DPO with beta 0.1. TRL keeps its other defaults, such as gradient checkpointing, and
runs in an environment of its own (peers.py). `--peer none` measures instil alone.

instil computes the reference once, before the first step. TRL computes it in each step with a second model
(`computed`), or once before (`stored`, its precompute_ref_log_probs). Cases:

    stored      a step alone, on both sides
    passed      a step of `stored`, and on both sides the pass over its pairs before
    computed    TRL's step with its reference, against instil's step and the pass over its pairs before

Sides run in turns, each run in a process of its own. The first step is not counted. A ratio is TRL's time for the
same pairs over instil's: of the clock, and of the processor (`cpu ratio`), which other programs disturb less. The
result is the median over the turns.

TRL also counts what follows the stop token, such as ChatML's line break, so its losses differ. `--equal-steps` trains
TRL again on the same tokens as instil and shows the losses beside each other. The last line of the output is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, count, inputs_of, words_of
from peers import peer_python
from preference_sides import UNCOUNTED
from train_step import BATCH, WORKS, write_start

REFERENCES = ("stored", "computed")


def as_preferences(pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield each question with its own answer as the chosen one, and the next comparable answer as the rejected one.

    Raises:
        SystemExit: If a question has no comparable answer, with one line.
    """
    for place, (question, answer) in enumerate(pairs):
        others = (pairs[(place + step) % len(pairs)][1] for step in range(1, len(pairs)))
        rejected = next((other for other in others if are_comparable(answer, other)), None)
        if rejected is None:
            raise SystemExit(
                f"{question!r}: none of {len(pairs)} answers can be compared with its own. Expected answers that differ. "
                "Name other rows with --data."
            )
        yield {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": answer}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }


def are_comparable(one: str, other: str) -> bool:
    """Return whether instil compares two answers: neither is the beginning of the other.

    Example:
        >>> are_comparable("4", "42"), are_comparable("4", "24")
        (False, True)
    """
    one, other = one.strip(), other.strip()
    return not (one.startswith(other) or other.startswith(one))


def run_side(side: str, job: dict[str, Any], *, threads: int) -> dict[str, Any]:
    """Run one side in a process of its own, under the Python of its environment."""
    python = sys.executable if side == "instil" else str(peer_python("trl"))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": f"{job['out']}-cache",  # TRL would read the reference of an earlier run from the user's
        "TQDM_DISABLE": "1",
    }
    if side != "instil":
        environment.pop("PYTHONPATH", None)
    words = [python, str(Path(__file__).with_name("preference_sides.py")), side, json.dumps(job)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def seconds_of_step(run: dict[str, Any], clock: str, *, with_reference: bool = False) -> float:
    """Return the seconds of a step: the mean of those that count, and if asked, its share of the reference's pass.

    Example:
        >>> run = {"wall": [9.0, 2.0, 4.0], "reference_wall": 6.0}
        >>> seconds_of_step(run, "wall"), seconds_of_step(run, "wall", with_reference=True)
        (3.0, 5.0)
    """
    step = statistics.mean(run[clock][UNCOUNTED:])
    return step + (run[f"reference_{clock}"] / len(run[clock]) if with_reference else 0.0)


def compare(case: str, ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a case, over the turns; those of a peer are None without one."""
    ours_counts, theirs_count = case != "stored", case == "passed"
    found: dict[str, Any] = {"reference": case}
    for clock, prefix in (("wall", ""), ("cpu", "cpu_")):
        mine = [seconds_of_step(run, clock, with_reference=ours_counts) for run in ours]
        other = [seconds_of_step(run, clock, with_reference=theirs_count) for run in theirs]
        found[f"{prefix}ours"] = round(BATCH / statistics.median(mine), 4)
        found[f"{prefix}theirs"] = round(BATCH / statistics.median(other), 4) if other else None
        ratios = [slow / fast for slow, fast in zip(other, mine, strict=True)] if other else []
        found[f"{prefix}ratio"] = round(statistics.median(ratios), 2) if ratios else None
    found["peak_mb"] = max(run["peak_mb"] for run in ours)
    found["their_peak_mb"] = max((run["peak_mb"] for run in theirs), default=None)
    return found


def measure(work: str, args: argparse.Namespace, *, inputs: Inputs, scratch: Path) -> dict[str, Any]:
    """Measure one model, all sides in turns."""
    folder = scratch / work
    folder.mkdir(parents=True)
    start = write_start(work, folder, inputs)
    rows = folder / "pairs.jsonl"
    num_pairs = BATCH * args.steps
    preferences = as_preferences(inputs.pairs(num_pairs, at_least=num_pairs))
    rows.write_text("".join(json.dumps(row) + "\n" for row in preferences), encoding="utf-8")
    job = {"model": str(start), "rows": str(rows), "batch": BATCH, "steps": args.steps, "rate": args.learning_rate}

    def run(side: str, name: str, **more: Any) -> dict[str, Any]:
        figures = run_side(side, job | {"out": str(folder / name)} | more, threads=args.threads)
        rate = BATCH / seconds_of_step(figures, "wall") if len(figures["wall"]) > UNCOUNTED else None
        print(f"{work} {name}: {rate and round(rate, 3)} pairs/s, peak {figures['peak_mb']} MB", file=sys.stderr)
        return figures

    runs: dict[str, list[dict[str, Any]]] = {"instil": [], **{name: [] for name in args.reference if args.peer}}
    for turn in range(args.repeats):
        for side, figures in runs.items():
            if side == "instil":
                figures.append(run("instil", f"instil-{turn}", micro_batch_tokens=args.micro_batch_tokens))
            else:
                figures.append(run("trl", f"trl-{side}-{turn}", reference=side))
    same = None
    if args.peer and args.equal_steps:
        same = run("trl", "trl-equal", reference="computed", steps=args.equal_steps, equal=True)
    stored, computed = runs.get("stored", []), runs.get("computed", [])
    cases = [compare(case, runs["instil"], stored) for case in ("stored", "passed")] if stored or not args.peer else []
    cases += [compare("computed", runs["instil"], computed)] if computed else []
    theirs = (stored or computed or [None])[0]
    return {
        "work": work,
        "cases": cases,
        "losses": {"ours": runs["instil"][0]["losses"], "theirs": theirs and theirs["losses"]},
        "equal_losses": same and same["losses"],
        "tokens": {
            "ours": runs["instil"][0]["tokens"],
            "theirs": theirs and theirs["tokens"],
            "equal": same and same["tokens"],
        },
        "behind_stop": theirs and theirs["behind_stop"],
        "lengths": runs["instil"][0]["lengths"],
        "phases": runs["instil"][0]["phases"],
        "versions": {"ours": runs["instil"][0]["versions"], "theirs": theirs and theirs["versions"]},
    }


def show(found: dict[str, Any]) -> None:
    """Print the cases, and losses and tokens beside each other."""
    for case in found["cases"]:
        print(
            f"{found['work']:<5} {case['reference']:<9} ours {case['ours']} trl {case['theirs']} pairs/s "
            f"ratio {case['ratio']} cpu ratio {case['cpu_ratio']} peak {case['peak_mb']} / {case['their_peak_mb']} MB"
        )
    print("step  loss ours, TRL, TRL with our tokens; answer tokens of the same")
    losses, tokens = found["losses"], found["tokens"]
    columns = [losses["ours"], losses["theirs"], found["equal_losses"], *(tokens[name] for name in tokens)]
    for step in range(len(losses["ours"])):
        cells = [column[step] if column and step < len(column) else None for column in columns]
        print(f"{step + 1:<5}", *("-" if cell is None else f"{cell:.6f}" if cell < 20 else cell for cell in cells))
    if found["behind_stop"]:
        print("TRL also counts, behind the stop token:", json.dumps(found["behind_stop"]))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, "--rows")
    add_model_options(parser, template="chatml", what="the work 135m takes")
    parser.add_argument("--work", type=words_of(*WORKS), default="135m", help="demo, 135m, or both")
    parser.add_argument("--peer", choices=["trl", "none"], default="trl")
    parser.add_argument(
        "--reference", type=words_of(*REFERENCES), default="stored,computed", help="how TRL has its own"
    )
    parser.add_argument("--steps", type=count, default=10, help=f"more than {UNCOUNTED}")
    parser.add_argument("--equal-steps", type=int, default=3, help="steps of TRL on instil's tokens; 0 for none")
    parser.add_argument("--repeats", type=count, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-6, help="default: TRL's")
    parser.add_argument("--micro-batch-tokens", type=count, help="instil's; default: auto")
    parser.add_argument("--threads", type=count, default=os.cpu_count() or 1)
    return parser


def main() -> None:
    """Measure the requested works and print them."""
    parser = build_parser()
    args = parser.parse_args()
    if args.steps <= UNCOUNTED:
        parser.error(f"--steps {args.steps}: expected more than {UNCOUNTED}")
    args.peer = args.peer != "none"
    if args.peer:
        peer_python("trl")  # builds its environment, or ends here with what is missing
    with tempfile.TemporaryDirectory(prefix="instil-preference-") as scratch:
        inputs = inputs_of(args, Path(scratch))
        works = [measure(work, args, inputs=inputs, scratch=Path(scratch)) for work in args.work]
    for found in works:
        show(found)
    print(json.dumps({"works": works, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()

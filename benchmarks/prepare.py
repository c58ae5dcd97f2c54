"""Measure data preparation: conversations per second, from JSONL to stored examples.

    python benchmarks/prepare.py [--rows 2000] [--repeats 3] [--only trl,tokenizers,long,workers,million] [--threads
    2] [--clock cpu]

Cases:

- `trl`, `tokenizers`: beside TRL's dataset preparation, and beside `tokenizers.encode_batch` on the same rendered
  texts. Both sides run in turns, each run in a process of its own.
- `long`: an 80-turn conversation, beside one rendering and tokenization.
- `workers`: two one-thread workers beside one.
- `million`: memory for a million short conversations, and the time to open their store.

Compare ratios, not absolute numbers. `ratio` is ours over theirs, above 1 where instil is faster. In the cases named
`80 turns …` it is the cost of instil over the cost of the bare work. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import peer_python
from prepare_sides import eighty_turns

CASES = ("trl", "tokenizers", "long", "workers", "million")
CORPUS = Path(os.environ.get("INSTIL_CORPUS", Path(__file__).resolve().parents[2] / "shared" / "corpus"))


def run_side(side: str, data: Path, args: argparse.Namespace, *, threads: int, workers: int = 1) -> dict[str, Any]:
    """Run one side in a process of its own, under the Python of its environment."""
    python = sys.executable
    if side == "trl":
        python = str(peer_python("trl"))
    command = [python, str(Path(__file__).with_name("prepare_sides.py")), side, str(data), args.tokenizer, str(workers)]
    threaded = {name: str(threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {
        **os.environ,
        **threaded,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "TQDM_DISABLE": "1",
        "INSTIL_CLOCK": args.clock,
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def against(peer: str, data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run instil and a peer in turns; return the case with their medians."""
    ours, theirs = [], []
    for turn in range(args.repeats):
        ours.append(run_side("instil", data, args, threads=args.threads))
        theirs.append(run_side(peer, data, args, threads=args.threads))
        print(f"{peer} {turn + 1}: ours {ours[-1]['rate']:,.0f}/s, theirs {theirs[-1]['rate']:,.0f}/s", file=sys.stderr)
    if ours[0]["tokens"] != theirs[0]["tokens"]:
        print(f"{peer}: {theirs[0]['tokens']:,} tokens, ours {ours[0]['tokens']:,}", file=sys.stderr)
    mine, other = (statistics.median(run["rate"] for run in runs) for runs in (ours, theirs))
    peaks = (max(run["peak_mb"] for run in runs) for runs in (ours, theirs))
    return case(f"{args.rows} conversations", peer, mine, other, mine / other, *peaks)


def case(
    work: str,
    peer: str | None,
    ours: float,
    theirs: float | None,
    ratio: float | None,
    peak: float | None = None,
    their_peak: float | None = None,
) -> dict[str, Any]:
    return {
        "work": work,
        "precision": None,
        "peer": peer,
        "ours": round(ours, 6),
        "theirs": None if theirs is None else round(theirs, 6),
        "ratio": None if ratio is None else round(ratio, 3),
        "peak_mb": peak,
        "their_peak_mb": their_peak,
        "share_of_matmul": None,
    }


def long_cases(data: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    runs = [run_side("long", data, args, threads=1) for _ in range(args.repeats)]
    cases = []
    for name in ("stable", "rewriting"):
        theirs = min(run[name]["theirs"] for run in runs)
        bare = "render + tokenize once" if name == "stable" else "tokenize the rendered text"
        for how in ("one", "many"):
            ours = min(run[name][how] for run in runs)
            cases.append(case(f"80 turns, {name} history, {how} at a time (s)", bare, ours, theirs, ours / theirs))
    return cases


def worker_case(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Compare two workers with one.

    If the file has too few rows, they are repeated with other numbers, so that no row is a copy.
    """
    rows = [json.dumps(row, ensure_ascii=False) for row in source_rows(args, args.worker_rows)]
    texts = (with_other_numbers(rows[n % len(rows)], 7 * (n // len(rows))) for n in range(args.worker_rows))
    many = write_rows(folder / "many.jsonl", map(json.loads, texts))
    runs = [
        [run_side("instil", many, args, threads=1, workers=n)["steady"] for n in (1, 2)] for _ in range(args.repeats)
    ]
    one, two = (statistics.median(run[n] for run in runs) for n in (0, 1))
    return case(f"{args.worker_rows} conversations, 2 workers", "1 worker", two, one, two / one)


def million_cases(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = (
        {"messages": [{"role": "user", "content": f"What is {n} + 1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
        for n in range(args.million_rows)
    )
    figures = run_side("instil", write_rows(folder / "million.jsonl", rows), args, threads=args.threads)
    return [
        case(f"{args.million_rows} short conversations", None, figures["rate"], None, None, figures["peak_mb"]),
        case(f"open the store of {args.million_rows} (s)", None, figures["opened"], None, None),
    ]


def with_other_numbers(text: str, add: int) -> str:
    """Add a value to each whole number in a text."""
    return re.sub(r"\d+", lambda number: str(int(number[0]) + add), text)


def write_rows(path: Path, rows: Any) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def source_rows(args: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    """Return up to `count` conversations as prompt and completion, which both sides read.

    They come from GSM8K; without that file they are made up.
    """
    path = Path(args.source) if args.source else CORPUS / "datasets" / "gsm8k_train.jsonl"
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()[:count]
        pairs = [(row["question"], row["answer"]) for row in map(json.loads, lines)]
    else:
        pairs = [(turns[0]["content"] * 3, turns[1]["content"] * 5) for turns in map(eighty_turns, range(count))]
    return [
        {"prompt": [{"role": "user", "content": question}], "completion": [{"role": "assistant", "content": answer}]}
        for question, answer in pairs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="cpu: CPU seconds of the process, for a machine with other work",
    )
    parser.add_argument("--only", default="trl,tokenizers,long,workers")
    parser.add_argument("--source", help="JSONL file with question and answer")
    parser.add_argument("--worker-rows", type=int, default=40_000)
    parser.add_argument("--million-rows", type=int, default=1_000_000)
    own = CORPUS / "tokenizers" / "smollm2-instruct"
    parser.add_argument("--tokenizer", default=str(own) if own.exists() else "demo")
    args = parser.parse_args()
    names = args.only.split(",")
    unknown = set(names) - set(CASES)
    if unknown:
        parser.error(f"--only {unknown.pop()}: expected {', '.join(CASES)}")
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = write_rows(folder / "rows.jsonl", source_rows(args, args.rows))
        cases += [against(peer, data, args) for peer in ("trl", "tokenizers") if peer in names]
        cases += long_cases(data, args) if "long" in names else []
        cases += [worker_case(folder, args)] if "workers" in names else []
        cases += million_cases(folder, args) if "million" in names else []
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()

"""Measure data preparation: conversations per second, from JSONL to stored examples.

    python benchmarks/prepare.py [--rows 2000] [--repeats 3] [--only trl,tokenizers,long,workers,million]
                                 [--threads 2] [--clock cpu] [--data FILE] [--model MODEL] [--template chatml]

Cases:

- `trl`, `tokenizers`: beside TRL's dataset preparation, and beside `tokenizers.encode_batch` on the same rendered
  texts. Both sides run in turns, each run in a process of its own.
- `long`: an 80-turn conversation, beside one rendering and tokenization.
- `workers`: two one-thread workers beside one.
- `million`: memory for a million short conversations, and the time to open their store.

Compare ratios, not absolute numbers. `ratio` is ours over theirs, above 1 where instil is faster. In the cases named
`80 turns …` it is the cost of instil over the cost of the bare work. Rows are the first question and answer of each
conversation. TRL runs in an environment of its own (peers.py). The last line of the output is one JSON object.
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

from options import Inputs, add_data_option, add_model_options, as_rows, count, inputs_of, words_of
from peers import peer_python

CASES = ("trl", "tokenizers", "long", "workers", "million")


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
    return case(f"{ours[0]['rows']} conversations", peer, mine, other, mine / other, *peaks)


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


def worker_case(folder: Path, inputs: Inputs, args: argparse.Namespace) -> dict[str, Any]:
    """Compare two workers with one.

    If the data has too few rows, they are repeated with other numbers, so that no row is a copy.
    """
    pairs = inputs.pairs(args.worker_rows)
    repeated = (
        tuple(with_other_numbers(text, 7 * (n // len(pairs))) for text in pairs[n % len(pairs)])
        for n in range(args.worker_rows)
    )
    many = write_rows(folder / "many.jsonl", as_rows(repeated))
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
    """Add a value to each whole number in a text; append it to a text without one."""
    if not add or re.search(r"\d", text):
        return re.sub(r"\d+", lambda number: str(int(number[0]) + add), text)
    return f"{text} ({add})"


def write_rows(path: Path, rows: Any) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=count, default=2000, help="number of rows of `trl` and `tokenizers`")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--threads", type=count, default=os.cpu_count() or 1)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="cpu: CPU seconds of the process, for a machine with other work",
    )
    parser.add_argument("--only", type=words_of(*CASES), default="trl,tokenizers,long,workers", help=", ".join(CASES))
    add_data_option(parser, "--source")
    add_model_options(parser, template=None, what="encodes the rows")
    parser.add_argument("--worker-rows", type=count, default=40_000, help="number of rows of `workers`")
    parser.add_argument("--million-rows", type=count, default=1_000_000, help="number of rows of `million`")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if "trl" in args.only:
        peer_python("trl")  # builds its environment, or ends here with what is missing
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = inputs_of(args, folder)
        args.tokenizer = str(inputs.write_tokenizer(folder / "tokenizer"))
        data = write_rows(folder / "rows.jsonl", as_rows(inputs.pairs(args.rows)))
        cases += [against(peer, data, args) for peer in ("trl", "tokenizers") if peer in args.only]
        cases += long_cases(data, args) if "long" in args.only else []
        cases += [worker_case(folder, inputs, args)] if "workers" in args.only else []
        cases += million_cases(folder, args) if "million" in args.only else []
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()

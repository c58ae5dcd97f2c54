"""Measure a training step: tokens per second and peak memory, beside other tools on the same rows in the same order.

    python benchmarks/train_step.py [--work demo,135m] [--precision fp32,bf16] [--peer trl,llamafactory] [--steps 12]
                                    [--repeats 3] [--data FILE] [--model MODEL] [--template chatml]

`demo` is the embedded base model, `135m` a random model in the shape of SmolLM2-135M. All sides load the same folder
(the base model with chat tokens and template). They train on the same answers, batch 8, in the order of the data: the
first question and answer of each conversation. The peers keep their defaults except precision, batch and order, and
run in environments of their own (peers.py). `--peer none` measures instil alone and needs none of them.

Sides run in turns, each run in a process of its own. The first two steps are not counted. The result is the median over
the turns. Rates are real tokens per second, without padding. The ratio compares the time for the same rows: a row of a
peer may have one token more, the line break that ChatML prints after the last stop token.

`share_of_matmul` is the model's arithmetic over the rate that this machine reaches for products of 2048 x 2048
matrices of the same type, measured between the turns. The arithmetic is forward and backward: 6 x weights of the
blocks x tokens, 6 x head x trained tokens, and causal attention. `overhead` is the share of a step outside forward,
backward and update. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, as_rows, count, inputs_of, words_of
from peers import peer_python
from train_step_sides import UNCOUNTED

BATCH = 8
WORKS = ("demo", "135m")


def write_start(work: str, folder: Path, inputs: Inputs) -> Path:
    """Write the folder that all sides start from: weights, chat tokens, template."""
    import torch

    from instil.model.folder.location import locate
    from instil.model.folder.saving import save_model_folder
    from instil.model.loading import load_model
    from instil.model.new_tokens import fit_embeddings
    from instil.preparation.chat_setup import set_up_chat
    from instil.recipe import Recipe

    name = "demo"
    if work == "135m":
        from shapes import write_shape

        write_shape("smollm2-135m", folder / "base", tokenizer=inputs.tokenizer)
        name = str(folder / "base")
    recipe = Recipe.from_mapping({"model": {"name": name, "template": inputs.template}})
    location = locate(name)
    setup = set_up_chat(recipe, location)
    model = load_model(recipe.model, precision="fp32", location=location)
    fit_embeddings(model, setup.chat.tokenizer, setup.change, stop_ids=setup.chat.stop_ids)
    return save_model_folder(model.to(torch.float32), setup.chat, folder / "start")


def write_rows(inputs: Inputs, out: Path, num_rows: int) -> Path:
    """Write the first questions and answers as prompt and completion, which all sides read."""
    rows = as_rows(inputs.pairs(num_rows, at_least=num_rows))
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return out


def run_side(
    side: str, model: Path, rows: Path, out: Path, *, precision: str, steps: int, threads: int
) -> dict[str, Any]:
    """Run one side in a process of its own, under the Python of its environment."""
    python = sys.executable if side == "instil" else str(peer_python(side))
    script = Path(__file__).with_name("train_step_sides.py")
    words = [python, str(script), side, str(model), str(rows), str(out), precision, str(BATCH), str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    if side != "instil":
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["rate"] = sum(figures["tokens"][UNCOUNTED:]) / sum(figures["seconds"][UNCOUNTED:])
    figures["step_seconds"] = statistics.mean(figures["seconds"][UNCOUNTED:])
    return figures


def arithmetic_of_token(model: Path, rows: Path) -> float:
    """Return the floating-point operations of the model per token of these rows, forward and backward."""
    from safetensors import safe_open

    from instil import ChatTokenizer

    inside = head = 0
    with safe_open(str(model / "model.safetensors"), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            shape = file.get_slice(name).get_shape()
            if "embed" in name or "lm_head" in name:
                head = max(head, shape[0] * shape[1])
            elif len(shape) == 2:
                inside += shape[0] * shape[1]
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width = config["num_attention_heads"] * (
        config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    )
    # Blocks cost per token, the head per trained token, attention per square of an example's length.
    chat = ChatTokenizer.from_pretrained(str(model))
    tokens = trained = squares = 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for example in chat.encode(row["prompt"] + row["completion"]):
            length = len(example.token_ids)
            tokens, squares = tokens + length, squares + length**2
            trained += sum(1 for weight in example.weights if weight)
    attention = 6 * config["num_hidden_layers"] * width * squares
    return (6 * inside * tokens + 6 * head * trained + attention) / tokens


def matrix_rate(precision: str, threads: int) -> float:
    """Measure the rate of matrix products on this machine, in FLOP/s, in a process of its own."""
    program = (
        "import torch; from instil.training.duration import matmul_rate; "
        f"torch.set_num_threads({threads}); dtype = torch.{'float32' if precision == 'fp32' else 'bfloat16'}; "
        "print(matmul_rate(dtype, torch.device('cpu'), size=2048, seconds=3.0))"
    )
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def measure(
    work: str, precision: str, args: argparse.Namespace, *, inputs: Inputs, scratch: Path
) -> list[dict[str, Any]]:
    """Measure one model in one precision, all sides in turns; return a case for each peer."""
    folder = scratch / work
    start = folder / "start"
    if not start.exists():
        folder.mkdir(parents=True)
        write_start(work, folder, inputs)
    rows = write_rows(inputs, folder / "rows.jsonl", BATCH * args.steps)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in ("instil", *args.peer)}
    rates: list[float] = []
    # All sides in each turn, and the matrix rate too, so that a busy moment of the machine meets all of them.
    for turn in range(args.repeats):
        for side, figures in runs.items():
            out = folder / f"{side}-{precision}-{turn}"
            figures.append(
                run_side(side, start, rows, out, precision=precision, steps=args.steps, threads=args.threads)
            )
            print(f"{work} {precision} {turn + 1}: {side} {figures[-1]['rate']:,.1f} tokens/s", file=sys.stderr)
        rates.append(matrix_rate(precision, args.threads))
    share = statistics.median(run["rate"] for run in runs["instil"]) * arithmetic_of_token(start, rows)
    ours = {
        "work": work,
        "precision": precision,
        "ours": round(statistics.median(run["rate"] for run in runs["instil"]), 1),
        "peak_mb": max(run["peak_mb"] for run in runs["instil"]),
        "share_of_matmul": round(share / statistics.median(rates), 3),
        "matmul_gflops": round(statistics.median(rates) / 1e9, 1),
        "overhead": runs["instil"][-1]["overhead"],
        "versions": runs["instil"][-1]["versions"],
    }
    seconds = statistics.median(run["step_seconds"] for run in runs["instil"])
    return [{**ours, **against(peer, runs.get(peer, []), seconds)} for peer in args.peer or [None]]


def against(peer: str | None, runs: list[dict[str, Any]], our_seconds: float) -> dict[str, Any]:
    """Return the figures of a peer and the ratio; all None without a peer."""
    if peer is None:
        return dict.fromkeys(("peer", "theirs", "ratio", "their_peak_mb", "their_versions"))
    theirs = statistics.median(run["rate"] for run in runs)
    return {
        "peer": f"{peer} {runs[0]['versions'][peer]}",
        "theirs": round(theirs, 1),
        "ratio": round(statistics.median(run["step_seconds"] for run in runs) / our_seconds, 2),
        "their_peak_mb": max(run["peak_mb"] for run in runs),
        "their_versions": runs[0]["versions"],
    }


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, "--rows")
    add_model_options(parser, template="chatml", what="the work 135m takes")
    parser.add_argument("--work", type=words_of(*WORKS), default="demo,135m", help="demo, 135m, or both")
    parser.add_argument("--precision", type=words_of("fp32", "bf16"), default="fp32,bf16")
    parser.add_argument(
        "--peer", type=words_of("trl", "llamafactory", "none"), default="trl,llamafactory", help="one, both, or none"
    )
    parser.add_argument("--steps", type=count, default=12, help=f"more than {UNCOUNTED}")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--threads", type=count, default=os.cpu_count() or 1)
    return parser


def main() -> None:
    """Measure the requested cases and print them."""
    parser = build_parser()
    args = parser.parse_args()
    # No peer at all (`--peer none`) is allowed: then instil runs alone.
    args.peer = [peer for peer in args.peer if peer != "none"]
    if args.steps <= UNCOUNTED:
        parser.error(f"--steps {args.steps}: expected more than {UNCOUNTED}")
    if "llamafactory" in args.peer and args.template != "chatml":
        parser.error(
            f"--template {args.template}: LLaMA-Factory trains with ChatML here; add --peer trl or --peer none"
        )
    for peer in args.peer:
        peer_python(peer)  # builds its environment, or ends here with what is missing
    with tempfile.TemporaryDirectory(prefix="instil-train-step-") as scratch:
        inputs = inputs_of(args, Path(scratch))
        cases = [
            case
            for work in args.work
            for precision in args.precision
            for case in measure(work, precision, args, inputs=inputs, scratch=Path(scratch))
        ]
    for case in cases:
        print(
            f"{case['work']:<6} {case['precision']:<5} "
            f"ours {case['ours']} {case['peer'] or 'no peer'} {case['theirs']} "
            f"ratio {case['ratio']} peak {case['peak_mb']} / {case['their_peak_mb']} MB "
            f"share of matmul {case['share_of_matmul']}"
        )
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()

"""How fast a training step is: tokens a second and peak memory, against TRL's SFTTrainer on the same rows.

    python benchmarks/train_step.py [--rows gsm8k_train.jsonl] [--work demo,135m] [--precision fp32,bf16] [--repeats 3] [--no-peer]

`demo` is the embedded base model, `135m` a random model in the shape of SmolLM2-135M. Both sides load the same folder (the base
with chat tokens and ChatML) and train on answers only, the same questions and answers, batch 8. TRL keeps its defaults but for the
precision. Sides run in turns, each run a process of its own; the first two steps are not counted. `share_of_matmul` is the model's own arithmetic
(6 x parameters inside the blocks x tokens, the head on trained tokens only) over the measured matrix-multiply rate of this machine
in the same type. The last line is one JSON object.
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

from peers import peer_python

CORPUS = Path(os.environ.get("INSTIL_CORPUS", Path(__file__).resolve().parents[2] / "shared" / "corpus"))
BATCH = 8


def write_start(work: str, folder: Path, tokenizer: Path) -> Path:
    """Write the folder that both sides start from: weights, chat tokens, ChatML."""
    import torch

    from instil.model.loading import load_model
    from instil.model.location import locate
    from instil.model.new_tokens import fit_embeddings
    from instil.model.saving import save_model_folder
    from instil.recipe import Recipe
    from instil.training.chat_setup import set_up_chat

    name = "demo"
    if work == "135m":
        from shapes import write_shape

        write_shape("smollm2-135m", folder / "base", tokenizer=tokenizer)
        name = str(folder / "base")
    recipe = Recipe.from_mapping({"model": {"name": name, "template": "chatml"}})
    location = locate(name)
    setup = set_up_chat(recipe, location)
    model = load_model(recipe.model, precision="fp32", location=location)
    fit_embeddings(model, setup.chat.tokenizer, setup.change, stop_ids=setup.chat.stop_ids)
    return save_model_folder(model.to(torch.float32), setup.chat, folder / "start")


def write_rows(source: Path, out: Path, count: int) -> Path:
    """Write the first rows of a question/answer file as prompt and completion, which both sides read."""
    with source.open(encoding="utf-8") as lines, out.open("w", encoding="utf-8") as file:
        for _, line in zip(range(count), lines, strict=False):
            row = json.loads(line)
            prompt = [{"role": "user", "content": row["question"]}]
            completion = [{"role": "assistant", "content": row["answer"]}]
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
    return out


def run_side(
    side: str, model: Path, rows: Path, out: Path, *, precision: str, steps: int, threads: int
) -> dict[str, Any]:
    """Run one side in a process of its own, under the Python of its environment."""
    python = str(peer_python("trl")) if side == "trl" else sys.executable
    script = Path(__file__).with_name("train_step_sides.py")
    words = [python, str(script), side, str(model), str(rows), str(out), precision, str(BATCH), str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def flops_of_token(model: Path) -> tuple[float, float]:
    """Give the arithmetic of a token inside the blocks, and of a trained token in the head, forward and backward."""
    from safetensors import safe_open

    inside = head = 0
    with safe_open(str(model / "model.safetensors"), framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            shape = file.get_slice(name).get_shape()
            if len(shape) == 2:
                size = shape[0] * shape[1]
                inside, head = (
                    (inside, max(head, size)) if "embed" in name or "lm_head" in name else (inside + size, head)
                )
    return 6.0 * inside, 6.0 * head


def share_of_matmul(model: Path, rows: Path, rate: float, precision: str) -> float:
    """Give the share of the measured matrix rate that `rate` tokens a second are, in the model's own arithmetic."""
    import torch

    from instil import ChatTokenizer
    from instil.training.planning import matmul_rate

    chat = ChatTokenizer.from_pretrained(str(model))
    tokens = trained = 0
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for example in chat.encode(row["prompt"] + row["completion"]):
            tokens, trained = tokens + len(example.token_ids), trained + sum(1 for w in example.weights if w)
    inside, head = flops_of_token(model)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    return rate * (inside + head * trained / tokens) / matmul_rate(dtype, torch.device("cpu"), size=2048, seconds=3.0)


def measure(work: str, precision: str, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure one case: both sides in turns."""
    folder = scratch / work
    start = folder / "start"
    if not start.exists():
        folder.mkdir(parents=True)
        write_start(work, folder, args.tokenizer)
    rows = write_rows(args.rows, folder / "rows.jsonl", BATCH * args.steps)
    sides: dict[str, list[dict[str, Any]]] = {"instil": [], "trl": []}
    for turn in range(args.repeats):
        for side in ("instil", "trl") if args.peer else ("instil",):
            out = folder / f"{side}-{precision}-{turn}"
            sides[side].append(
                run_side(side, start, rows, out, precision=precision, steps=args.steps, threads=args.threads)
            )
            print(f"{work} {precision} {turn + 1}: {side} {sides[side][-1]['rate']:,.1f} tokens/s", file=sys.stderr)
    ours = statistics.median(run["rate"] for run in sides["instil"])
    theirs = statistics.median(run["rate"] for run in sides["trl"]) if args.peer else None
    return {
        "work": work,
        "precision": precision,
        "peer": "trl 1.16.0" if args.peer else None,
        "ours": round(ours, 1),
        "theirs": None if theirs is None else round(theirs, 1),
        "ratio": None if theirs is None else round(ours / theirs, 2),
        "peak_mb": max(run["peak_mb"] for run in sides["instil"]),
        "their_peak_mb": max((run["peak_mb"] for run in sides["trl"]), default=None),
        "share_of_matmul": round(share_of_matmul(start, rows, ours, precision), 3),
    }


def main() -> None:
    """Measure the cases asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=CORPUS / "datasets" / "gsm8k_train.jsonl")
    parser.add_argument("--tokenizer", type=Path, default=CORPUS / "tokenizers" / "smollm2-instruct")
    parser.add_argument("--work", default="demo,135m")
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="instil-train-step-") as scratch:
        cases = [
            measure(work, precision, args, Path(scratch))
            for work in args.work.split(",")
            for precision in args.precision.split(",")
        ]
    for case in cases:
        print(
            f"{case['work']:<6} {case['precision']:<5} ours {case['ours']} theirs {case['theirs']} ratio {case['ratio']}"
        )
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()

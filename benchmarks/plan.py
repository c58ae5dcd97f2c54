"""Compare the memory that `instil plan` predicts with what the run then takes.

    python benchmarks/plan.py [--work demo,135m] [--adapter none,lora] [--precision fp32,bf16] [--steps 6] [--batch 8]
                              [--data FILE] [--model MODEL] [--template chatml]

A case plans a run over the rows and then trains it, each in a process of its own. The measured value is the peak
resident size (with a GPU: the peak of its allocator) above the size just before the model was loaded. `demo` is the
embedded base model, `135m` a random model in the shape of SmolLM2-135M. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, count, inputs_of, words_of


def recipe_of(case: dict[str, Any]) -> Any:
    """Return the recipe of a case."""
    from instil.recipe import Recipe

    return Recipe.from_mapping(
        {
            "output": case["output"],
            "model": {"name": case["model"], "template": case["template"]},
            "adapter": {"kind": case["adapter"]},
            "data": {"sources": case["sources"], "heldout_max": 16, "store": f"{case['output']}-store"},
            "training": {
                "max_steps": case["steps"],
                "batch_size": case["batch"],
                "precision": case["precision"],
                "micro_batch_tokens": case["micro_batch_tokens"] or "auto",
            },
            "evaluate": {"max_new_tokens": 64},
        }
    )


def plan(case: dict[str, Any]) -> dict[str, Any]:
    """Estimate the memory as `instil plan` does."""
    from instil.model.loading import choose_device
    from instil.training.memory.usage import free_memory
    from instil.training.preflight import run_preflight
    from instil.training.processes.ranks import Ranks
    from instil.training.replicate_or_shard import choose_mode

    recipe = recipe_of(case)
    device = choose_device(recipe.device)
    preflight = run_preflight(recipe, Ranks(0, 1, device), say=lambda line: None)
    fit = choose_mode(preflight, preflight.sizes(), device=device, free=free_memory(device), num_ranks=1).fit
    return {"planned_mb": fit.memory.peak / 2**20, "kinds": fit.memory.lines()}


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the memory taken."""
    from instil import train

    results = train(recipe_of(case), quiet=True).results
    return {"measured_mb": results["peak_rss_mb"] - results["rss_before_model_mb"]}


def in_a_process(half: str, case: dict[str, Any]) -> dict[str, Any]:
    """Run one half of a case (`plan` or `run`) in a process of its own."""
    words = [sys.executable, __file__, "--only", half, "--case", json.dumps(case)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{half} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measure(
    work: str, adapter: str, precision: str, args: argparse.Namespace, *, inputs: Inputs, scratch: Path
) -> dict[str, Any]:
    """Plan and run one case."""
    model = "demo"
    if work != "demo":
        from shapes import write_shape

        folder = scratch / work
        if not folder.exists():
            write_shape("smollm2-135m", folder, tokenizer=inputs.tokenizer)
        model = str(folder)
    case = {
        "output": str(scratch / f"{work}-{adapter}-{precision}"),
        "model": model,
        "adapter": adapter,
        "precision": precision,
        "sources": inputs.sources,
        "template": inputs.template,
        "steps": args.steps,
        "batch": args.batch,
        "micro_batch_tokens": args.micro_batch_tokens,
    }
    planned, taken = in_a_process("plan", case), in_a_process("run", case)
    off = planned["planned_mb"] / taken["measured_mb"] - 1
    result = {"work": work, "adapter": adapter, "precision": precision, **planned, **taken, "off": round(off, 3)}
    print(
        f"{work:<5} {adapter:<5} {precision:<5} planned {planned['planned_mb']:,.0f} MB, "
        f"measured {taken['measured_mb']:,.0f} MB: {off:+.1%}",
        file=sys.stderr,
    )
    return result


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser, "--rows")
    add_model_options(parser, template="chatml", what="the work 135m takes")
    parser.add_argument("--work", type=words_of("demo", "135m"), default="demo,135m")
    parser.add_argument("--adapter", type=words_of("none", "lora"), default="none,lora")
    parser.add_argument("--precision", type=words_of("fp32", "bf16"), default="fp32,bf16")
    parser.add_argument("--steps", type=count, default=6)
    parser.add_argument("--batch", type=count, default=8)
    parser.add_argument("--micro-batch-tokens", type=count)
    parser.add_argument("--only", choices=["plan", "run"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure the requested cases and print them."""
    args = build_parser().parse_args()
    if args.only:
        print(json.dumps({"plan": plan, "run": run}[args.only](json.loads(args.case))))
        return
    with tempfile.TemporaryDirectory(prefix="instil-plan-") as scratch:
        inputs = inputs_of(args, Path(scratch))
        cases = [
            measure(work, adapter, precision, args, inputs=inputs, scratch=Path(scratch))
            for work in args.work
            for adapter in args.adapter
            for precision in args.precision
        ]
    print(json.dumps({"cases": cases, "inputs": inputs.record()}))


if __name__ == "__main__":
    main()

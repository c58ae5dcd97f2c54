"""Measure the peak memory of each process that loads, trains and writes a model in shards.

    python benchmarks/shards.py [--ranks 1,2,4] [--precision fp32] [--adapter none] [--whole] [--small]
                                [--shape smollm2-135m] [--steps 2] [--data FILE] [--model MODEL] [--template chatml]

A random model in the shape of SmolLM2-135M, stored in fp32, is trained by processes on this machine (gloo). Each phase
is measured by itself: the kernel's high-water mark of a process's resident memory (VmHWM) is reset before it. With
`--whole` each process loads the whole model and keeps its part, as for models that cannot be read by rows.

The constant is the resident memory of a process just before it loads the model: torch, transformers and all else is
imported, the processes are joined, the data is prepared. The bound on loading and writing is weights / ranks x 1.3 +
constant, where weights are the bytes of the model's parameters as a run keeps them. In training a process also holds
gradients and two states of AdamW for what trains. Their bytes are added for the bound on training; activations are not.

Comparing is the peak from the start of writing to the end of a run: the losses of the trained and the written model have
the logits of a whole example. A model that is loaded whole is written and compared in one. With `--small` the embedded
model of the demo is measured in place of the shape: what its phases take is code, buffers and logits. A table is printed;
the last line of the output is one JSON object. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from options import Inputs, add_data_option, add_model_options, as_rows, count, counts, inputs_of

MB = 2**20
PHASES = ("loading", "training", "writing", "comparing")


def reset_peak() -> None:
    """Reset the kernel's high-water mark of this process's resident memory to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_of(key: str) -> float:
    """Return a line of this process's status, such as VmHWM or VmRSS, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def side(recipe: dict[str, Any], out: Path, *, whole: bool) -> None:
    """Be one of the processes: train, and write the peak of each phase."""
    import torch.distributed.fsdp  # noqa: F401 - imported by every sharded run
    from peft import LoraConfig  # noqa: F401

    from instil.recipe import Recipe
    from instil.training import run, setup
    from instil.training.shards import saving

    found: dict[str, float] = {}

    @contextmanager
    def measuring(phase: str) -> Iterator[None]:
        if phase == "loading":
            found["constant"] = memory_of("VmRSS")
        reset_peak()
        yield
        found[phase] = memory_of("VmHWM")

    def measured(phase: str, name: str, place: Any = run) -> None:
        own = getattr(place, name)

        def call(*args: Any, **settings: Any) -> Any:
            with measuring(phase):
                return own(*args, **settings)

        def steps(*args: Any, **settings: Any) -> Any:
            with measuring(phase):
                return (yield from own(*args, **settings))

        setattr(place, name, steps if name == "run_steps" else call)

    measured("loading", "assemble")
    measured("training", "run_steps")
    measured("writing", "write_model", saving)
    measured("comparing", "save_shards")
    measured("comparing", "save_trained")
    if whole:
        setup.why_whole = lambda preflight: "it is measured so"  # type: ignore[attr-defined]
    run.train(Recipe.from_mapping(recipe), quiet=True)
    out.with_suffix(f".{os.environ['RANK']}").write_text(json.dumps(found))


def measure(recipe: dict[str, Any], out: Path, ranks: int, *, whole: bool) -> list[dict[str, float]]:
    """Run the processes, and return what each has measured."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    script = [sys.executable, __file__, "--side", json.dumps(recipe), str(out), *(["--whole"] if whole else [])]
    running = [
        subprocess.Popen(script, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"{ranks} processes: ended with {codes}")
    return [json.loads(out.with_suffix(f".{rank}").read_text()) for rank in range(ranks)]


def bounds(sizes: dict[str, float], ranks: int, constant: float) -> dict[str, float]:
    """Return the bound on each phase, in MB."""
    weights = sizes["weights"] / ranks * 1.3 + constant
    return {
        "loading": weights,
        "writing": weights,
        "comparing": weights,
        "training": sizes["with_states"] / ranks * 1.3 + constant,
    }


def sizes_of(folder: Path, *, precision: str, adapter: str) -> dict[str, float]:
    """Return the MB of a model's parameters as a sharded run keeps them, and with gradients and optimizer states."""
    from instil.model.folder.memory_check import count_weights

    numbers = count_weights(folder)[0]
    frozen = adapter != "none"
    weights = numbers * (2 if frozen and precision == "bf16" else 4) / MB
    return {"weights": weights, "with_states": weights if frozen else 4 * weights}


def recipe_of(base: Path, rows: Path, work: Path, arguments: argparse.Namespace, inputs: Inputs) -> dict[str, Any]:
    """Return the recipe of the measured runs, without processes and output."""
    return {
        "model": {"name": str(base), "template": inputs.template},
        "data": {"sources": [str(rows)], "store": str(work / "store"), "max_tokens": 128, "too_long": "drop"},
        "adapter": {"kind": arguments.adapter},
        "training": {
            "max_steps": arguments.steps,
            "batch_size": 8,
            "precision": arguments.precision,
            "micro_batch_tokens": 128,
            "gradient_checkpointing": "on",
        },
        "evaluate": {"at_start": False, "max_new_tokens": 1},
        "device": "cpu",
    }


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=counts, default=[1, 2, 4])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--adapter", default="none", choices=["none", "lora"])
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--steps", type=count, default=2)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--small", action="store_true", help="measure the demo's model")
    add_data_option(parser)
    add_model_options(parser, template="chatml", what="the model takes")
    return parser


def main() -> None:
    """Measure every number of processes, and print the table and the JSON."""
    arguments = build_parser().parse_args()
    from shapes import write_shape

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        inputs = inputs_of(arguments, work)
        base = work / "base"
        if arguments.small:
            from instil.model.folder.location import locate

            base = locate("demo").folder
        else:
            write_shape(arguments.shape, base, tokenizer=inputs.tokenizer)
        rows = work / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in as_rows(inputs.pairs(200, at_least=8))))
        recipe = recipe_of(base, rows, work, arguments, inputs)
        sizes = sizes_of(base, precision=arguments.precision, adapter=arguments.adapter)
        for ranks in arguments.ranks:
            mode = {"mode": "sharded" if ranks > 1 else "auto"}
            one = {**recipe, "parallel": mode, "output": str(work / f"run-{ranks}")}
            found = measure(one, work / f"peaks-{ranks}", ranks, whole=arguments.whole)
            constant = max(each["constant"] for each in found)
            bound = bounds(sizes, ranks, constant)
            print(f"{ranks} processes; constant {constant:.0f} MB; weights {sizes['weights']:.0f} MB")
            for phase in PHASES:
                peaks = [each[phase] for each in found if phase in each]
                text = ", ".join(f"{peak:.0f}" for peak in peaks)
                print(f"  {phase:<9} {text:<28} MB; bound {bound[phase]:.0f} MB", flush=True)
            results[str(ranks)] = {"peaks": found, "bound": bound}
    print(json.dumps({"inputs": inputs.record(), "sizes": sizes, "ranks": results}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(json.loads(sys.argv[2]), Path(sys.argv[3]), whole="--whole" in sys.argv)
    else:
        main()

"""Measure training on one NVIDIA GPU: instil beside TRL, on the same rows of random ids, cell by cell.

    python benchmarks/gpu.py --out gpu.jsonl                    every cell that gpu.jsonl lacks, within --minutes
    python benchmarks/gpu.py --out gpu.jsonl --sides ours       without TRL
    python benchmarks/gpu.py --out gpu.jsonl --trl-site DIR     TRL from a folder of unpacked wheels (no network)
    python benchmarks/gpu.py --smoke [--trl-python PYTHON]      tiny shapes on the CPU, as a trial

A cell is a model shape and `full` or `lora`. Weights and ids are random, so it takes no data and no tokenizer. Rows have the lengths of
chats: log-normal, median 400 tokens, at most 4,096; 40% of a row is trained. A step has four micro-batches of 8k
tokens. Each side runs in a process of its own. The first steps are not counted.

`share_of_matmul` is the model's arithmetic over the measured rate of bf16 matrix products. The arithmetic is
6 x parameters x tokens plus attention (4 x for frozen weights, whose own gradient is not computed). Gradient
checkpointing is on where `instil train` would choose it: where the step would not fit.

A call starts a cell only if its longest time still fits into --minutes. Call again until no cell is left. Results are
appended one by one, so an interrupted call loses one cell. A failure is a result too; remove its line to measure it
again. The last line of the output is one JSON object.

TRL runs in an environment of its own (peers.py) unless this one has it. For TRL without a network: `pip download --no-deps trl==1.16.0 -d wheels` (and the packages that the machine lacks),
then unzip the wheels into one folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from options import count
from peers import peer_python
from shapes import SHAPES

SMOKE = ("tiny-llama-3.2-1b:full", "tiny-llama-3.2-1b:lora", "tiny-qwen3-4b:full")
CELLS = ("llama-3.2-1b:full", "llama-3.2-1b:lora", "qwen3-4b:full", "qwen3-4b:lora", "llama-3.1-8b:lora")
MICRO_BATCH_TOKENS = 8192
MICRO_BATCHES = 4
UNCOUNTED = 3
LORA_RANK = 16
TRL_ROWS = (4, 2, 1)
PACKAGES = ("transformers", "peft", "trl", "instil")


def rows_of_step(step: int, vocabulary: int, tokens: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the rows of a step as ids and weights, the same for both sides."""
    random, rows, left = np.random.default_rng(step), [], tokens
    while left > 16:
        length = int(min(4096, left, max(16, random.lognormal(6.0, 0.8))))
        ids = random.integers(10, vocabulary - 10, length).astype(np.int32)
        weights = (np.arange(length) >= 0.6 * length).astype(np.float32)
        rows.append((ids, weights))
        left -= length
    return rows


def matrix_rate(device: str) -> float:
    """Measure the rate of bf16 matrix products on random data, in FLOP/s."""
    import torch

    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(12):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times[2:])


def wait(device: str) -> None:
    """Wait until the device is idle."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def config_of(shape: str) -> Any:
    """Return the transformers config of a shape."""
    from transformers import AutoConfig

    settings = dict(SHAPES[shape])
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def arithmetic(config: Any, num_parameters: int, lengths: list[int], adapter: str) -> float:
    """Count a step's floating-point operations: forward and backward, causal attention halved."""
    factor = 6 if adapter == "full" else 4
    tokens = sum(lengths)
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    attention = sum(12 * config.num_hidden_layers * width * length**2 / 2 for length in lengths)
    # Our head computes trained rows only. Both sides are counted so: this is the arithmetic that the model needs.
    trained_rows = 0.4
    head = config.vocab_size * config.hidden_size
    body = num_parameters - head * (1 if config.tie_word_embeddings else 2)
    return factor * tokens * (body + trained_rows * head) + attention


def run_ours(shape: str, adapter: str, device: str, steps: int) -> dict[str, Any]:
    """Train with instil."""
    import torch
    from transformers import AutoModelForCausalLM

    from instil.conversation import Example
    from instil.model.adapters.lora import prepare_adapters
    from instil.model.attention.flat import describe_attention, register_attention
    from instil.model.gradient_checkpointing import set_gradient_checkpointing
    from instil.model.loss.token_loss import TokenLoss
    from instil.preparation.store import ExampleStore
    from instil.recipe import AdapterSettings, OptimizerSettings
    from instil.training.processes.ranks import Ranks
    from instil.training.step.learner import Cut, Learner
    from instil.training.step.optimizer import build_optimizers
    from instil.training.step.order import Members
    from instil.training.step.precision import Weights, choose_precision
    from instil.training.step.take_step import take_step
    from instil.training.step.tensor_kinds import tensor_kinds

    config, target = config_of(shape), torch.device(device)
    precision = choose_precision("bf16", target)
    torch.manual_seed(0)
    with target:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=register_attention())
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = "none" if adapter == "full" else "lora"
    model = prepare_adapters(model, AdapterSettings(kind=kind, rank=LORA_RANK))
    micro = MICRO_BATCH_TOKENS if device == "cuda" else 512
    recompute = wants_recompute(model, precision, micro, target)
    set_gradient_checkpointing(model, recompute)
    weights, settings = Weights(model, precision), OptimizerSettings()
    optimizers = build_optimizers(
        weights.by_name,
        tensor_kinds(model),
        name="adamw",
        lr=1e-5,
        weight_decay=0.0,
        betas=settings.betas,
        eps=settings.eps,
        momentum=settings.momentum,
    )
    drawn = [rows_of_step(step, config.vocab_size, micro * MICRO_BATCHES) for step in range(steps)]
    store = ExampleStore.from_examples([Example(ids, token_weights) for step in drawn for ids, token_weights in step])
    learner = Learner(TokenLoss(model).train(), weights, optimizers, store, Ranks(0, 1, target))
    seconds, first = [], 0
    for step, rows in enumerate(drawn):
        members = Members(step + 1, 0, tuple(range(first, first + len(rows))))
        first += len(rows)
        wait(device)
        start = time.perf_counter()
        take_step(learner, members, cut=Cut(micro), seed=0, learning_rate=1e-5, clip=1.0)
        wait(device)
        seconds.append(time.perf_counter() - start)
    kernel = describe_attention(device=target, dtype=torch.bfloat16) + ("; recomputing" if recompute else "")
    return figures(config, num_parameters, adapter, drawn, seconds, device, kernel)


def wants_recompute(model: Any, precision: Any, micro: int, device: Any) -> bool:
    """Return whether `gradient_checkpointing: auto` would turn it on."""
    from instil.training.memory.estimate import estimate_memory, measure_sizes
    from instil.training.memory.fit import USABLE
    from instil.training.memory.usage import free_memory

    sizes = measure_sizes(model.train(), precision)
    needed = estimate_memory(sizes, precision, tokens=micro, optimizer="adamw", several=True, device=device.type)
    loaded = sum(value.numel() * value.element_size() for value in model.parameters())
    return needed.peak > (free_memory(device) + loaded) * USABLE


def run_trl(shape: str, adapter: str, device: str, steps: int, device_rows: int) -> dict[str, Any]:
    """Train with TRL's SFTTrainer at its defaults: bf16, tokenized rows, `device_rows` rows in a device batch."""
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    config = config_of(shape)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if adapter == "full" else torch.bfloat16)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    micro = MICRO_BATCH_TOKENS if device == "cuda" else 512
    drawn = [rows_of_step(step, config.vocab_size, micro * MICRO_BATCHES) for step in range(steps)]
    rows = [
        {"input_ids": ids.tolist(), "completion_mask": weights.astype(int).tolist()}
        for step in drawn
        for ids, weights in step
    ]
    per_step = max(1, len(rows) // steps)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="</s>",
    )
    device_rows = max(1, min(device_rows, per_step))
    # TRL versions without this field have no setting for the order of the rows.
    has_order = "train_sampling_strategy" in SFTConfig.__dataclass_fields__
    in_order = {"train_sampling_strategy": "sequential"} if has_order else {}
    accumulation = max(1, per_step // device_rows)
    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(prefix="instil-gpu-trl-"),
        **in_order,
        max_steps=max(1, len(rows) // (device_rows * accumulation)),
        per_device_train_batch_size=device_rows,
        gradient_accumulation_steps=accumulation,
        bf16=True,
        use_cpu=device == "cpu",
        report_to=[],
        save_strategy="no",
        max_length=4096,
        completion_only_loss=True,
        dataset_kwargs={"skip_prepare_dataset": False},
        learning_rate=1e-5,
        logging_strategy="no",
        disable_tqdm=True,
    )
    stamps: list[float] = []

    class Stamp(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait(device)
            stamps.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait(device)
            stamps.append(time.perf_counter())

    lora = None
    if adapter == "lora":
        from peft import LoraConfig

        lora = LoraConfig(r=LORA_RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Stamp()],
        peft_config=lora,
    )
    trainer.train()
    seconds = [end - begin for begin, end in zip(stamps[::2], stamps[1::2], strict=True)]
    size = device_rows * settings.gradient_accumulation_steps
    seen = [ids for step in drawn for ids in step][: size * len(seconds)]
    grouped = [seen[start : start + size] for start in range(0, len(seen), size)]
    return figures(
        config, num_parameters, adapter, grouped, seconds, device, f"TRL's defaults, {device_rows} rows a batch"
    )


def figures(
    config: Any, num_parameters: int, adapter: str, steps: list[Any], seconds: list[float], device: str, kernel: str
) -> dict[str, Any]:
    """Return the figures of the steps after the uncounted ones."""
    import torch

    skipped = min(UNCOUNTED, len(seconds) - 1)
    lengths = [len(ids) for rows in steps[skipped : len(seconds)] for ids, _ in rows]
    total_seconds = sum(seconds[skipped:])
    rate = matrix_rate(device)
    return {
        "tokens_per_second": sum(lengths) / total_seconds,
        "share_of_matmul": arithmetic(config, num_parameters, lengths, adapter) / total_seconds / rate,
        "matmul_tflops": rate / 1e12,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
        "parameters": num_parameters,
        "steps": len(seconds) - skipped,
        "kernel": kernel,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := version_of(name))},
    }


def version_of(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure(side: str, cell: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one side of one cell in a process of its own. A failure is a result, with its last lines.

    A missing package is no result, but the end of the benchmark. If the device is too small for TRL's batch, a new process tries fewer rows. All tries share the time of the cell.
    """
    command = [args.trl_python if side == "trl" and args.trl_python else sys.executable, __file__, "--side", side]
    command += ["--cells", cell, "--device", args.device, "--steps", str(args.steps)]
    environment = dict(os.environ)
    # A Python of its own must not find our packages; unpacked wheels must come before them.
    if side == "trl" and args.trl_python:
        environment.pop("PYTHONPATH", None)
    if side == "trl" and args.trl_site:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (args.trl_site, environment.get("PYTHONPATH"))))
    end, last = time.monotonic() + args.cell_minutes * 60, {"error": "no time was left"}
    for rows in TRL_ROWS if side == "trl" else (0,):
        words = [*command, "--rows", str(rows)]
        left = end - time.monotonic()
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=left, env=environment, check=False)
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than {args.cell_minutes} minutes"}
        if done.returncode == 0:
            return dict(json.loads(done.stdout.strip().splitlines()[-1]))
        last = {"error": done.stderr.strip()[-900:]}
        reason = (done.stderr.strip().splitlines() or [""])[-1]
        if reason.startswith(("ImportError", "ModuleNotFoundError")):
            raise SystemExit(
                f"{side}: {reason}. Expected its packages in {command[0]}. Install them; nothing was measured."
            )
        if "out of memory" not in done.stderr:
            break
    return last


def cell_named(word: str) -> str:
    """Return a cell: the type of an option."""
    shape, _, adapter = word.partition(":")
    if shape not in SHAPES or adapter not in ("full", "lora"):
        raise argparse.ArgumentTypeError(
            f"{word!r} is unknown. Expected a shape and :full or :lora: {', '.join(CELLS)}."
        )
    return word


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gpu.jsonl"),
        help="file of results; its cells are not run again, new ones are appended",
    )
    parser.add_argument("--cells", nargs="*", type=cell_named, default=list(CELLS), help="shape:full or shape:lora")
    parser.add_argument("--sides", nargs="*", default=["ours", "trl"], choices=["ours", "trl"])
    parser.add_argument("--side", choices=["ours", "trl"], help="run one side of one cell in this process")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--steps", type=count, default=12)
    parser.add_argument("--minutes", type=float, default=8.8, help="longest time of the call")
    parser.add_argument("--cell-minutes", type=float, default=4.2, help="longest time of one side of a cell")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--trl-python", help="Python of an environment with TRL, for its side")
    parser.add_argument(
        "--trl-site", help="folder with TRL and its requirements; comes before the other packages for its side"
    )
    parser.add_argument("--rows", type=int, default=TRL_ROWS[0], help="rows in TRL's device batch, with --side trl")
    return parser


def check_machine(args: argparse.Namespace) -> None:
    """Check that there is the device and TRL, before anything is measured.

    Why: a failure is a result that is not measured again, and a machine that lacks something has measured nothing.

    Raises:
        SystemExit: With one line that says what is missing and what to do.
    """
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch finds no NVIDIA GPU here. Expected one. Try it on the CPU with --smoke.")
    here = importlib.util.find_spec("trl") is not None
    if "trl" in args.sides and not (args.trl_python or args.trl_site or here):
        args.trl_python = str(peer_python("trl"))


def main() -> None:
    """Measure the missing cells and print all results."""
    args = build_parser().parse_args()
    if args.smoke:
        args.cells, args.device, args.steps = list(SMOKE), "cpu", 5
    # `measure` starts this script again with --side, for one side of one cell.
    if args.side:
        shape, _, adapter = args.cells[0].partition(":")
        mine = args.side == "ours"
        work = (shape, adapter, args.device, args.steps)
        print(json.dumps(run_ours(*work) if mine else run_trl(*work, args.rows)))
        return
    check_machine(args)
    started = time.perf_counter()
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    results = {(line["cell"], line["side"]): line for line in map(json.loads, lines)}
    for cell in args.cells:
        for side in args.sides:
            left = args.minutes - (time.perf_counter() - started) / 60
            if (cell, side) in results or left < args.cell_minutes:
                continue
            line = {"cell": cell, "side": side, **measure(side, cell, args)}
            print(f"{cell:24s} {side:5s} {line.get('error') or round(line['tokens_per_second'])}", flush=True)
            results[(cell, side)] = line
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print(json.dumps({"cases": [case_of(cell, results) for cell in args.cells]}))


def case_of(cell: str, results: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Return both sides of a cell together; a figure that was not measured is None."""
    ours, theirs = results.get((cell, "ours"), {}), results.get((cell, "trl"), {})
    mine, peer = ours.get("tokens_per_second"), theirs.get("tokens_per_second")
    return {
        "work": cell,
        "precision": "bf16",
        "peer": "trl",
        "ours": mine,
        "theirs": peer,
        "ratio": mine / peer if mine and peer else None,
        "peak_mb": ours.get("peak_mb"),
        "their_peak_mb": theirs.get("peak_mb"),
        "share_of_matmul": ours.get("share_of_matmul"),
    }


if __name__ == "__main__":
    main()

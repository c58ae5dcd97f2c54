"""The two sides of train_step.py, each run as a process of its own under its own Python.

    python train_step_sides.py instil|trl MODEL ROWS OUT PRECISION BATCH STEPS

ROWS has prompt and completion columns of messages. Prints one JSON object: real tokens a second of the steps after the first
two, peak resident memory in MB, tokens.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

UNCOUNTED = 2


def run_instil(
    model: str, rows: str, out: str, precision: str, batch: int, steps: int
) -> tuple[list[float], list[int]]:
    """Train with instil; give seconds and tokens of each step."""
    from instil import Recipe, train

    recipe = Recipe.from_mapping(
        {
            "output": out,
            "model": {"name": model},
            "data": {"sources": [rows], "heldout_share": 0, "max_tokens": 1024, "store": f"{out}-store"},
            "training": {"epochs": 1, "max_steps": steps, "batch_size": batch, "precision": precision},
            "evaluate": {"at_start": False, "every": steps},
            "checkpoint": {"every": steps},
        }
    )
    run = train(recipe, quiet=True)
    lines = [line for line in run.metrics() if "loss" in line]
    return [line["seconds"]["total"] for line in lines], [line["tokens"] for line in lines]


def run_trl(model: str, rows: str, out: str, precision: str, batch: int, steps: int) -> tuple[list[float], list[int]]:
    """Train with TRL's defaults but for the precision; give seconds and real tokens of each step."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    seconds: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.start)

    arguments = SFTConfig(
        output_dir=out,
        per_device_train_batch_size=batch,
        max_steps=steps,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=arguments,
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        callbacks=[Watch()],
    )
    trainer.train()
    counted = [line["num_tokens"] for line in trainer.state.log_history if "num_tokens" in line and "loss" in line]
    return seconds, [int(after - before) for before, after in zip([0, *counted], counted, strict=False)]


def main() -> None:
    """Run the side that is asked for."""
    side, model, rows, out, precision, batch, steps = sys.argv[1:8]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    run = {"instil": run_instil, "trl": run_trl}[side]
    seconds, tokens = run(model, rows, out, precision, int(batch), int(steps))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    rate = sum(tokens[UNCOUNTED:]) / sum(seconds[UNCOUNTED:])
    print(json.dumps({"rate": rate, "peak_mb": round(peak, 1), "tokens": sum(tokens), "counted": tokens[UNCOUNTED:]}))


if __name__ == "__main__":
    main()

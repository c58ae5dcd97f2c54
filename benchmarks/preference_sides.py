"""One side of preference.py, run in a process of its own under the Python of its environment.

    python benchmarks/preference_sides.py instil|trl JOB

JOB is a JSON object: model, rows, out, batch, steps, rate (the learning rate), and what one side alone takes. ROWS has
the columns prompt, chosen and rejected, with messages; both sides take them in the order of the file. The output is one
JSON object (see `Measured`), with the peak resident memory in MB and versions.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from train_step_sides import version_of

UNCOUNTED = 1
"""Number of first steps that are not counted."""
BETA = 0.1


@dataclass
class Measured:
    """The measurements of one side.

    Attributes:
        wall: Seconds of each step.
        cpu: Processor seconds of each step, all threads.
        losses: The loss of each step.
        tokens: Tokens of each step that its log-probabilities run over.
        reference_wall: Seconds of the pass over all pairs before the first step; 0 without one.
        reference_cpu: The same in processor seconds.
        lengths: Smallest, mean and largest number of tokens of prompts, chosen and rejected answers.
        phases: Seconds of a step by phase, the mean of the steps that count.
        behind_stop: What the answers have behind their stop token, as text, and how often.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reference_wall: float = 0.0
    reference_cpu: float = 0.0
    lengths: dict[str, list[float]] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    behind_stop: dict[str, int] = field(default_factory=dict)


def now() -> tuple[float, float]:
    """Return seconds of the clock and of the processor."""
    return time.perf_counter(), time.process_time()


def spread(lengths: list[int]) -> list[float]:
    """Return the smallest, the mean and the largest."""
    return [min(lengths), round(sum(lengths) / len(lengths), 1), max(lengths)]


def run_instil(job: dict[str, Any]) -> Measured:
    """Train with instil; the reference is computed before the first step."""
    from instil import Recipe, train
    from instil.preparation.store import ExampleStore
    from instil.training import loop
    from instil.training.preference import start

    measured = Measured()
    take_step, reference_of = loop.take_step, start.reference_of

    def timed_step(*args: Any, **options: Any) -> Any:
        wall, cpu = now()
        result = take_step(*args, **options)
        measured.wall.append(time.perf_counter() - wall)
        measured.cpu.append(time.process_time() - cpu)
        return result

    def timed_reference(*args: Any, **options: Any) -> Any:
        wall, cpu = now()
        found = reference_of(*args, **options)
        measured.reference_wall, measured.reference_cpu = time.perf_counter() - wall, time.process_time() - cpu
        store: ExampleStore = args[0].store
        if len(store) != 2 * job["batch"] * job["steps"]:
            raise SystemExit(f"{len(store) // 2} pairs of {job['batch'] * job['steps']} were encoded: see the ledger.")
        trained = store.trained_weight.astype(int)
        prompts = [int(number) for number in (store.num_tokens - trained)[::2]]
        measured.lengths = {"prompt": spread(prompts), "chosen": spread(trained[::2].tolist())}
        measured.lengths["rejected"] = spread(trained[1::2].tolist())
        return found

    loop.take_step, start.reference_of = timed_step, timed_reference
    recipe = Recipe.from_mapping(
        {
            "output": job["out"],
            "model": {"name": job["model"]},
            "data": {"sources": [job["rows"]], "heldout_share": 0, "max_tokens": 1024, "store": f"{job['out']}-store"},
            "training": {
                "objective": "dpo",
                "epochs": 1,
                "max_steps": job["steps"],
                "batch_size": job["batch"],
                "precision": "fp32",
                "shuffle": False,
                "micro_batch_tokens": job.get("micro_batch_tokens") or "auto",
            },
            "preference": {"beta": BETA},
            "optimizer": {"lr": job["rate"], "schedule": "constant", "warmup": 0},
            "evaluate": {"at_start": False, "every": job["steps"]},
            "checkpoint": {"every": job["steps"]},
        }
    )
    run = train(recipe, quiet=True)
    lines = [line for line in run.metrics() if "loss" in line]
    measured.losses = [line["loss"] for line in lines]
    measured.tokens = [line["trained_tokens"] for line in lines]
    counted = [line["seconds"] for line in lines][UNCOUNTED:]
    measured.phases = {name: round(sum(one[name] for one in counted) / len(counted), 3) for name in counted[0]}
    return measured


def run_trl(job: dict[str, Any]) -> Measured:
    """Train with TRL's defaults, except for the precision, the batch, the order, the reference and the schedule."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    measured = Measured()

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.wall, self.cpu = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            measured.wall.append(time.perf_counter() - self.wall)
            measured.cpu.append(time.process_time() - self.cpu)

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            if "loss" in logs:
                measured.losses.append(float(logs["loss"]))

    class Trainer(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *args: Any, **options: Any) -> Any:
            dataset = super()._prepare_dataset(*args, **options)

            def end_of(ids: list[int]) -> int:
                return len(ids) - ids[::-1].index(self._tokenizer.eos_token_id)

            behind = Counter(
                self._tokenizer.decode(ids[end_of(ids) :])
                for row in dataset
                for ids in (row["chosen_ids"], row["rejected_ids"])
            )
            measured.behind_stop = {text: number for text, number in behind.items() if text}
            if job.get("equal"):
                sides = ("chosen_ids", "rejected_ids")
                dataset = dataset.map(lambda row: {side: row[side][: end_of(row[side])] for side in sides})
            return dataset

        def _precompute_ref_logps(self, *args: Any, **options: Any) -> Any:
            wall, cpu = now()
            found = super()._precompute_ref_logps(*args, **options)
            measured.reference_wall, measured.reference_cpu = time.perf_counter() - wall, time.process_time() - cpu
            return found

    arguments = DPOConfig(
        output_dir=job["out"],
        per_device_train_batch_size=job["batch"],
        max_steps=job["steps"],
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        precompute_ref_log_probs=job["reference"] == "stored",
        beta=BETA,
        learning_rate=job["rate"],
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        args=arguments,
        train_dataset=load_dataset("json", data_files=job["rows"], split="train"),
        callbacks=[Watch()],
    )
    trainer.train()
    lengths = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in trainer.train_dataset]
    batch = job["batch"]
    measured.tokens = [sum(lengths[start : start + batch]) for start in range(0, batch * job["steps"], batch)]
    return measured


def main() -> None:
    """Run the side that the command line names and print its figures."""
    side, job = sys.argv[1], json.loads(sys.argv[2])
    Path(job["out"]).parent.mkdir(parents=True, exist_ok=True)
    measured = {"instil": run_instil, "trl": run_trl}[side](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    versions = {name: version_of(name) for name in (side, "torch", "transformers")}
    print(json.dumps({**asdict(measured), "peak_mb": round(peak, 1), "versions": versions}), flush=True)


if __name__ == "__main__":
    main()

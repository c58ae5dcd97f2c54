"""One side of train_step.py, run in a process of its own under the Python of its environment.

    python train_step_sides.py instil|trl|llamafactory MODEL ROWS OUT PRECISION BATCH STEPS

ROWS has the columns prompt and completion, with messages. All sides take the rows in the order of the file. The
output is one JSON object: seconds and real tokens of each step (with context, without padding), peak resident memory
in MB, and versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

UNCOUNTED = 2
"""Number of first steps that are not counted."""


@dataclass
class Steps:
    """The measurements of one side.

    Attributes:
        seconds: Seconds of each step.
        tokens: Real tokens of each step.
        overhead: Share of the time between the begins of two steps outside forward, backward and update, or None.
    """

    seconds: list[float]
    tokens: list[int]
    overhead: float | None = None


def run_instil(model: str, rows: str, out: str, precision: str, batch: int, steps: int) -> Steps:
    """Train with instil."""
    from instil import Recipe, train
    from instil.training import loop

    begins: list[float] = []
    take_step = loop.take_step

    def stamped(*args: Any, **options: Any) -> Any:
        begins.append(time.perf_counter())
        return take_step(*args, **options)

    loop.take_step = stamped
    recipe = Recipe.from_mapping(
        {
            "output": out,
            "model": {"name": model},
            "data": {"sources": [rows], "heldout_share": 0, "max_tokens": 1024, "store": f"{out}-store"},
            "training": {
                "epochs": 1,
                "max_steps": steps,
                "batch_size": batch,
                "precision": precision,
                "shuffle": False,
            },
            "evaluate": {"at_start": False, "every": steps},
            "checkpoint": {"every": steps},
        }
    )
    run = train(recipe, quiet=True)
    lines = [line for line in run.metrics() if "loss" in line]
    phases = [line["seconds"] for line in lines]
    work = sum(phase["forward"] + phase["backward"] + phase["update"] for phase in phases[UNCOUNTED:-1])
    overhead = 1 - work / (begins[-1] - begins[UNCOUNTED]) if steps > UNCOUNTED + 1 else None
    return Steps([phase["total"] for phase in phases], [line["tokens"] for line in lines], overhead)


def stop_watch(batch: int) -> Any:
    """Return a callback for the Trainer of transformers that records the seconds and real tokens of each step."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.lengths: list[int] = []

        def on_train_begin(self, *_: Any, train_dataloader: Any = None, **__: Any) -> None:
            self.lengths = [len(row["input_ids"]) for row in train_dataloader.dataset]

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.start)

        def steps(self) -> Steps:
            starts = range(0, batch * len(self.seconds), batch)
            return Steps(self.seconds, [sum(self.lengths[start : start + batch]) for start in starts])

    return Watch()


def run_trl(model: str, rows: str, out: str, precision: str, batch: int, steps: int) -> Steps:
    """Train with TRL's defaults, except for the precision, the batch and the order of the rows."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    watch = stop_watch(batch)
    arguments = SFTConfig(
        output_dir=out,
        per_device_train_batch_size=batch,
        max_steps=steps,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=arguments,
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        callbacks=[watch],
    )
    trainer.train()
    return watch.steps()  # type: ignore[no-any-return]


def run_llamafactory(model: str, rows: str, out: str, precision: str, batch: int, steps: int) -> Steps:
    """Train with LLaMA-Factory's defaults, except for the precision, the batch and the order of the rows."""
    import transformers  # noqa: F401  import before the stand-in, which it would take for the real package

    # LLaMA-Factory imports torchaudio for rows with sound. peers.py says why it is not installed.
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from llamafactory.train.tuner import run_exp

    folder = Path(f"{out}-rows")
    folder.mkdir()
    source = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    instructions = [
        {"instruction": row["prompt"][0]["content"], "input": "", "output": row["completion"][0]["content"]}
        for row in source
    ]
    (folder / "rows.json").write_text(json.dumps(instructions), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}), encoding="utf-8")
    watch = stop_watch(batch)
    run_exp(
        {
            "model_name_or_path": model,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "full",
            "dataset": "rows",
            "dataset_dir": str(folder),
            "template": "chatml",
            "cutoff_len": 1024,
            "output_dir": out,
            "per_device_train_batch_size": batch,
            "max_steps": steps,
            "bf16": precision == "bf16",
            "disable_shuffling": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        },
        callbacks=[watch],
    )
    return watch.steps()  # type: ignore[no-any-return]


SIDES = {"instil": run_instil, "trl": run_trl, "llamafactory": run_llamafactory}


def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Run the side that the command line names and print its figures."""
    side, model, rows, out, precision, batch, steps = sys.argv[1:8]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    measured = SIDES[side](model, rows, out, precision, int(batch), int(steps))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    versions = {name: version_of(name) for name in (side, "torch", "transformers")}
    print(json.dumps({**asdict(measured), "peak_mb": round(peak, 1), "versions": versions}), flush=True)


if __name__ == "__main__":
    main()

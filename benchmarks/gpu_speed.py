"""The cells of gpu.py that are fast or slow: steps of instil, and of TRL on the same rows of random ids.

`share_of_matmul` is the model's arithmetic over the measured rate of bf16 matrix products. The arithmetic is
6 x parameters x tokens plus attention (4 x for frozen weights, whose own gradient is not computed).

Why: `trl` imports nothing of instil, because it runs in an environment that may lack it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_device import CPU, CostModel, Device
from gpu_model import LORA_RANK, Training, Work, build_model, config_of, rows_of_step, tiny

UNCOUNTED = 3
STEPS = 12
LIMIT_OF_ROWS = 4096
TRL_ROWS = (4, 2, 1)
"""Rows in TRL's device batch: the next smaller number is tried where memory runs out."""


def ours(device: Device, *, shape: str, adapter: str, compiled: bool) -> dict[str, Any]:
    """Train with instil at its defaults for a GPU; `compiled=False` leaves torch.compile out."""
    from instil.model.attention.flat import describe_attention

    work = tiny(Work(shape, adapter, recompute=None, compiled=compiled), device)
    model = build_model(work, device.torch)
    return measured(Training(work, model, device, steps=num_steps(device)), describe_attention)


def quantized(device: Device, *, shape: str, folder: Path) -> dict[str, Any]:
    """Train LoRA on a 4-bit base with instil."""
    from gpu_correctness import load_quantized, write_base

    from instil.model.attention.flat import describe_attention

    if device.is_faked:  # bitsandbytes knows no other device
        device = CPU
    work = tiny(Work(shape, "lora", recompute=None), device)
    write_base(work, folder, device)
    training = Training(work, load_quantized(work, folder, device), device, steps=num_steps(device), quantize="4bit")
    return measured(training, describe_attention)


def num_steps(device: Device) -> int:
    """Return how many steps are taken."""
    return 3 if device.is_faked else STEPS


def measured(training: Training, describe_attention: Any) -> dict[str, Any]:
    """Take all steps and return their figures."""
    device, work = training.device, training.work
    device.forget_peak()
    seconds, results = [], []
    for _ in training.rows:
        seconds.append(device.seconds(lambda: results.append(training.step())))
    kernel = describe_attention(device=device.torch, dtype=torch.bfloat16)
    notes = [kernel, "recomputing" if training.recompute else "", "compiled" if work.compiled else ""]
    found = figures(work, device, training.rows, seconds, notes="; ".join(filter(None, notes)))
    planned = training.estimate.peak / 2**20
    return found | {"losses": [result.loss for result in results], "planned_mb": round(planned)}


def trl(device: Device, *, shape: str, adapter: str, out: Path) -> dict[str, Any]:
    """Train with TRL's SFTTrainer at its defaults: bf16, tokenized rows."""
    for rows in TRL_ROWS:
        try:
            return _trl(device, shape=shape, adapter=adapter, out=out, device_rows=rows)
        except torch.OutOfMemoryError:
            if rows == TRL_ROWS[-1]:
                raise
        torch.cuda.empty_cache()
    raise AssertionError


def _trl(device: Device, *, shape: str, adapter: str, out: Path, device_rows: int) -> dict[str, Any]:
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    work = tiny(Work(shape, adapter), device)
    config = config_of(work.shape)
    torch.manual_seed(0)
    dtype = torch.float32 if adapter == "full" else torch.bfloat16
    with device.torch:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    steps = num_steps(device)
    drawn = [rows_of_step(step, config.vocab_size, work.tokens * work.micro_batches) for step in range(steps)]
    rows = [
        {"input_ids": ids.tolist(), "completion_mask": weights.astype(int).tolist()}
        for step in drawn
        for ids, weights in step
    ]
    per_step = max(1, len(rows) // steps)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    device_rows = max(1, min(device_rows, per_step))
    # TRL versions without this field have no setting for the order of the rows.
    has_order = "train_sampling_strategy" in SFTConfig.__dataclass_fields__
    in_order = {"train_sampling_strategy": "sequential"} if has_order else {}
    accumulation = max(1, per_step // device_rows)
    settings = SFTConfig(
        output_dir=str(out),
        **in_order,
        max_steps=max(1, len(rows) // (device_rows * accumulation)),
        per_device_train_batch_size=device_rows,
        gradient_accumulation_steps=accumulation,
        bf16=True,
        use_cpu=device.is_faked,
        report_to=[],
        save_strategy="no",
        max_length=LIMIT_OF_ROWS,
        completion_only_loss=True,
        dataset_kwargs={"skip_prepare_dataset": False},
        learning_rate=work.lr,
        logging_strategy="no",
        disable_tqdm=True,
    )
    seconds: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            device.wait()
            self.start = time.perf_counter()
            if device.is_faked:
                self.cost = CostModel()
                self.cost.__enter__()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            device.wait()
            if device.is_faked:
                self.cost.__exit__(None, None, None)
                seconds.append(self.cost.seconds)
            else:
                seconds.append(time.perf_counter() - self.start)

    lora = None
    if adapter == "lora":
        from peft import LoraConfig

        lora = LoraConfig(r=LORA_RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Watch()],
        peft_config=lora,
    )
    device.forget_peak()
    trainer.train()
    size = device_rows * settings.gradient_accumulation_steps
    seen = [row for step in drawn for row in step][: size * len(seconds)]
    grouped = [seen[start : start + size] for start in range(0, len(seen), size)]
    return figures(work, device, grouped, seconds, notes=f"TRL's defaults, {device_rows} rows a batch")


def arithmetic(config: Any, num_parameters: int, lengths: Sequence[int], adapter: str) -> float:
    """Count a step's floating-point operations: forward and backward, causal attention halved."""
    factor = 6 if adapter == "full" else 4
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    attention = sum(12 * config.num_hidden_layers * width * length**2 / 2 for length in lengths)
    # Our head computes trained rows only. Both sides are counted so: this is the arithmetic that the model needs.
    trained_rows = 0.4
    head = config.vocab_size * config.hidden_size
    body = num_parameters - head * (1 if config.tie_word_embeddings else 2)
    return factor * sum(lengths) * (body + trained_rows * head) + attention


def num_parameters_of(config: Any) -> int:
    """Return the numbers in a model of a config."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return sum(value.numel() for value in AutoModelForCausalLM.from_config(config).parameters())


def figures(
    work: Work,
    device: Device,
    steps: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    seconds: list[float],
    *,
    notes: str,
) -> dict[str, Any]:
    """Return the figures of the steps after the uncounted ones."""
    skipped = min(UNCOUNTED, len(seconds) - 1)
    lengths = [len(ids) for rows in steps[skipped : len(seconds)] for ids, _ in rows]
    total, rate, peak = sum(seconds[skipped:]), device.matrix_rate(), device.peak_mb()
    config = config_of(work.shape)
    flops = arithmetic(config, num_parameters_of(config), lengths, work.adapter)
    return {
        "tokens_per_second": round(sum(lengths) / total, 1),
        "step_seconds": [round(second, 4) for second in seconds],
        "share_of_matmul": round(flops / total / rate, 3),
        "matmul_tflops": round(rate / 1e12, 1),
        "peak_mb": None if peak is None else round(peak),
        "steps": len(seconds) - skipped,
        "notes": notes,
        "device": device.name,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }

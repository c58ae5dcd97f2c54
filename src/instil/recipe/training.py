"""The settings of training: the step, the optimizer, what is measured, what is saved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from instil.recipe.preference import Objective
from instil.recipe.settings import LARGEST_SEED, Decay, Number, PathText, Settings
from instil.remote.urls import is_bucket


class TrainingSettings(Settings):
    """The optimizer step and the length of the run."""

    objective: Objective = Field(
        "sft",
        description=(
            "What is learned: `sft` imitates the answers; `dpo`, `ipo`, `simpo` and `orpo` learn from pairs of a chosen "
            "and a rejected answer; `kto` from answers judged good or bad."
        ),
    )
    epochs: Number = Field(
        3.0,
        gt=0,
        description=(
            "Passes over the data; usually 1 to 3. Left out of a recipe for preferences it is 1. Ignored where max_steps "
            "is set."
        ),
    )
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimizer steps. Empty: `epochs` decides."
    )
    batch_size: int = Field(
        32,
        ge=1,
        description="Examples, or pairs of preferences, in an optimizer step, over all devices; usually 16 to 128.",
    )
    micro_batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description=(
            "Tokens in one forward pass on one device; lower it to save memory. It never changes the result. "
            "A longer example is processed alone."
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "pure_bf16", "fp16"] = Field(
        "auto",
        description=(
            "`bf16`: fp32 master weights and bf16 arithmetic; `pure_bf16`: bf16 weights too; `fp16`: with loss "
            "scaling. `auto`: bf16 where the device is fast at it, else fp32."
        ),
    )
    loss: Literal["cross_entropy", "dft"] = Field(
        "cross_entropy",
        description="Loss of a token: cross-entropy, or DFT (cross-entropy weighted by the probability of the token).",
    )
    router_loss: Number | None = Field(
        None,
        ge=0,
        description=(
            "Coefficient of the load-balancing loss of a mixture of experts. Empty: the value in the model's "
            "config, else 0."
        ),
    )
    neftune_alpha: Number | None = Field(
        None,
        gt=0,
        description=(
            "NEFTune: scale alpha of the uniform noise on the embeddings; usually 5. The noise is at most "
            "alpha / sqrt(L * d), with L the length of the example and d the width. Empty: no noise."
        ),
    )
    freeze: list[str] = Field(default_factory=list, description="Names of parameters to freeze; * and ? are wildcards.")
    gradient_checkpointing: Literal["off", "on", "auto"] = Field(
        "auto",
        description=(
            "Recompute activations in the backward pass: less memory, slower steps. `auto`: only where a step "
            "would not fit otherwise."
        ),
    )
    offload_activations: Literal["off", "on"] = Field(
        "off",
        description=(
            "Keep what a GPU saves for the backward pass in the machine's memory; with `gradient_checkpointing`, the "
            "inputs of the blocks. Less memory, slower steps."
        ),
    )
    compile: Literal["off", "on", "auto"] = Field(
        "off", description="Compile the model's blocks with torch.compile: a slower start, often faster steps."
    )
    on_nonfinite: Literal["stop", "skip_step"] = Field(
        "stop",
        description=(
            "When a loss or gradient is not finite: stop, or skip the step. Either way the weights stay unchanged."
        ),
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Random seed of the data order, the noise and new weights.")
    shuffle: bool = Field(True, description="Shuffle the examples in each epoch; false keeps the order of the data.")
    deterministic: bool = Field(
        True,
        description="Use deterministic kernels, so that a resumed run gives the same bits as an uninterrupted one.",
    )


class OptimizerSettings(Settings):
    """The optimizer and the learning rate."""

    name: Literal["adamw", "adamw_8bit", "muon", "adafactor"] = Field(
        "adamw", description="Optimizer; usually `adamw`. `adamw_8bit` and `adafactor` need less memory."
    )
    lr: Number | None = Field(
        None,
        gt=0,
        description=(
            "Peak learning rate. Empty: by the size of the model and what trains, such as 1.9e-5 for full fine-tuning of 8B "
            "parameters and 1.9e-4 for LoRA."
        ),
    )
    schedule: Literal["constant", "linear", "cosine", "wsd"] = Field(
        "cosine",
        description=(
            "Learning rate after the warm-up. `wsd` keeps it constant, then decays it over the last fifth of the steps."
        ),
    )
    warmup: Number = Field(
        0.03,
        ge=0,
        description="Length of the warm-up: below 1 a share of all steps, else a number of steps. Usually 0.03 to 0.1.",
    )
    final_lr: Number = Field(
        0.0, ge=0, le=1, description="Learning rate at the end, as a share of the peak; usually 0 to 0.1."
    )
    weight_decay: Number = Field(
        0.0,
        ge=0,
        description="Decoupled weight decay; usually 0 to 0.1. It does not apply to norms, biases and embeddings.",
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay rates of AdamW's first and second moment.")
    eps: Number = Field(1e-8, gt=0, description="Epsilon of AdamW; rarely changed.")
    momentum: Number = Field(0.95, ge=0, lt=1, description="Momentum of Muon.")
    clip: Number | None = Field(
        1.0, gt=0, description="Clip gradients to this global norm; usually 1. Empty: no clipping."
    )


class EvaluateSettings(Settings):
    """What is measured during training."""

    every: int | None = Field(
        None, ge=1, description="Evaluate every this many steps. Empty: ten times in a run, and at its end."
    )
    at_start: bool = Field(True, description="Also evaluate before the first step.")
    tasks: list[str] = Field(
        default_factory=list,
        description=(
            "Generation tasks to run on the held-out rows, in addition to their loss: exact_match (equal to the "
            "reference), numeric (same final number) and others. The run card says what each measures."
        ),
    )
    max_prompts: int = Field(100, ge=1, description="Largest number of prompts for the generation tasks.")
    samples: list[str] = Field(
        default_factory=list,
        description=(
            "Prompts to answer at each evaluation; the answers go into samples.jsonl. Empty: three held-out prompts."
        ),
    )
    max_new_tokens: int = Field(256, ge=1, description="Longest answer in tokens.")
    patience: int | None = Field(
        None,
        ge=1,
        description=(
            "Early stopping: end the run after this many evaluations without a better held-out loss. Empty: never."
        ),
    )


class CheckpointSettings(Settings):
    """Which checkpoints are saved and kept."""

    every: int | None = Field(
        None, ge=1, description="Save a checkpoint every this many steps. Empty: at each evaluation."
    )
    keep_last: int = Field(2, ge=1, description="Number of latest checkpoints to keep.")
    keep_best: bool = Field(True, description="Also keep the checkpoint with the lowest held-out loss.")
    mirror: PathText | None = Field(
        None,
        description=(
            "Folder in a bucket (s3://, gs:// or az://) that the run folder is copied to under its name, while the run"
            " goes on. Empty: no copy."
        ),
    )
    final: Literal["best", "last"] = Field(
        "last",
        description="Checkpoint that becomes the run's model: the last one, or the one with the lowest held-out loss.",
    )

    @field_validator("mirror")
    @classmethod
    def _is_in_a_bucket(cls, value: str | None) -> str | None:
        if value is not None and not is_bucket(value):
            raise ValueError("input should be the address of a folder in a bucket, such as s3://bucket/runs")
        return value

    @field_validator("final")
    @classmethod
    def _the_best_is_kept(cls, value: str, info: ValidationInfo) -> str:
        if value == "best" and info.data.get("keep_best") is False:
            raise ValueError("that checkpoint is not kept. Set checkpoint.keep_best: true, or last")
        return value

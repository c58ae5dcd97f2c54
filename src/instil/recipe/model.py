"""The settings of the model and of its adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from instil.recipe.settings import Number, PathText, Settings


class ModelSettings(Settings):
    """The model and how it is loaded."""

    name: PathText = Field(
        "demo",
        min_length=1,
        description=(
            "Model to train: a model folder, run folder, adapter folder, Hub id, or `demo` (the embedded base model)."
        ),
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub id.")
    template: PathText | None = Field(
        None,
        description=(
            "Chat template: a name from `instil template list`, a .jinja file, a model folder (folder:name where it "
            "has several), Jinja source, or a format string with {system}, {user}, {assistant}. "
            "Empty: the model's own, or ChatML for a base model without one."
        ),
    )
    stop_token: Literal["own", "eos"] = Field(
        "own",
        description="With `model.template`: end turns with the template's own stop token, or with the model's EOS.",
    )
    initialise: Literal["pretrained", "random"] = Field(
        "pretrained",
        description="Start from the model's weights, or from random weights in the shape that config.json gives.",
    )
    quantize: Literal["none", "4bit", "8bit"] = Field(
        "none",
        description=(
            "Load the frozen base weights quantised, to save memory (QLoRA): `4bit` is nf4 with double quantisation."
        ),
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Set it only for a model that you trust."
    )

    @field_validator("quantize")
    @classmethod
    def _random_weights_stay_as_they_are(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and info.data.get("initialise") == "random":
            raise ValueError("random weights are not quantised. Set none, or model.initialise: pretrained")
        return value


_OTHER_KINDS = {
    "qlora": "QLoRA is lora with model.quantize: 4bit",
    "full": "none trains every weight",
    "dora": "DoRA is lora with adapter.dora: true",
    "rslora": "rsLoRA is lora with adapter.rank_stabilized: true",
}
"""What other tools call kinds of training, and how to set it here."""


class AdapterSettings(Settings):
    """Low-rank adapters (LoRA). `kind: none` trains every weight."""

    kind: Literal["none", "lora"] = Field(
        "none",
        description=(
            "`none` trains every weight (full fine-tuning); `lora` trains low-rank adapters and freezes the rest."
        ),
    )
    rank: int = Field(16, ge=1, description="LoRA rank; usually 8 to 64. A higher rank trains more parameters.")
    alpha: Number = Field(
        32.0,
        gt=0,
        description=(
            "LoRA scale: the update is multiplied by alpha / rank, or alpha / sqrt(rank) with rank_stabilized. "
            "Usually twice the rank."
        ),
    )
    dropout: Number = Field(0.0, ge=0, lt=1, description="Dropout on the adapters' input; usually 0 to 0.1.")
    targets: str | list[str] = Field(
        "all-linear",
        description=(
            "Modules that get adapters: `all-linear`, or a list of module names (no patterns). "
            "Experts are named by their stacked tensors (experts.gate_up_proj)."
        ),
    )
    rank_stabilized: bool = Field(
        False, description="rsLoRA: scale by alpha / sqrt(rank), so that high ranks train as well as low ones."
    )
    dora: bool = Field(
        False, description="DoRA: train the magnitude of the weights separately from their direction. Slower than LoRA."
    )
    resume_from: PathText | None = Field(
        None,
        description="Adapter folder to continue training from. Its own rank, alpha and other adapter settings apply.",
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _is_a_kind(cls, value: object) -> object:
        if isinstance(value, str) and (remedy := _OTHER_KINDS.get(value.lower())):
            raise ValueError(f"input should be none or lora. {remedy}")
        return value

    @field_validator("targets")
    @classmethod
    def _names_a_module(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str) and "," in value:  # a list as it is typed on the command line
            value = [name.strip() for name in value.split(",") if name.strip()]
        if not value or (isinstance(value, list) and "" in value):
            raise ValueError("input should be all-linear or names of modules")
        if "all-linear" in value and value not in ("all-linear", ["all-linear"]):
            raise ValueError("input should be all-linear alone, or names of modules")
        return "all-linear" if value == ["all-linear"] else value

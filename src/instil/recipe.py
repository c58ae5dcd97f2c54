"""Every setting of a run, in one file.

A recipe is the YAML file that a person writes; `Recipe` is what it means. Each field is described once, here: the same
text is ``--help``, the JSON schema and docs/settings.md. Questionable on purpose: nothing in a recipe says how a step is cut
over devices except `training.micro_batch_tokens` and `parallel`, and neither changes the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from instil.errors import RecipeError, nearest
from instil.setting_aliases import known_elsewhere


def _number(value: object) -> object:
    """Read ``2e-5`` as a number: YAML 1.1 takes it for text because it has no dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Decay = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
LARGEST_SEED = 2**63 - 1
MOST_THREADS = 1024
LONGEST_WAIT = 30 * 24 * 60
Format = Literal[
    "auto", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "preference", "text", "pattern"
]


def _kinds(annotation: Any) -> set[Any]:
    """Give the types that an annotation is made of."""
    return {annotation}.union(*(_kinds(part) for part in get_args(annotation)))


class Settings(BaseModel):
    """A group of settings: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _a_truth_value_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and not kinds.isdisjoint((int, float)):
                raise ValueError("input should be a number")
        return value


class ModelSettings(Settings):
    """Which model, and how it is loaded."""

    name: str = Field(
        "demo",
        min_length=1,
        description="Model folder, run folder, adapter folder, Hub id, or `demo` (the embedded base model).",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub id.")
    template: str | None = Field(
        None,
        description="Chat template: a named one (`instil template list`), a .jinja file, a model folder (folder:name for one of several that it has), Jinja source, or a format string with {system}, {user}, {assistant}. Empty: the model's own, or ChatML for a base model without one.",
    )
    stop_token: Literal["own", "eos"] = Field(
        "own",
        description="What ends an assistant turn of a template that is given here: its own token, or the model's existing eos in its place.",
    )
    initialise: Literal["pretrained", "random"] = Field(
        "pretrained", description="Load the weights, or make random ones from config.json."
    )
    quantize: Literal["none", "4bit", "8bit"] = Field(
        "none", description="Load frozen base weights quantised (QLoRA): nf4 with double quantisation, or 8-bit."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Never on by itself.")

    @field_validator("quantize")
    @classmethod
    def _random_weights_stay_as_they_are(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and info.data.get("initialise") == "random":
            raise ValueError("random weights are not quantised; set none, or model.initialise: pretrained")
        return value


class AdapterSettings(Settings):
    """Low-rank adapters (LoRA). `kind: none` trains every weight."""

    kind: Literal["none", "lora"] = Field(
        "none", description="`none` is full fine-tuning; `lora` trains low-rank adapters."
    )
    rank: int = Field(16, ge=1, description="Rank of the adapters.")
    alpha: Number = Field(
        32.0,
        gt=0,
        description="Scale: the update is multiplied by alpha / rank (alpha / sqrt(rank) with rank_stabilized).",
    )
    dropout: Number = Field(0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    targets: str | list[str] = Field(
        "all-linear",
        description="`all-linear`, or names of the modules that get adapters; a mixture's experts by the names of their stacked tensors (experts.gate_up_proj).",
    )
    rank_stabilized: bool = Field(False, description="rsLoRA: scale by alpha / sqrt(rank).")
    dora: bool = Field(False, description="DoRA: train the weights' magnitude apart from their direction.")
    resume_from: str | None = Field(
        None, description="Adapter folder whose training goes on, with its own rank, alpha and the like."
    )

    @field_validator("targets")
    @classmethod
    def _names_a_module(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and "" in value):
            raise ValueError("input should be all-linear or names of modules")
        return value


class Source(Settings):
    """One place that rows come from."""

    path: str = Field(min_length=1, description="File, folder, glob, `-` for standard input, or a Hub data-set id.")
    format: Format = Field("auto", description="Shape of the rows; `auto` looks and says what it saw.")
    split: str = Field("train", description="Split of a Hub data set.")
    subset: str | None = Field(None, description="Configuration of a Hub data set.")
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub data set.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='For `format: pattern`: role to text with {column} in it, such as user: "{title}[[ ({year})]]"; what stands in [[ ]] drops out where its column is empty.',
    )
    rows: int | None = Field(None, ge=1, description="Take this many rows, drawn with the run's seed.")
    repeat: int = Field(1, ge=1, description="Take every row this many times an epoch.")
    weight: Number = Field(1.0, ge=0, description="Loss weight of every trained token of this source.")

    @model_validator(mode="after")
    def _columns_and_pattern_go_together(self) -> Source:
        if self.columns and self.format not in ("auto", "pattern"):
            raise ValueError(f"columns are read by format pattern, not {self.format}; leave out one of them")
        if self.format == "pattern" and not self.columns:
            raise ValueError(
                'format pattern needs columns, such as {user: "{title}", assistant: "{summary}"}; add them'
            )
        return self


class DataSettings(Settings):
    """What is read, and how it becomes examples."""

    sources: list[Source] = Field(
        default_factory=list,
        description="Where the rows come from: a list of paths, or of mappings with path, format, rows, repeat, weight …",
    )
    heldout: list[Source] = Field(
        default_factory=list, description="Rows to evaluate on. Empty: a share of the sources."
    )
    format: Format = Field("auto", description="Shape of the rows of every source that names no format of its own.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='For `format: pattern`, in every source that names no columns of its own: role to text with {column} in it, such as user: "{title}".',
    )
    heldout_share: Number = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the rows held out where `heldout` is empty; a row's content decides, so it always falls on the same side.",
    )
    heldout_max: int = Field(500, ge=0, description="At most this many held-out rows.")
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="A row that cannot be used: stop with its place, or leave it out and count it."
    )
    train_on: Literal["assistant", "last", "all"] = Field(
        "assistant", description="Which tokens are trained: every assistant turn, only the last one, or everything."
    )
    max_tokens: int | None = Field(
        None, ge=8, description="Longest example, in tokens. Empty: the model's context length."
    )
    too_long: Literal["drop", "keep_last_turns", "truncate_answer", "split", "refuse"] | None = Field(
        None,
        description="An example over max_tokens: leave it out, drop its oldest exchanges, cut the answer (its stop token is then not trained), split plain text, or stop. Empty: `drop`, and `split` for text without a prompt.",
    )
    history_rewritten: Literal["every_turn", "last_turn", "refuse"] = Field(
        "every_turn",
        description="Templates that change earlier turns as a conversation grows: train each turn in the example that serving would see, only the last such group, or stop.",
    )
    inline_reasoning: Literal["split", "keep"] = Field(
        "split",
        description="Answers that carry <think>…</think> in their text: move it into `reasoning`, or leave the text alone.",
    )
    typed_control_tokens: Literal["escape", "keep", "refuse"] = Field(
        "escape",
        description="Control tokens typed in the data's text: make them ordinary text, leave them control tokens, or stop.",
    )
    template_variables: dict[str, Any] = Field(
        default_factory=dict,
        description="Variables for the template (enable_thinking, documents …), the same in training and serving.",
    )
    date: str | None = Field(
        None,
        description="The day that templates print, YYYY-MM-DD. Empty: the day of the run's first preparation, saved in its resolved recipe.",
    )
    prompt_completion: Literal["chat", "plain"] = Field(
        "chat",
        description="Prompt/completion rows of text: one chat exchange, or plain continuation without the template.",
    )
    deduplicate: bool = Field(False, description="Leave out rows whose content came before (counted either way).")
    workers: int = Field(
        1,
        ge=0,
        description="Processes that prepare the data; 0 is one a core. The bytes are the same whatever the number.",
    )
    store: str | None = Field(None, description="Folder for prepared data. Empty: the user's cache folder.")

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        try:
            return value if value is None else date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError("input should be a day such as 2026-11-25") from None

    @model_validator(mode="before")
    @classmethod
    def _paths_are_sources(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            values = dict(values)
            shared = {key: values[key] for key in ("format", "columns") if values.get(key)}
            for key in ("sources", "heldout"):
                given = values.get(key)
                if isinstance(given, str | Mapping):
                    given = [given]
                if isinstance(given, list):
                    sources = [{"path": item} if isinstance(item, str) else item for item in given]
                    values[key] = [
                        shared | dict(item)
                        if isinstance(item, Mapping) and {"format", "columns"}.isdisjoint(item)
                        else item
                        for item in sources
                    ]
        return values


class TrainingSettings(Settings):
    """The step, and how long to go on."""

    epochs: Number = Field(3.0, gt=0, description="Passes over the data; ignored where max_steps is set.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Examples in an optimizer step, over all devices.")
    micro_batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Tokens in one forward pass on one device: how a step is cut to fit memory; a longer example goes alone. Never changes the result.",
    )
    precision: Literal["auto", "fp32", "bf16", "pure_bf16", "fp16"] = Field(
        "auto",
        description="`bf16`: fp32 master weights, bf16 arithmetic; `pure_bf16`: bf16 weights; `fp16`: with loss scaling. `auto`: bf16 where the device is fast at it, else fp32.",
    )
    loss: Literal["cross_entropy", "dft"] = Field(
        "cross_entropy",
        description="Token loss: cross-entropy, or DFT (cross-entropy weighted by the token's own probability).",
    )
    router_loss: Number | None = Field(
        None,
        ge=0,
        description="Coefficient of a mixture's load-balancing loss. Empty: what the model's config sets, else 0.",
    )
    neftune_alpha: Number | None = Field(
        None,
        gt=0,
        description="NEFTune: uniform noise on the embeddings, alpha / sqrt(L * d) with L the example's own length. Empty: none.",
    )
    freeze: list[str] = Field(default_factory=list, description="Parameter names (with * and ?) that do not train.")
    gradient_checkpointing: Literal["off", "on", "auto"] = Field(
        "auto",
        description="Recompute activations in the backward pass to save memory; `auto`: where the step would not fit otherwise.",
    )
    compile: Literal["off", "on", "auto"] = Field("off", description="torch.compile of the model's blocks.")
    on_nonfinite: Literal["stop", "skip_step"] = Field(
        "stop",
        description="A loss or gradient that is not finite: stop, or leave the step out. The weights never move on it.",
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="Seed of the order, the noise and new weights.")
    shuffle: bool = Field(True, description="Draw a new order each epoch; false keeps the order of the data.")
    deterministic: bool = Field(
        True, description="Ask for deterministic kernels, so that a resumed run repeats bit for bit."
    )


class OptimizerSettings(Settings):
    """How weights move."""

    name: Literal["adamw", "adamw_8bit", "muon", "adafactor"] = Field("adamw", description="Optimizer.")
    lr: Number | None = Field(
        None, gt=0, description="Peak learning rate. Empty: 2e-5 for full fine-tuning, 2e-4 for LoRA."
    )
    schedule: Literal["constant", "linear", "cosine", "wsd"] = Field(
        "cosine",
        description="Course of the learning rate after the warm-up; wsd: stable, then decay over the last fifth.",
    )
    warmup: Number = Field(0.03, ge=0, description="Warm-up: a share of all steps below 1, else a number of steps.")
    final_lr: Number = Field(0.0, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")
    weight_decay: Number = Field(
        0.0, ge=0, description="Decoupled weight decay; norms, biases and embeddings are left out."
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW's decay rates of the first and second moment.")
    eps: Number = Field(1e-8, gt=0, description="AdamW's epsilon.")
    momentum: Number = Field(0.95, ge=0, lt=1, description="Muon's momentum.")
    clip: Number | None = Field(1.0, gt=0, description="Largest global gradient norm. Empty: no clipping.")


class EvaluateSettings(Settings):
    """What is measured while training goes on."""

    every: int | None = Field(
        None, ge=1, description="Evaluate after this many steps. Empty: ten times a run, and at its end."
    )
    at_start: bool = Field(True, description="Also before the first step.")
    tasks: list[str] = Field(
        default_factory=list,
        description="Generation tasks to run on the held-out rows besides their loss (exact_match, numeric, …).",
    )
    max_prompts: int = Field(100, ge=1, description="At most this many prompts for the generation tasks.")
    samples: list[str] = Field(
        default_factory=list,
        description="Prompts that are answered at each evaluation, into samples.jsonl. Empty: three held-out ones.",
    )
    max_new_tokens: int = Field(256, ge=1, description="Longest answer in tokens.")
    patience: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a better held-out loss."
    )


class CheckpointSettings(Settings):
    """What is kept, so that nothing is lost."""

    every: int | None = Field(None, ge=1, description="Save after this many steps. Empty: at each evaluation.")
    keep_last: int = Field(2, ge=1, description="Latest checkpoints to keep.")
    keep_best: bool = Field(True, description="Also keep the one with the lowest held-out loss.")
    final: Literal["best", "last"] = Field("last", description="Whose weights become the run's model.")

    @field_validator("final")
    @classmethod
    def _the_best_is_kept(cls, value: str, info: ValidationInfo) -> str:
        if value == "best" and info.data.get("keep_best") is False:
            raise ValueError("that checkpoint is not kept; set checkpoint.keep_best: true, or last")
        return value


class ParallelSettings(Settings):
    """How many processes, and how the weights lie on them. Never changes the result."""

    processes: int = Field(1, ge=1, description="Processes (one a device).")
    mode: Literal["auto", "replicated", "sharded"] = Field(
        "auto", description="Each process holds all weights, or a shard (FSDP2); `auto` shards what would not fit."
    )
    timeout_minutes: Number = Field(
        10.0, gt=0, le=LONGEST_WAIT, description="How long processes wait for each other before the run ends."
    )


class TrackingSettings(Settings):
    """Where metrics go besides the run folder. Nothing by default."""

    to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Trackers to write to."
    )
    project: str = Field("instil", min_length=1, description="Project name for wandb and trackio.")
    name: str | None = Field(None, description="Run name for the trackers. Empty: the run folder's name.")


class Recipe(Settings):
    """Every setting of a run.

    Example:
        >>> Recipe.from_mapping({"data": {"sources": ["rows.jsonl"]}, "optimizer": {"lr": "2e-5"}}).optimizer.lr
        2e-05
    """

    output: str = Field("runs/{name}", description="Run folder; {name} is the recipe file's name.")
    threads: int | None = Field(None, ge=1, le=MOST_THREADS, description="CPU threads. Empty: torch's own choice.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    model: ModelSettings = Field(default_factory=ModelSettings, description="Which model, and how it is loaded.")
    adapter: AdapterSettings = Field(default_factory=AdapterSettings, description="Low-rank adapters.")
    data: DataSettings = Field(default_factory=DataSettings, description="What is read, and how it becomes examples.")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="The step, and how long to go on.")
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings, description="How weights move.")
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="What is measured while training goes on."
    )
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings, description="What is kept.")
    parallel: ParallelSettings = Field(default_factory=ParallelSettings, description="How many processes.")
    tracking: TrackingSettings = Field(
        default_factory=TrackingSettings, description="Where metrics go besides the run folder."
    )

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_its_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            return {key: value for key, value in values.items() if value is not None or key not in _SECTIONS}
        return values

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """Read a YAML recipe, lay overrides over it, and check the whole.

        Args:
            path: The YAML file. Relative data paths in it stay relative to the working folder.
            overrides: Nested mapping whose leaves win over the file's.

        Raises:
            RecipeError: If the file is missing, is no YAML mapping, or a key or value is not allowed; the message names
                file, key and, for an unknown key, the nearest one.
        """
        from instil.recipe_yaml import read_recipe_file  # YAML is imported only where a file is read

        path = Path(path)
        values = read_recipe_file(path)
        merged = _merge(values, overrides or {})
        return cls.from_mapping(merged, source=str(path), name=path.stem)

    @classmethod
    def load_saved(cls, folder: str | Path) -> Recipe:
        """Read the resolved recipe of a run folder.

        Raises:
            RecipeError: As `load`, and if there is no setting in it: a run writes all of them, so it was cut off.
        """
        path = Path(folder) / "recipe.yaml"
        recipe = cls.load(path)
        if recipe.model_fields_set <= {"output"}:  # which is set in any case
            raise RecipeError(
                f"{path}: no setting in it; expected the run's resolved recipe; put the recipe that the run was started with in its "
                "place, or name another run"
            )
        return recipe

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str = "recipe", name: str = "recipe") -> Recipe:
        """Check a nested mapping of settings.

        Args:
            values: Settings, nested as in the file.
            source: Names the mapping in errors.
            name: Stands for {name} in `output`.

        Raises:
            RecipeError: On the first unknown key or wrong value.
        """
        try:
            recipe = cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(f"{source}: {_explain(cls, error)}") from None
        return recipe.model_copy(update={"output": recipe.output.replace("{name}", name)})

    def override(self, values: Mapping[str, Any]) -> Recipe:
        """Give a copy in which the leaves of a nested mapping replace this recipe's."""
        return Recipe.from_mapping(_merge(self.model_dump(exclude_unset=True), values))

    def to_yaml(self) -> str:
        """Give every setting, defaults included, as YAML that `load` reads back to an equal recipe."""
        import yaml

        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        return text

    def save(self, path: str | Path) -> None:
        """Write `to_yaml` into a file."""
        Path(path).write_text(self.to_yaml(), encoding="utf-8")


_SECTIONS = frozenset(name for name, field in Recipe.model_fields.items() if field.default_factory is not None)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _explain(recipe: type[Settings], error: ValidationError) -> str:
    """Say a validation error as: key: what was found; what is allowed; what to do."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    location = [part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        allowed = list(_settings_at(recipe, location[:-1]).model_fields)
        name = str(location[-1])
        meant = known_elsewhere(name) or nearest(name, allowed) or in_another_group(name)
        return f"unknown key {key!r}{meant}; allowed here: {', '.join(allowed)}; mend or remove it"
    said = first["msg"].removeprefix("Value error, ")
    said = re.sub(r"a valid dictionary or instance of \w+", "a mapping of settings", said)
    return f"{key or 'settings'}: found {first.get('input')!r}; {said[0].lower()}{said[1:]}; see docs/settings.md"


def in_another_group(name: str) -> str:
    """Say where a setting of that name is, for a person who knew the name and not its group."""
    groups = [group for group in _SECTIONS if name in _settings_at(Recipe, [group]).model_fields]
    return f" (did you mean {groups[0] + '.' + name!r}?)" if len(groups) == 1 else ""


_UNION_TAGS = {"int", "constrained-int", "str", "float", "literal", "none"}


def _settings_at(recipe: type[Settings], location: list[Any]) -> type[Settings]:
    """Find the group of settings that a location such as ``('data', 'sources', 0)`` names."""
    group = recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = group.model_fields[part].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, Settings):
                group = candidate
    return group

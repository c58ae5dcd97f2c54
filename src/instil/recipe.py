"""Every setting of a run, in one file.

A recipe is a YAML file; `Recipe` holds its checked values. Each field is described once, here: the same text is
``--help``, the JSON schema and docs/settings.md.

Why: a recipe holds no per-device batch size. Only `training.micro_batch_tokens` and `parallel` decide how a step is
divided over devices, and neither changes the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from instil.conversation.field_checks import template_input_in
from instil.errors import RecipeError, RunError, first_line_of, nearest
from instil.files import home_path, is_file_name, write_text_atomic
from instil.refused_writes import refused_writes
from instil.setting_aliases import known_elsewhere


def _number(value: object) -> object:
    """Return the number that a text spells; YAML 1.1 reads ``2e-5`` as text because it has no dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _in_home(value: str) -> str:
    """Replace ``~`` at the start of a path. What holds a brace is no path but a template."""
    if not is_file_name(value):
        raise ValueError("input should be text without zero bytes and halves of surrogate pairs")
    if not value.startswith("~") or ("{" in value and not value.startswith("~/")):
        return value
    try:
        return str(home_path(value))
    except RunError as error:
        raise ValueError(str(error).removeprefix(f"{value}: ")) from None


PathText = Annotated[str, AfterValidator(_in_home)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Decay = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
LARGEST_SEED = 2**63 - 1
MOST_THREADS = 1024
LONGEST_WAIT = 30 * 24 * 60
Format = Literal[
    "auto", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "preference", "text", "pattern"
]


def _kinds(annotation: Any) -> set[Any]:
    """Return all types in an annotation."""
    return {annotation}.union(*(_kinds(part) for part in get_args(annotation)))


_FILE_KEYS = ("encoding", "delimiter", "sheet")


def _known_encoding(name: str) -> str:
    """Check that Python has a text encoding of that name."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError("input should be an encoding such as utf-8, cp1252, gb18030, big5 or shift_jis") from None
    return name


def delimiter_named(name: str) -> str:
    r"""Return the character that a delimiter names; some have names, because they are hard to type.

    Raises:
        ValueError: If it is not one character.

    Example:
        >>> delimiter_named("tab"), delimiter_named(";")
        ('\t', ';')
    """
    character = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(name.lower(), name)
    if len(character) != 1 or character in '"\n\r':
        raise ValueError("input should be one character, such as ; or tab")
    return character


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


def _unless_empty(check: Callable[[str], str]) -> Callable[[str | None], str | None]:
    """Return a validator of a setting that may be empty."""
    return lambda value: value if value is None else check(value)


class Source(Settings):
    """One place that rows come from."""

    path: PathText = Field(min_length=1, description="File, folder, glob, `-` for standard input, or Hub dataset id.")
    format: Format = Field("auto", description="Format of the rows; `auto` detects and reports it.")
    split: str = Field(
        "train",
        min_length=1,
        description="Split of a Hub dataset or of a folder with train and test files; `all`: every file of a folder.",
    )
    subset: str | None = Field(None, description="Configuration of a Hub dataset, or of a folder cloned from the Hub.")
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub dataset.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=(
            'For `format: pattern`: a text with {column} for each role, such as user: "{title}[[ ({year})]]". '
            "Text in [[ ]] is left out where its column is empty."
        ),
    )
    encoding: str | None = Field(
        None,
        description=(
            "Encoding of the text files of this source, such as gb18030 or cp1252. "
            "Empty: a byte order mark, UTF-8, or what the bytes certainly are."
        ),
    )
    delimiter: str | None = Field(
        None, description="Character between the fields of CSV files, such as ';' or 'tab'. Empty: as the header shows."
    )
    sheet: str | None = Field(None, description="Sheet of .xlsx workbooks. Empty: the first one.")
    rows: int | None = Field(
        None, ge=1, description="Use this many rows, drawn at random with the run's seed. Empty: all."
    )
    repeat: int = Field(1, ge=1, description="Use every row this many times in an epoch.")
    weight: Number = Field(
        1.0, ge=0, description="Loss weight of every trained token of this source; 0.5 halves its influence."
    )

    _is_an_encoding = field_validator("encoding")(_unless_empty(_known_encoding))
    _is_one_character = field_validator("delimiter")(_unless_empty(delimiter_named))

    @model_validator(mode="after")
    def _columns_and_pattern_go_together(self) -> Source:
        if self.columns and self.format not in ("auto", "pattern"):
            raise ValueError(f"columns are read by format pattern, not {self.format}. Leave out one of them")
        if self.format == "pattern" and not self.columns:
            raise ValueError(
                'format pattern needs columns, such as {user: "{title}", assistant: "{summary}"}. Add them'
            )
        return self


class DataSettings(Settings):
    """The data and how it becomes examples."""

    sources: list[Source] = Field(
        default_factory=list,
        description=(
            "Training data: a path, or a list of paths or of mappings with path, format, rows, repeat, weight and"
            " so on."
        ),
    )
    heldout: list[Source] = Field(
        default_factory=list, description="Held-out data to evaluate on. Empty: `heldout_share` of the sources."
    )
    format: Format = Field(
        "auto", description="Format of every source that sets no format of its own; `auto` detects it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "For `format: pattern`, in every source without columns of its own: a text with {column} for each role, "
            'such as user: "{title}".'
        ),
    )
    encoding: str | None = Field(
        None,
        description=(
            "Encoding of the text files of every source without one of its own, such as gb18030 or cp1252. "
            "Empty: a byte order mark, UTF-8, or what the bytes certainly are."
        ),
    )
    delimiter: str | None = Field(
        None, description="Character between the fields of CSV files, such as ';' or 'tab'. Empty: as the header shows."
    )
    sheet: str | None = Field(None, description="Sheet of .xlsx workbooks. Empty: the first one.")
    heldout_share: Number = Field(
        0.05,
        ge=0,
        lt=1,
        description=(
            "Share of the rows to hold out where `heldout` is empty. A row's content decides, so the same row is "
            "always held out."
        ),
    )
    heldout_max: int = Field(500, ge=0, description="Largest number of held-out rows.")
    on_bad_row: Literal["stop", "skip"] = Field(
        "stop", description="When a row cannot be used: stop and report its place, or leave it out and count it."
    )
    train_on: Literal["assistant", "last", "all"] = Field(
        "assistant",
        description="Which tokens are trained: those of every assistant turn, of the last one only, or all tokens but "
        "the first, also in turns of weight 0.",
    )
    max_tokens: int | None = Field(
        None, ge=8, description="Longest example in tokens. Empty: the model's context length."
    )
    too_long: Literal["drop", "keep_last_turns", "truncate_answer", "split", "refuse"] | None = Field(
        None,
        description=(
            "When an example exceeds max_tokens: leave it out, drop its oldest exchanges, cut the answer (and train no "
            "stop token), split plain text, or stop. Empty: `drop`, but `split` for text without a prompt."
        ),
    )
    history_rewritten: Literal["every_turn", "last_turn", "refuse"] = Field(
        "every_turn",
        description=(
            "When the template changes earlier turns as a conversation grows: train every turn after the prompt that "
            "serving would see, train only the last group of turns that share a prompt, or stop."
        ),
    )
    inline_reasoning: Literal["split", "keep"] = Field(
        "split",
        description=(
            "When an answer contains <think>…</think>: move that text into `reasoning`, or keep it in the answer."
        ),
    )
    typed_control_tokens: Literal["escape", "keep", "refuse"] = Field(
        "escape",
        description=(
            "When text in the data spells a control token: encode it as ordinary text, keep the control token, or stop."
        ),
    )
    rendered_rows: Literal["read", "keep", "refuse"] = Field(
        "read",
        description=(
            "When a row is text that a chat template has rendered already: read it back into messages, and stop where "
            "that is not exact; keep the text as it is, headers included; or stop."
        ),
    )
    dropped_text: Literal["refuse", "accept"] = Field(
        "refuse",
        description=(
            "When the template does not print some text of a conversation: refuse the row, or accept the loss and "
            "count it."
        ),
    )
    template_variables: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Variables for the chat template, such as enable_thinking. Training and serving use the same values."
        ),
    )
    date: str | None = Field(
        None,
        description=(
            "Date that templates print, as YYYY-MM-DD. Empty: the day when the run's data is first prepared; the "
            "run saves it."
        ),
    )
    prompt_completion: Literal["chat", "plain"] = Field(
        "chat",
        description="Train prompt/completion rows of text as one chat exchange, or as plain text without the template.",
    )
    deduplicate: bool = Field(
        False, description="Leave out rows whose content occurred before. Duplicates are counted in any case."
    )
    workers: int = Field(
        1,
        ge=0,
        description=(
            "Processes that prepare the data; 0 means one for each core. The result does not depend on the number."
        ),
    )
    store: PathText | None = Field(None, description="Folder for prepared data. Empty: a folder in the user's cache.")

    @field_validator("template_variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = template_input_in(value)
        if name is not None:
            raise ValueError(
                f"expected variables of the template, without {name}; rows bring their own messages and tools"
            )
        return value

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        try:
            return value if value is None else date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError("input should be a day such as 2026-11-25") from None

    _is_an_encoding = field_validator("encoding")(_unless_empty(_known_encoding))
    _is_one_character = field_validator("delimiter")(_unless_empty(delimiter_named))

    @model_validator(mode="before")
    @classmethod
    def _paths_are_sources(cls, values: Any) -> Any:
        """Make a mapping of every source that is a path, with the format and columns that apply to all sources."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        shared = {key: values[key] for key in ("format", "columns", *_FILE_KEYS) if values.get(key)}
        for key in ("sources", "heldout"):
            sources = values.get(key)
            # One source needs no list around it.
            if isinstance(sources, str | Mapping):
                sources = [sources]
            # Anything else stays as it is: pydantic reports its type with the right key.
            if isinstance(sources, list):
                values[key] = [_with_shared(source, shared) for source in sources]
        return values

    @property
    def holds_out(self) -> bool:
        """Whether any row is held out: from files of their own, or as a share of the sources."""
        return self.heldout_max > 0 and (bool(self.heldout) or self.heldout_share > 0)


class TrainingSettings(Settings):
    """The optimizer step and the length of the run."""

    epochs: Number = Field(
        3.0, gt=0, description="Passes over the data; usually 1 to 3. Ignored where max_steps is set."
    )
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimizer steps. Empty: `epochs` decides."
    )
    batch_size: int = Field(32, ge=1, description="Examples in an optimizer step, over all devices; usually 16 to 128.")
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
        None, gt=0, description="Peak learning rate. Empty: 2e-5 for full fine-tuning, 2e-4 for LoRA."
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
            "Generation tasks to run on the held-out rows, in addition to their loss: exact_match, numeric and others."
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
    final: Literal["best", "last"] = Field(
        "last",
        description="Checkpoint that becomes the run's model: the last one, or the one with the lowest held-out loss.",
    )

    @field_validator("final")
    @classmethod
    def _the_best_is_kept(cls, value: str, info: ValidationInfo) -> str:
        if value == "best" and info.data.get("keep_best") is False:
            raise ValueError("that checkpoint is not kept. Set checkpoint.keep_best: true, or last")
        return value


class ParallelSettings(Settings):
    """The processes and how the weights are divided over them. Never changes the result."""

    processes: int = Field(1, ge=1, description="Number of processes, one for each device.")
    mode: Literal["auto", "replicated", "sharded"] = Field(
        "auto",
        description=(
            "Each process holds all weights, or one shard of them (FSDP2). `auto` shards where all weights would "
            "not fit."
        ),
    )
    timeout_minutes: Number = Field(
        10.0,
        gt=0,
        le=LONGEST_WAIT,
        description="Minutes that processes wait for each other before the run ends with an error.",
    )


class TrackingSettings(Settings):
    """Trackers that receive the metrics in addition to the run folder. None by default."""

    to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Trackers that receive the metrics."
    )
    project: str = Field("instil", min_length=1, description="Project name for wandb and trackio.")
    name: str | None = Field(None, description="Run name for the trackers. Empty: the run folder's name.")


class Recipe(Settings):
    """Every setting of a run.

    Example:
        >>> Recipe.from_mapping({"data": {"sources": ["rows.jsonl"]}, "optimizer": {"lr": "2e-5"}}).optimizer.lr
        2e-05
    """

    output: PathText = Field(
        "runs/{name}", description="Run folder to write; {name} stands for the name of the recipe file."
    )
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="Number of CPU threads. Empty: PyTorch decides."
    )
    device: str = Field("auto", description="Device to train on: auto, cpu, cuda, cuda:1 or mps.")
    model: ModelSettings = Field(default_factory=ModelSettings, description="The model and how it is loaded.")
    adapter: AdapterSettings = Field(default_factory=AdapterSettings, description="Low-rank adapters.")
    data: DataSettings = Field(default_factory=DataSettings, description="The data and how it becomes examples.")
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="The optimizer step and the length of the run."
    )
    optimizer: OptimizerSettings = Field(
        default_factory=OptimizerSettings, description="The optimizer and the learning rate."
    )
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="What is measured during training."
    )
    checkpoint: CheckpointSettings = Field(
        default_factory=CheckpointSettings, description="Which checkpoints are saved and kept."
    )
    parallel: ParallelSettings = Field(default_factory=ParallelSettings, description="The processes of the run.")
    tracking: TrackingSettings = Field(
        default_factory=TrackingSettings, description="Trackers that receive the metrics too."
    )

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_its_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            return {key: value for key, value in values.items() if value is not None or key not in _SECTIONS}
        return values

    @model_validator(mode="wrap")
    @classmethod
    def _in_plain_words(cls, values: Any, check: ModelWrapValidatorHandler[Recipe], info: ValidationInfo) -> Recipe:
        try:
            return check(values)
        except ValidationError as error:
            source = (info.context or {}).get("source", "recipe")
            raise RecipeError(f"{source}: {_explain(cls, error)}") from None

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """Read a YAML recipe, apply overrides and check the result.

        Args:
            path: The YAML file. Relative data paths in it stay relative to the working folder.
            overrides: Mapping whose values replace those of the file; nested, or with dotted keys.

        Raises:
            RecipeError: If the file is missing or is no YAML mapping, or a key or value is not allowed. The message
                names the file, the key and, for an unknown key, the nearest known one.
        """
        # Why: YAML is imported only if a file is read.
        from instil.recipe_yaml import read_recipe_file

        if not isinstance(path, (str, Path)):
            raise RecipeError(f"recipe: found {path!r}. Expected the path of a YAML file. Use Recipe.from_mapping.")
        path = home_path(path)
        values = read_recipe_file(path)
        merged = _merge(_with_short_forms(values), nested_settings(overrides or {}))
        return cls.from_mapping(merged, source=str(path), name=path.stem)

    @classmethod
    def load_saved(cls, folder: str | Path) -> Recipe:
        """Read the resolved recipe of a run folder.

        Raises:
            RecipeError: As `load`, and if the file has no settings. A run writes all of them, so the file was cut off.
        """
        path = home_path(folder) / "recipe.yaml"
        recipe = cls.load(path)
        if recipe.model_fields_set <= {"output"}:  # `from_mapping` always sets it
            raise RecipeError(
                f"{path}: no setting in it. Expected the run's resolved recipe. "
                "Replace the file with the recipe that started the run, or name another run."
            )
        return recipe

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str = "recipe", name: str = "recipe") -> Recipe:
        """Check a mapping of settings.

        Args:
            values: Settings, nested as in the file or with dotted keys.
            source: Name of the mapping in errors.
            name: Replaces {name} in `output`.

        Raises:
            RecipeError: On the first unknown key or wrong value.
        """
        recipe = cls.model_validate(nested_settings(values), context={"source": source})
        return recipe.model_copy(update={"output": recipe.output.replace("{name}", name)})

    def override(self, values: Mapping[str, Any]) -> Recipe:
        """Return a copy in which other values replace those of this recipe.

        Args:
            values: Settings, nested as in the file or with dotted keys.

        Raises:
            RecipeError: On an unknown key, with the nearest known one, or a wrong value.

        Example:
            >>> Recipe().override({"optimizer.lr": 1e-4, "model": "demo"}).optimizer.lr
            0.0001
        """
        return Recipe.from_mapping(_merge(self.model_dump(exclude_unset=True), nested_settings(values)))

    @property
    def has_memory_rows(self) -> bool:
        """Whether a source is rows that a Python program passed. The command line cannot start such a recipe."""
        return any(source.path.startswith(MEMORY_ROWS) for source in (*self.data.sources, *self.data.heldout))

    def to_yaml(self) -> str:
        """Return every setting, defaults included, as YAML that `load` reads back to an equal recipe."""
        import yaml

        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        return (_FROM_PYTHON if self.has_memory_rows else "") + text

    def save(self, path: str | Path) -> None:
        """Write `to_yaml` into a file, which is complete or stays as it was.

        Raises:
            RecipeError: If the file cannot be written.
        """
        file = home_path(path)
        try:
            with refused_writes(file, raises=RecipeError, otherwise="choose another file"):
                write_text_atomic(file, self.to_yaml())
        except ValueError as error:  # an empty name
            raise RecipeError(
                f"{str(path)!r}: cannot be written ({first_line_of(error)}). Expected a file such as recipe.yaml. "
                "Choose another."
            ) from None


MEMORY_ROWS = "rows:"
"""What the path of a source begins with that is rows from memory; the fingerprint of the rows follows."""


def source_name(path: str) -> str:
    """Return the name of a source for people: its path, or that it is rows from memory.

    Example:
        >>> source_name("rows.jsonl"), source_name("rows:5f2c")
        ('rows.jsonl', 'rows from memory')
    """
    return "rows from memory" if path.startswith(MEMORY_ROWS) else path


_FROM_PYTHON = """# The rows came from a Python program. The command line cannot start this recipe:
# call instil.train(recipe, data=rows).
"""
_SECTIONS = frozenset(name for name, field in Recipe.model_fields.items() if field.default_factory is not None)


def nested_settings(values: Any) -> dict[str, Any]:
    """Return settings nested as in a recipe file, from settings whose keys may have dots.

    Raises:
        RecipeError: If they are no mapping, a key is no text, or a setting occurs twice.

    Example:
        >>> nested_settings({"optimizer.lr": 1e-4, "optimizer": {"clip": 1}, "model": "demo"})
        {'optimizer': {'lr': 0.0001, 'clip': 1}, 'model': {'name': 'demo'}}
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"settings: found {values!r}. Expected a mapping of settings. See docs/settings.md.")
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise RecipeError(f"settings: found the key {key!r}. Expected the name of a setting. Fix or remove it.")
        group, dot, name = key.partition(".")
        entry = _with_short_forms({group: {name: value} if dot else value})
        both = group in nested and isinstance(nested[group], Mapping) and isinstance(entry[group], Mapping)
        twice = sorted(nested[group].keys() & entry[group].keys()) if both else []
        if twice or (group in nested and not both):
            setting = ".".join([group, *twice[:1]])
            raise RecipeError(f"{setting}: found twice. Expected one value. Remove one of them.")
        nested[group] = {**nested[group], **entry[group]} if both else entry[group]
    return nested


def _with_short_forms(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which ``model: demo`` is written in full."""
    model = values.get("model")
    return {**values, "model": {"name": model}} if isinstance(model, str) else dict(values)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _with_shared(source: Any, shared: Mapping[str, Any]) -> Any:
    """Return a source as a mapping; one that sets its own format or columns takes neither from `shared`."""
    if isinstance(source, str):
        source = {"path": source}
    if not isinstance(source, Mapping):
        return source
    if not {"format", "columns"}.isdisjoint(source):
        shared = {key: value for key, value in shared.items() if key in _FILE_KEYS}
    return {**shared, **source}


def _explain(recipe: type[Settings], error: ValidationError) -> str:
    """Return a validation error as one line: the key, what was found, what is allowed, what to do."""
    errors = error.errors()
    # An unknown key comes first: it is often the reason for the other errors.
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    # Pydantic adds the tried member of a union to the location; it is no part of the key.
    location = [part for part in first["loc"] if not (isinstance(part, str) and ("[" in part or part in _UNION_TAGS))]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        allowed = list(_settings_at(recipe, location[:-1]).model_fields)
        name = str(location[-1])
        meant = known_elsewhere(name) or nearest(name, allowed) or in_another_group(name)
        return f"unknown key {key!r}{meant}. Allowed here: {', '.join(allowed)}. Fix or remove it."
    reason = first["msg"].removeprefix("Value error, ")
    reason = re.sub(r"a valid dictionary or instance of \w+", "a mapping of settings", reason)
    return f"{key or 'settings'}: found {first.get('input')!r}. {reason[0].upper()}{reason[1:]}. See docs/settings.md."


def in_another_group(name: str) -> str:
    """Return a hint with the group of a setting, or nothing where no group or several have the name."""
    groups = [group for group in _SECTIONS if name in _settings_at(Recipe, [group]).model_fields]
    return f" (did you mean {groups[0] + '.' + name!r}?)" if len(groups) == 1 else ""


_UNION_TAGS = {"int", "constrained-int", "str", "float", "literal", "none"}


def _settings_at(recipe: type[Settings], location: list[Any]) -> type[Settings]:
    """Return the group of settings at a location such as ``('data', 'sources', 0)``."""
    group = recipe
    for part in location:
        if isinstance(part, int):
            continue
        annotation = group.model_fields[part].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, Settings):
                group = candidate
    return group

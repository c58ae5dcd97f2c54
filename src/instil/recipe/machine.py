"""The settings of the processes of a run and of its trackers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from instil.recipe.settings import LONGEST_WAIT, Number, Settings


class ParallelSettings(Settings):
    """The processes and how the weights are divided over them. Never changes the result."""

    processes: int = Field(1, ge=1, description="Number of processes, one for each device.")
    launcher: Literal["own", "ray"] = Field(
        "own",
        description=(
            "What starts the processes: this program, on this machine, or Ray Train, on the cluster that RAY_ADDRESS "
            "names. Under torchrun they are started already."
        ),
    )
    fewest_processes: int | None = Field(
        None,
        ge=1,
        description=(
            "With `launcher: ray`: train on as few processes as this while nodes are missing, and on `processes` when "
            "they are back. Empty: always on `processes`."
        ),
    )
    restarts: int = Field(
        3,
        ge=0,
        description="With `launcher: ray`: how often the run goes on by itself after a process or a node died.",
    )
    mode: Literal["auto", "replicated", "sharded"] = Field(
        "auto",
        description=(
            "Each process holds all weights, or one shard of them (FSDP2). `auto` shards where all weights would "
            "not fit."
        ),
    )
    sequence: int = Field(
        1,
        ge=1,
        description=(
            "Number of processes that share the tokens of each micro-batch, for examples too long for one device. "
            "It divides `processes`."
        ),
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        "none",
        description=(
            "What a GPU keeps in the machine's memory while it does not use it. `optimizer`: the optimizer's state. "
            "`all`: weights, gradients and state of sharded weights, which the CPU then updates. Slower steps."
        ),
    )
    timeout_minutes: Number = Field(
        10.0,
        gt=0,
        le=LONGEST_WAIT,
        description="Minutes that processes wait for each other before the run ends with an error.",
    )

    @model_validator(mode="after")
    def _sequence_divides_processes(self) -> ParallelSettings:
        # One process: torchrun may start others. The run itself checks their number.
        if self.processes > 1 and self.processes % self.sequence:
            raise ValueError(
                f"sequence is {self.sequence}, which does not divide processes ({self.processes}). "
                f"Set processes to a multiple of {self.sequence}, or sequence to a divisor of {self.processes}"
            )
        if self.sequence > 1 and self.fewest_processes is not None:
            raise ValueError(
                f"sequence is {self.sequence}, and fewest_processes lets the number of processes change to one that it "
                "does not divide. Leave fewest_processes out, or set sequence to 1"
            )
        return self

    @model_validator(mode="after")
    def _fewest_are_not_more(self) -> ParallelSettings:
        if self.fewest_processes is None:
            return self
        if self.launcher != "ray":
            raise ValueError(
                "fewest_processes needs launcher: ray, which replaces processes. Set it, or leave this out"
            )
        if self.fewest_processes > self.processes:
            raise ValueError(
                f"fewest_processes is {self.fewest_processes}, more than processes ({self.processes}). Raise processes"
            )
        return self

    def allows(self, size: int) -> bool:
        """Return whether a run of these settings may have `size` processes."""
        if self.fewest_processes is not None:
            return self.fewest_processes <= size <= self.processes
        return self.processes in (1, size)


class TrackingSettings(Settings):
    """Trackers that receive the metrics in addition to the run folder. None by default."""

    to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Trackers that receive the metrics."
    )
    project: str = Field("instil", min_length=1, description="Project name for wandb and trackio.")
    name: str | None = Field(None, description="Run name for the trackers. Empty: the run folder's name.")

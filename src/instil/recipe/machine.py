"""The settings of the processes of a run and of its trackers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instil.recipe.settings import LONGEST_WAIT, Number, Settings


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

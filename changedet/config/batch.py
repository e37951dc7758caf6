"""Options of `changedet batch run`."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import Field, model_validator

from changedet.config.base import checked
from changedet.config.run import RunConfig

# What a manifest says, or what goes with one pair alone.
_OF_THE_PLAN: Final = ("bands", "dates", "bounds", "like", "res", "aoi")
_OF_ONE_RUN: Final = ("reuse", "reuse_from", "append", "stac", "report")


class BatchConfig(RunConfig):
    """Options of `changedet batch run`: those of `run` that are of every tile, and how the work is shared out.

    Attributes:
        workers: processes on this machine; None takes as many as cores and memory allow.
        scheduler: address of a running Dask scheduler, `tcp://HOST:PORT`, to which workers belong; None starts
            `workers` here.
        retries: how often a tile is tried again whose worker raised what may pass.
    """

    workers: int | None = Field(default=None, ge=1)
    scheduler: str | None = None
    retries: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _of_a_batch(self) -> Self:
        for names, why in ((_OF_THE_PLAN, "is the plan's: `changedet batch plan`"), (_OF_ONE_RUN, "is of one run")):
            said = next((name for name in names if getattr(self, name) != RunConfig.model_fields[name].default), None)
            if said:
                raise ValueError(f"{said} {why}")
        if self.scheduler is not None and self.workers is not None:
            raise ValueError("workers are those of the scheduler: choose one")
        return self

    def of_pair(self, **own: Any) -> RunConfig:
        """Return the options of a run of one pair of the batch, with `own` instead of those of the batch."""
        return RunConfig(**{name: getattr(self, name) for name in RunConfig.model_fields} | own)


def check_batch_options(options: dict[str, Any]) -> BatchConfig:
    """Return validated options of a batch.

    Raises:
        ConfigError: an unknown option, a wrong value, or one that a batch does not have.
    """
    return checked(BatchConfig, options)

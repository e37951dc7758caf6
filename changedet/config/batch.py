"""Options of `changedet batch run`, and of a batch in a pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, model_validator

from changedet.config.base import Config, checked
from changedet.config.plan import PlanConfig
from changedet.config.run import RunConfig

# What a manifest says, or what goes with one pair alone.
_OF_THE_PLAN: Final = ("bands", "dates", "bounds", "like", "res", "aoi")
_OF_ONE_RUN: Final = ("reuse", "reuse_from", "append", "stac", "report")
# What only a plan asks for.
_PLANNED: Final = tuple(name for name in PlanConfig.model_fields if name not in RunConfig.model_fields)


class Sharing(Config):
    """How the work of a batch is shared out.

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
    def _one_of_both(self) -> Self:
        if self.scheduler is not None and self.workers is not None:
            raise ValueError("workers are those of the scheduler: choose one")
        return self


class BatchConfig(RunConfig, Sharing):
    """Options of `changedet batch run`: those of `run` that are of every tile, and how the work is shared out."""

    @model_validator(mode="after")
    def _of_a_batch(self) -> Self:
        _refuse(self, _OF_THE_PLAN, "is the plan's: `changedet batch plan`")
        _refuse(self, _OF_ONE_RUN, "is of one run")
        return self

    def of_pair(self, **own: Any) -> RunConfig:
        """Return the options of a run of one pair of the batch, with `own` instead of those of the batch."""
        return RunConfig(**{name: getattr(self, name) for name in RunConfig.model_fields} | own)


class BatchStep(PlanConfig, Sharing):
    """The `batch` block of a pipeline file: a plan where there are sources to plan from, and the run of its manifest.

    Attributes:
        manifest: with `before` and `after` where the plan goes, else a manifest that is there already.
        out: output folder.
        before: of the earlier date, what `changedet batch plan` takes.
        after: likewise, of the later date.
    """

    manifest: Path
    out: Path
    before: str | None = None
    after: str | None = None

    @model_validator(mode="after")
    def _plan_or_manifest(self) -> Self:
        _refuse(self, _OF_ONE_RUN, "is of one run")
        if (self.before is None) != (self.after is None):
            raise ValueError("before and after go together; without both, the manifest must be there already")
        if self.before is None:
            _refuse(self, (*_OF_THE_PLAN, *_PLANNED), "is of a plan, which takes before and after")
        return self

    def plan_options(self) -> dict[str, Any]:
        """Return what was said that `changedet batch plan` takes."""
        return self.model_dump(include={*PlanConfig.model_fields} - {"overwrite"}, exclude_unset=True)

    def run_options(self) -> dict[str, Any]:
        """Return what was said that `changedet batch run` takes."""
        return self.model_dump(include={*BatchConfig.model_fields} - {*_OF_THE_PLAN}, exclude_unset=True)


def _refuse(config: RunConfig, names: tuple[str, ...], why: str) -> None:
    said = next((name for name in names if getattr(config, name) != type(config).model_fields[name].default), None)
    if said:
        raise ValueError(f"{said} {why}")


def check_batch_options(options: dict[str, Any]) -> BatchConfig:
    """Return validated options of a batch.

    Raises:
        ConfigError: an unknown option, a wrong value, or one that a batch does not have.
    """
    return checked(BatchConfig, options)

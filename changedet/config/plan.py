"""Options of `changedet batch plan`."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from changedet.config.base import PerDate, checked
from changedet.config.run import RunConfig

# A few chips of the largest size: minutes of work, and files that open at once.
_TILE_SIZE: Final = "4096"


class PlanConfig(RunConfig):
    """Options of `changedet batch plan`: those of `run` that a plan depends on, and how the ground is cut into tiles.

    Attributes:
        match: for folders and item collections, what the names of scenes look like; see
            `changedet.batch.sources.find_pairs`.
        tile_size: side of a tile, px or metres (`5000m`), in whole chips.
        xyz: zoom level of the tiles of a web map, instead.
        tms: tile matrix set whose tiles these are.
        mgrs: the 100 km squares of MGRS instead.
        tiles: polygons of this vector file instead.
        tile_id: column of their names.
        other_grids: `warp` resamples scenes in another CRS or on another grid, `refuse` leaves them out and says so.
        apart: each pair of scenes is a mosaic of its own, even where it touches others.
    """

    match: PerDate[str] = ()
    tile_size: str = _TILE_SIZE
    xyz: int | None = Field(default=None, ge=0)
    tms: str = "WebMercatorQuad"
    mgrs: bool = False
    tiles: str | None = None
    tile_id: str | None = None
    other_grids: Literal["warp", "refuse"] = "warp"
    apart: bool = False

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        asked = [self.xyz is not None, self.mgrs, self.tiles is not None, self.tile_size != _TILE_SIZE]
        if sum(asked) > 1:
            raise ValueError("expected one of tile_size, xyz, mgrs and tiles")
        if self.tile_id is not None and self.tiles is None:
            raise ValueError("tile_id is a column of the file of `tiles`, which is not named")
        return self

    def of_run(self) -> RunConfig:
        """Return those that are of a run too."""
        return RunConfig(**{name: getattr(self, name) for name in RunConfig.model_fields})


def check_plan_options(options: dict[str, Any]) -> PlanConfig:
    """Return validated options of a plan.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    return checked(PlanConfig, options)

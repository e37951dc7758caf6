"""The user's creation options of COGs, tried before the work on rasters of a few pixels.

GDAL itself would tell of one that it does not take after the work, or ignore it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.errors import ConfigError, OutputError
from changedet.grid.window import Window
from changedet.write.raster import RasterLayout, RasterSink, mask_layout, probability_layout, to_cog

_GRID = GeoBox((16, 16), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32633")


def check_creation_options(options: Mapping[str, str], *, dtype: str = "uint8") -> None:
    """Check that GDAL's COG driver takes creation options, for masks and for probabilities.

    Args:
        options: name → value; empty ones are not tried.
        dtype: of probability.tif.

    Raises:
        ConfigError: it refuses or ignores one.
    """
    if not options:
        return
    layouts = {"mask": mask_layout(_GRID, classes=1), "probability": probability_layout(_GRID, dtype=dtype)}
    with tempfile.TemporaryDirectory(prefix="changedet-") as folder:
        for name, layout in layouts.items():
            _try(Path(folder) / name, layout, options)


def _try(path: Path, layout: RasterLayout, options: Mapping[str, str]) -> None:
    plain, cog = path.with_suffix(".plain.tif"), path.with_suffix(".tif")
    noise = np.random.default_rng(0).integers(0, 2, (layout.count, 16, 16)).astype(layout.dtype)
    with RasterSink(plain, layout) as sink:
        sink.write(Window(0, 0, 16, 16), noise)
    with _warnings_of_gdal() as warned:
        try:
            to_cog(plain, cog, overview_resampling="nearest", creation_options=options)
            wrong = _altered(plain, cog)
        except OutputError as error:
            wrong = [str(error.__cause__ or error)]
    wrong = [*(text for text in warned if any(name.upper() in text for name in options)), *wrong]
    if wrong:
        raise ConfigError(
            f"--co {', '.join(f'{name}={value}' for name, value in options.items())} for {cog.name}: {wrong[0]}",
            expected="options of GDAL's COG driver that neither move nor change a pixel",
            remedy="gdalinfo --format COG lists them",
        )


def _altered(plain: Path, cog: Path) -> list[str]:
    """Return what a copy does not keep."""
    with rasterio.open(plain) as source, rasterio.open(cog) as copy:
        if (copy.crs, copy.transform, copy.shape) != (source.crs, source.transform, source.shape):
            return ["pixels would lie on another grid than the polygons"]
        return (
            [] if np.array_equal(copy.read(), source.read()) else ["values would change, which the mask follows from"]
        )


@contextmanager
def _warnings_of_gdal() -> Iterator[list[str]]:
    """Gather what GDAL warns of, which rasterio hands to the log."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("rasterio")
    level, passed_on = log.level, log.propagate
    log.addHandler(handler)
    # The command line hears errors alone, and whoever logs warnings is not to hear of a trial.
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield told
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = passed_on

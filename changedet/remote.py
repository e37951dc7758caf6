"""What lies behind a name: a file on a disk, or what only GDAL can find; and GDAL's settings for URLs.

Below all rooms that open files, so that they agree about one name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import rasterio

# Each with its reason; names as in GDAL's documentation of its virtual file systems. Only for files behind URLs: on a
# disk the first would hide masks, overviews and world files that lie beside a raster.
_SETTINGS: Final[Mapping[str, str]] = {
    # Else opening one COG lists the folder it lies in, which many servers refuse and big buckets take seconds for.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The header of a COG of common size in one request, instead of two or three of 16 kB.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    # Tiles of one window that lie side by side in one request.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # A server that stumbles once should not cost a run of an hour.
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    # A server that never answers must not hang a run.
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
_DRIVER_PREFIXES = ("NETCDF:", "HDF5:", "HDF4_", "GTIFF_DIR:", "ZARR:", "GTI:", "vrt:")


def is_named_to_gdal(path: str) -> bool:
    """Return whether only GDAL knows if there is anything at `path`: a URL, `/vsi…` or `DRIVER:…`."""
    return "://" in path or path.startswith(("/vsi", *_DRIVER_PREFIXES))


def is_local(path: str) -> bool:
    """Return whether there is anything at a local path; what is too long for one, as a list of files may be, is none.

    Raises:
        OSError: that may not be known, as in a folder of somebody else's.
    """
    try:
        return Path(path).exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def settings_for(path: str) -> AbstractContextManager[Any]:
    """Return a context in which `path` is opened and read well; what the user's environment says comes first."""
    if "://" not in path and not path.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz")):
        return nullcontext()
    settings: AbstractContextManager[Any] = rasterio.Env(
        **{name: value for name, value in _SETTINGS.items() if name not in os.environ}
    )
    return settings

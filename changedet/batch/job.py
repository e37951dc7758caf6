"""What every worker has to know of a batch: written into its folder once, read there by every process."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from affine import Affine
from odc.geo.geobox import GeoBox

from changedet.config import BatchConfig, check_batch_options
from changedet.errors import ConfigError, NotFoundError
from changedet.grid import Window
from changedet.write.staging import atomic_path
from changedet.write.targets import FORMATS

NAME: Final = "batch.json"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A batch as its workers see it.

    Attributes:
        out: its output folder, absolute.
        batch: digest of its manifest.
        geobox: its grid.
        aoi: vector file outside whose polygons nothing is compared, absolute, or None.
        config: its options; of `vector` only the coordinator knows all.
    """

    out: Path
    batch: str
    geobox: GeoBox
    aoi: str | None
    config: BatchConfig

    def crop(self, window: Window) -> GeoBox:
        """Return a part of the grid."""
        rows, cols = window.slices
        return self.geobox[rows, cols]

    def write(self) -> JobRef:
        """Write it into its folder, and return what workers find it by."""
        text = json.dumps(self.as_json(), indent=2)
        with atomic_path(self.out / NAME, overwrite=True) as path:
            path.write_text(text, encoding="utf-8")
        return JobRef(os.fspath(self.out), hashlib.sha256(text.encode()).hexdigest())

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        crs, config = self.geobox.crs, self.config.model_dump(mode="json")
        return {
            "batch": self.batch,
            "crs": crs and crs.to_wkt(),
            "transform": list(map(float, self.geobox.affine[:6])),
            "shape": list(map(int, self.geobox.shape)),
            "aoi": self.aoi,
            # Where else polygons go is the coordinator's alone, and may hold a password.
            "config": {**config, "vector": [text for text in config["vector"] if text in FORMATS]},
        }

    @classmethod
    def read(cls, out: str | os.PathLike[str]) -> Self:
        """Read the job of a batch from its output folder.

        Raises:
            NotFoundError: there is none.
            ConfigError: another version of changedet wrote it.
        """
        try:
            return cls._of_text(Path(out), (Path(out) / NAME).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no batch in {os.fspath(out)}", expected="the output folder of `changedet batch run`"
            ) from error

    @classmethod
    def _of_text(cls, out: Path, text: str) -> Self:
        try:
            record = json.loads(text)
            geobox = GeoBox(tuple(record["shape"]), Affine(*record["transform"]), record["crs"])
            return cls(out, record["batch"], geobox, record["aoi"], check_batch_options(record["config"]))
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{out / NAME} is of another version of changedet ({error})", remedy="changedet batch run again"
            ) from error


@dataclass(frozen=True, slots=True)
class JobRef:
    """Where a job lies, and which it is: so little that every task can carry it.

    Attributes:
        out: the output folder.
        digest: of what is written there.
    """

    out: str
    digest: str

    def job(self) -> Job:
        """Read the job.

        Raises:
            ConfigError: another one lies there by now.
        """
        return _read(self)

    def check_current(self) -> None:
        """Refuse to go on where another run has begun with other options: a worker may outlive its coordinator.

        Raises:
            ConfigError: it has.
        """
        self._text()

    def _text(self) -> str:
        text = (Path(self.out) / NAME).read_text(encoding="utf-8")
        if hashlib.sha256(text.encode()).hexdigest() != self.digest:
            raise ConfigError(f"another batch has begun in {self.out}", expected="the one this tile belongs to")
        return text


@lru_cache(maxsize=4)
def _read(ref: JobRef) -> Job:
    return Job._of_text(Path(ref.out), ref._text())

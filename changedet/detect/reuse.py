"""A run that differs from an earlier one only in what comes after the network takes its probabilities over.

What was learned of the pair comes from its run.json, and the rasters are copied with their overviews: no scene is read
but for the directions of the polygons.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.errors import RasterioError

from changedet.config import PolygonConfig, RunConfig
from changedet.detect.fused import FusedDetector
from changedet.detect.label_free import StatisticDetector
from changedet.detect.method import Method
from changedet.detect.prepare import Preparation, correction_of
from changedet.detect.rasters import PROBABILITY, STATISTIC, UNCERTAINTY, take_over
from changedet.errors import ConfigError, OutputExistsError
from changedet.read.report import PairReport
from changedet.write.provenance import plain, read_run_json
from changedet.write.raster import is_complete
from changedet.write.staging import RUN_JSON

# Options that the network's answers do not depend on. One that is not listed does count, so a new one is safe.
AFTER_THE_NETWORK = frozenset(
    {
        "threshold",
        "overwrite",
        "co",
        "reuse",
        "reuse_from",
        "free_only",
        "readers",
        "threads",
        "report",
        "stac",
        "vector",
        "append",
        *PolygonConfig.model_fields,
    }
)
# What the probabilities follow from, as run.json has it.
_CAUSES = ("inputs", "files", "model", "parameters", "backend", "device", "precision", "preparation", "version")


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """A run whose probabilities are those of another.

    Attributes:
        folder: with its results.
        record: its run.json.
    """

    folder: Path
    record: Mapping[str, Any]

    def begun(self, identity: dict[str, Any]) -> dict[str, Any]:
        """Return what `begin_record` would, without a look at the pair."""
        return {
            **identity,
            **{name: self.record[name] for name in ("preparation", "chips")},
            "pair": self._pair(identity),
        }

    def _pair(self, identity: dict[str, Any]) -> dict[str, Any]:
        """Return the report of the pair, whose files may have been moved since."""
        told = self.record["pair"]
        moved = {role: {**told[role], "path": entry["path"]} for role, entry in identity["inputs"].items()}
        return {**told, **moved}

    def preparation(self, method: Method, identity: dict[str, Any]) -> Preparation:
        """Return what was learned of the pair, as `method` would learn it again."""
        learned = self.record["preparation"]
        detector = method.restored(learned)
        return Preparation(
            PairReport.from_json(self._pair(identity)),
            correction_of(learned),
            fitted=detector.fitted if isinstance(detector, StatisticDetector) else None,
            term=detector.term if isinstance(detector, FusedDetector) else None,
        )

    def restore(self, folder: Path, config: RunConfig) -> None:
        """Copy its rasters, all but the mask, into the work folder of a run with these options.

        Raises:
            ConfigError: one of them is damaged.
        """
        rasters = [self.folder / name for name in _rasters(self.record["parameters"])]
        with told_of(self):
            cut_off = [raster.name for raster in rasters if not is_complete(raster, may_be_sparse=True)]
        if cut_off:
            raise self.damaged(f"{cut_off[0]} is cut off")
        take_over(rasters, folder, as_they_are=config.co == self.record["parameters"]["co"])

    def damaged(self, error: object) -> ConfigError:
        """Return the error that tells of a raster that cannot be read."""
        return ConfigError(
            f"the rasters in {self.folder} cannot be reused ({error})",
            remedy="run again with --overwrite, without --reuse",
        )


@contextmanager
def told_of(earlier: Earlier | None) -> Iterator[None]:
    """Tell of a raster that cannot be read in the block as a run that cannot be reused, where there is one.

    Raises:
        ConfigError: see above.
    """
    try:
        yield
    except RasterioError as error:
        if earlier is None:
            raise
        raise earlier.damaged(error.__cause__ or error) from error


def earlier_run(out: str | os.PathLike[str], config: RunConfig, causes: dict[str, Any]) -> Earlier | None:
    """Return an earlier run whose probabilities are those of this one, None where none is asked for.

    Args:
        out: the output folder.
        config: `reuse` takes the run in `out`, if there is one; `reuse_from` that in the folder it names.
        causes: of this run, as far as they are known, as `causes_of` gives them.

    Raises:
        ConfigError: the run in `reuse_from` is another, or none.
        OutputExistsError: what is in `out` is not such a run, and `overwrite` is not set.
    """
    if config.reuse_from is not None:
        found = _found(Path(config.reuse_from), causes)
        if isinstance(found, str):
            raise ConfigError(
                f"the run in {config.reuse_from} cannot be reused: {found}",
                expected="a run that differs only in threshold, polygons and files",
                remedy="run without --reuse-from",
            )
        return found
    if not config.reuse or not any(entry.name[0] != "." for entry in Path(out).iterdir()):
        return None
    found = _found(Path(out), causes)
    if isinstance(found, str) and not config.overwrite:
        raise OutputExistsError(
            f"the run in {os.fspath(out)} cannot be reused: {found}",
            expected="a run that differs only in threshold, polygons and files",
            remedy="--overwrite to compute it anew in its place, or another -o",
        )
    return None if isinstance(found, str) else found


def causes_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the probabilities of a run follow from.

    Args:
        record: run.json, or the part of it that is known before the network begins.
    """
    known = plain(record)
    parameters = {name: value for name, value in known["parameters"].items() if name not in AFTER_THE_NETWORK}
    inputs, files = map(_without_paths, (known["inputs"], known.get("files", {})))
    told = {"inputs": inputs, "files": files, "parameters": parameters, "version": known["versions"]["changedet"]}
    return {**known, **told}


def _without_paths(fingerprints: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return fingerprints by their names, without where the files lie."""
    return {name: {key: value for key, value in entry.items() if key != "path"} for name, entry in fingerprints.items()}


def _found(folder: Path, causes: dict[str, Any]) -> Earlier | str:
    """Return the run in `folder`, or in what it differs from this one."""
    missing = [name for name in (RUN_JSON, *_rasters(causes["parameters"])) if not (folder / name).is_file()]
    if missing:
        return f"it has no {missing[0]}"
    try:
        found = Earlier(folder, read_run_json(folder / RUN_JSON))
        earlier = causes_of(found.record)
    except ConfigError as error:
        return str(error).splitlines()[0]
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"its {RUN_JSON} cannot be read"
    if not all(entry.get("sha256_ends") for entry in (causes["inputs"] | causes["files"]).values()):
        return "whether inputs that are not on a local disk are the same cannot be told"
    for name in filter(causes.__contains__, _CAUSES):
        if earlier.get(name) != causes[name]:
            return f"another {_told(name, earlier.get(name), causes[name])}"
    return found


def _rasters(parameters: Mapping[str, Any]) -> list[str]:
    """Return the rasters that a run with these options takes over."""
    wanted = {
        PROBABILITY: True,
        STATISTIC: parameters["detector"],
        UNCERTAINTY: parameters["ensemble"] or parameters["tta"],
    }
    return [name for name, there in wanted.items() if there]


def _told(name: str, earlier: object, now: object) -> str:
    """Return the name of what differs, with the entries where it has some."""
    if not isinstance(earlier, dict) or not isinstance(now, dict):
        return f"{name}, {earlier} then and {now} now"
    differing = sorted(key for key in {*earlier, *now} if earlier.get(key) != now.get(key))
    return f"{name} ({', '.join(differing)})"

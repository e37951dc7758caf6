"""The records of what was learned of mosaics, kept in the folder of the batch until what they follow from changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from changedet import __version__
from changedet.batch.engine import Engine
from changedet.batch.inputs import Files, MosaicInputs, inputs_of
from changedet.batch.job import Job
from changedet.batch.ledger import TileResult
from changedet.batch.manifest import Mosaic
from changedet.batch.mosaics import options_of
from changedet.batch.tile import MosaicRef, Session, failed, learn_mosaic
from changedet.config import RunConfig
from changedet.detect.reuse import AFTER_THE_NETWORK
from changedet.detect.stitch import Progress
from changedet.errors import ChangeDetError, ConfigError, OutputError
from changedet.grid import ChipPlan, plan_again
from changedet.network.shipped import file_digest, resolve_model, shipped_models
from changedet.write.provenance import check_form
from changedet.write.staging import atomic_path

FOLDER: Final = "mosaics"
# What a tile follows from, of what was learned of its mosaic; the rest is for people.
_CAUSES: Final = ("dates", "model", "backend", "precision", "scaling", "preparation", "chips", "threshold")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What was learned of a mosaic.

    Attributes:
        ref: that tasks carry.
        content: see `prepare_mosaic`.
        inputs: files of the mosaic.
        plan: its chips.
    """

    ref: MosaicRef
    content: dict[str, Any]
    inputs: MosaicInputs
    plan: ChipPlan

    @property
    def model(self) -> str:
        """Digest of the model, empty where there is none."""
        return str(self.content["model"]["sha256"] or "")

    def parameters(self, config: RunConfig) -> str:
        """Return a digest of what its tiles follow from beside their inputs and the model."""
        known = {name: self.content[name] for name in _CAUSES}
        known["model"] = {name: value for name, value in known["model"].items() if name != "sha256"}
        known["area"] = self.content["key"]["area"]
        return digest_of([known, _parameters(config), config.co, __version__])


def learn(
    job: Job, session: Session, mosaics: tuple[Mosaic, ...], files: Files, engine: Engine, progress: Progress
) -> list[Record | TileResult]:
    """Return the record of each mosaic, learned now where what it follows from is not what it was.

    Args:
        job: of the batch.
        session: of this run of it.
        mosaics: in their order.
        files: gives digests.
        engine: that learns.
        progress: hears of every mosaic.

    Returns:
        Where a mosaic cannot be mapped, what becomes of all its tiles.

    Raises:
        ConfigError: another version of changedet learned it, in another form; or with these options no mosaic at all
            can be mapped.
        OutputError: the disk is full.
        NotFoundError, ModelError: a model that was asked for is not there.
    """
    models = _models(job.config)
    (job.out / FOLDER).mkdir(exist_ok=True)
    found: dict[int, Record | TileResult] = {}
    refused: list[ConfigError] = []
    missing: list[tuple[int, MosaicInputs, dict[str, str], dict[str, Any] | None]] = []
    for index, mosaic in enumerate(mosaics):
        try:
            inputs = inputs_of(mosaic.before, mosaic.after, job.crop(mosaic.window), options_of(job, mosaic), files)
        except ChangeDetError as error:
            found[index] = failed(error)
            continue
        key = _key(job, mosaic, models, inputs, files)
        kept = _kept(job.out / _name(index))
        if kept is not None and kept["key"] == key:
            check_form(kept, job.out / _name(index))
            found[index] = _record(index, mosaic, kept, inputs)
        else:
            missing.append((index, inputs, key, kept))
    tasks = ((task, (session, mosaics[task[0]], _lattice(kept, key))) for task in missing for _, _, key, kept in [task])
    for done, finished in enumerate(engine.map(learn_mosaic, tasks), start=1):
        index, inputs, key, _ = finished.item
        if finished.error is None:
            content = {"key": key, **finished.value}
            _keep(job.out / _name(index), content)
            found[index] = _record(index, mosaics[index], content, inputs)
        elif isinstance(finished.error, OutputError):
            raise finished.error
        else:
            found[index] = failed(finished.error)
            refused += [finished.error] if isinstance(finished.error, ConfigError) else []
        progress("prepare", done, len(missing))
    if len(refused) == len(mosaics):
        raise refused[0]
    return [found[index] for index in range(len(mosaics))]


def _key(job: Job, mosaic: Mosaic, models: list[str], inputs: MosaicInputs, files: Files) -> dict[str, str]:
    """Return digests of what a record follows from; the lattice of its chips follows from `chips` alone."""
    asked = [_parameters(job.config), job.aoi, mosaic.bands, mosaic.dates, str(mosaic.window), models, __version__]
    return {
        "chips": digest_of(asked),
        "threshold": str(job.config.threshold),
        "inputs": inputs.digest,
        "area": files.digest(job.aoi) if job.aoi else "",
    }


def _lattice(kept: dict[str, Any] | None, key: dict[str, str]) -> dict[str, Any] | None:
    """Return the lattice that was decided before, as long as what it follows from is the same."""
    return kept["chips"] if kept is not None and kept["key"]["chips"] == key["chips"] else None


def _parameters(config: RunConfig) -> dict[str, Any]:
    """Return the options that the network's answers depend on."""
    names = set(RunConfig.model_fields) - AFTER_THE_NETWORK
    return config.model_dump(mode="json", include=names)


def _models(config: RunConfig) -> list[str]:
    """Return digests of the models that may be used."""
    if config.detector not in (None, "deep"):
        return []
    named = [name for name in (config.model, *config.ensemble) if name is not None]
    return [file_digest(resolve_model(name)) for name in named or sorted(shipped_models())]


def _name(index: int) -> str:
    return f"{FOLDER}/{index:06d}.json"


def _record(index: int, mosaic: Mosaic, content: dict[str, Any], inputs: MosaicInputs) -> Record:
    return Record(MosaicRef(mosaic, _name(index), digest_of(content)), content, inputs, plan_again(content["chips"]))


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content


def _keep(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

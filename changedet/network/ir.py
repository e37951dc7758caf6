"""Models as OpenVINO's intermediate representation (IR): converted once, cached under the model's hash, torch-free.

The cache is a folder a model and version of OpenVINO, made elsewhere and renamed into place, so that what exists is
complete and two runs that convert the same model do not meet. It may be deleted at any time.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import platformdirs

from changedet.config import NEUTRAL_REFLECTANCE
from changedet.errors import ConfigError, ModelError
from changedet.network.card import Card
from changedet.network.child import peak_bytes, run_child
from changedet.network.graph import place_graph, shipped_graph

Precision = Literal["float32", "bfloat16"]
IR_NAME: Final = "model.xml"

# Raised whenever what is written into the cache changes.
_FORMAT: Final = 2
_HINTS: Final = {"float32": "f32", "bfloat16": "bf16"}
# Side (px) of the chip whose peak memory is measured: `s2-urban-rgb` takes the same a px from 256 to 1536, and what a
# smaller one takes is lost in what a process takes.
_SIDE = 256
# Bytes a px are rounded up to a multiple of this, so that noise in the measurement rarely changes the chip size.
_STEP = 32


def cache_folder() -> Path:
    """Return the folder of converted models: `CHANGEDET_CACHE`, or the user's cache folder."""
    named = os.environ.get("CHANGEDET_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("changedet", appauthor=False)


@cache
def load_openvino() -> Any:
    """Import OpenVINO, without the part of it that reports its use to Intel.

    Raises:
        ConfigError: it is not installed, or its libraries do not load here.
    """
    # What cannot be imported is not used: OpenVINO then takes its own stub.
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            f"OpenVINO cannot be loaded ({error})", expected="pip install openvino", remedy="--backend torch"
        ) from error
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


def network_ir(model: Path, digest: str) -> Path:
    """Return the IR of a model file, made now where the cache does not have it.

    Of a shipped model from its graph, in no time; others are converted.

    Args:
        model: the file.
        digest: its SHA-256.

    Raises:
        ModelError: OpenVINO cannot convert it.
        ConfigError: OpenVINO is not there, or the cache folder cannot be written.
    """
    folder = cache_folder() / f"{digest[:32]}-{_FORMAT}-openvino-{version('openvino')}"
    if not (folder / IR_NAME).is_file():
        with _made_elsewhere(folder) as work:
            graph = shipped_graph(digest)
            if graph.is_file():
                place_graph(graph, model, work / IR_NAME)
            else:
                _convert(model, work)
    return folder / IR_NAME


def compile_network(ir: Path, precision: Precision, shape: tuple[int, ...], threads: int | None = None) -> Any:
    """Return a request for answers of an IR, compiled for this processor and for images of one shape.

    Knowing the shape halves the memory it takes, and compiling takes tenths of a second.

    Args:
        ir: as `network_ir` gives it.
        precision: of its arithmetic.
        shape: of each date, (N, C, H, W), H and W multiples of the stride.
        threads: that compute; all cores when None.

    Raises:
        ModelError: the file is damaged, or takes no such images.
    """
    core = load_openvino().Core()
    # Unpinned: reading and writing share the cores with the network, and other programs may too.
    options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "ENABLE_CPU_PINNING": False}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        graph = core.read_model(ir)
        graph.reshape(dict.fromkeys(("before", "after"), shape))
        return core.compile_model(graph, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot load {ir} for images {shape}: {error}", remedy=f"delete the folder {ir.parent}"
        ) from error


def measured_bytes_per_px(ir: Path, card: Card, precision: Precision) -> float:
    """Return what a network takes on this processor: peak memory for each px of a chip, without its input.

    Measured now, in a process of its own, where that was not done before.
    """
    record = ir.with_name(f"{precision}.json")
    if not record.is_file():
        told = run_child(
            "from changedet.network.ir import _measure; _measure()", str(ir), precision, card.model_dump_json()
        )
        partial = record.with_name(f".{record.name}.{os.getpid()}")
        partial.write_text(told)
        partial.replace(record)
    return float(json.loads(record.read_text())["bytes_per_px"])


def native_precision() -> Precision:
    """Return the precision that OpenVINO takes by itself: bfloat16 only where it is native, not where it can be had."""
    default = load_openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return "bfloat16" if default.to_string() == "bf16" else "float32"


def converts_here() -> bool:
    """Return whether a model that no graph is shipped for is converted in this process: where it has torch already."""
    return "torch" in sys.modules


def _convert(model: Path, folder: Path) -> None:
    if converts_here():
        from changedet.network.convert import convert

        convert(model, folder / IR_NAME)
        return
    # In a process of its own, which takes torch's memory with it when it ends.
    run_child("from changedet.network.convert import main; main()", str(model), str(folder / IR_NAME))


def _measure() -> None:
    """Print, in a child process, what a network takes."""
    ir, precision, told = sys.argv[1:]
    card = Card.model_validate_json(told)
    # Attention takes more a pixel the larger the chip, so a chip of fixed size is measured near that.
    side = max(card.chip_px or 0, _SIDE // card.stride * card.stride)
    # What libraries and weights take is there after a small chip, and that chip's own memory is next to nothing.
    small, large = (_peak_with(Path(ir), precision, card, size) for size in (4 * card.stride, side))  # type: ignore[arg-type]  # one of the two
    per_px = (large - small) / side**2 if small else card.memory_bytes_per_px
    print(json.dumps({"bytes_per_px": math.ceil(per_px / _STEP) * _STEP}))  # noqa: T201  # to the parent


def _peak_with(ir: Path, precision: Precision, card: Card, side: int) -> int:
    image = np.full((1, len(card.bands), side, side), NEUTRAL_REFLECTANCE, dtype=np.float32)
    # Used where it lies, as a chip is: the arrays of a chip are no part of the network's memory.
    compile_network(ir, precision, image.shape).infer([image, image], share_inputs=True)
    return peak_bytes()


@contextmanager
def _made_elsewhere(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; renamed to `folder` in the end, unless another process was faster."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(
            f"the cache folder {folder.parent} cannot be written ({error.strerror})",
            expected="a folder for converted models",
            remedy="set CHANGEDET_CACHE to another, or --backend torch",
        ) from error
    try:
        yield work
        try:
            work.rename(folder)
        except OSError:
            if not (folder / IR_NAME).is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)

"""The network alone, in every library and precision that it could be computed in: what each gains, and what it costs.

    python -m benchmarks.backends [--model s2-urban-rgb] [--side 1024] [--nncf FOLDER] [--compile]

Prints JSON, a row a way, and writes benchmarks/results/backends.json: seconds and processor seconds of a million pixels
(the least of several passes), seconds until it can begin, and how far its 8-bit map lies from float32 in torch, on
sample_data repeated to the side. NNCF and the C++ compiler of `torch.compile` are no dependencies of changedet, and are
measured where they are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from changedet.grid.quantise import quantise
from changedet.network.convert import _Whole, export_onnx
from changedet.network.ir import compile_network, load_openvino, network_ir
from changedet.network.package import load_model
from changedet.network.shipped import file_digest, resolve_model

SAMPLE = Path(__file__).parent.parent / "sample_data"
RESULT = Path(__file__).parent / "results" / "backends.json"
_PASSES = 3
Images = list[np.ndarray]
Predict = Callable[[Images], np.ndarray]


def main() -> None:
    """Measure each way in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="s2-urban-rgb")
    parser.add_argument("--side", type=int, default=1024, help="px, a multiple of the stride")
    parser.add_argument("--nncf", type=Path, help="folder of pip install --target FOLDER nncf")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which needs a C++ compiler")
    options = parser.parse_args()
    path = resolve_model(options.model)
    images = _images(load_model(path).card.bands, options.side)
    ways: dict[str, Callable[[], Predict]] = {
        "torch float32": lambda: _torch(path),
        "torch float32, channels last": lambda: _torch(path, last=True),
        "torch float32, channels last, traced and frozen (batch norms folded)": lambda: _frozen(path, images),
        "torch bfloat16, channels last": lambda: _torch(path, last=True, half=True),
        "torch bfloat16, channels last, traced and frozen": lambda: _frozen(path, images, half=True),
        "ONNX Runtime float32": lambda: _onnx(path),
        "OpenVINO float32": lambda: _openvino(network_ir(path, file_digest(path)), "float32", images),
        "OpenVINO bfloat16": lambda: _openvino(network_ir(path, file_digest(path)), "bfloat16", images),
    }
    if options.nncf:
        ways["OpenVINO int8 by NNCF, calibrated on this pair"] = lambda: _int8(path, images, options.nncf)
    if options.compile:
        ways["torch.compile, bfloat16, channels last"] = lambda: _compiled(path)
    reference: np.ndarray | None = None
    rows = []
    for name, make in ways.items():
        row, probability = _measured(make, images)
        reference = probability if reference is None else reference
        rows.append({"way": name, **row, **_distance(probability, reference)})
        print(json.dumps(rows[-1]), file=sys.stderr)
    told = {"model": options.model, "side_px": options.side, "load": os.getloadavg()[0], "rows": rows}
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


def _images(bands: tuple[str, ...], side: int) -> Images:
    """Return both dates of the sample, repeated to a square, reflectance (1, C, H, W)."""
    dates = []
    for name in ("before", "after"):
        with rasterio.open(SAMPLE / f"{name}.tif") as scene:
            tile = scene.read([scene.descriptions.index(band) + 1 for band in bands]) / np.float32(10_000)
        times = (1, -(-side // tile.shape[1]), -(-side // tile.shape[2]))
        dates.append(np.ascontiguousarray(np.tile(tile, times)[None, :, :side, :side], dtype=np.float32))
    return dates


def _measured(make: Callable[[], Predict], images: Images) -> tuple[dict[str, float], np.ndarray]:
    begun = time.perf_counter()
    predict = make()
    probability = predict(images)
    ready = time.perf_counter() - begun
    seconds, processor = [], []
    for _ in range(_PASSES):
        wall, used = time.perf_counter(), time.process_time()
        predict(images)
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - used)
    million = images[0].shape[-1] * images[0].shape[-2] / 1e6
    row = {"seconds": min(seconds) / million, "processor_seconds": min(processor) / million, "until_ready": ready}
    return {name: round(value, 3) for name, value in row.items()}, probability


def _distance(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    known = np.ones(one.shape[-2:], np.bool_)
    steps = np.abs(quantise(one, known).astype(np.int16) - quantise(other, known))
    return {"share_within_2": round(float((steps <= 2).mean()), 5), "furthest": int(steps.max())}


def _torch(path: Path, *, last: bool = False, half: bool = False) -> Predict:
    whole = _Whole(load_model(path)).eval()
    layout = torch.channels_last if last else torch.contiguous_format
    whole.to(memory_format=layout)
    return _eager(whole, layout, half=half)


def _eager(whole: Any, layout: torch.memory_format, *, half: bool) -> Predict:
    def predict(images: Images) -> np.ndarray:
        tensors = [torch.from_numpy(image).to(memory_format=layout) for image in images]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            probability: np.ndarray = whole(*tensors).float().numpy()
        return probability

    return predict


def _frozen(path: Path, images: Images, *, half: bool = False) -> Predict:
    whole = _Whole(load_model(path)).eval().to(memory_format=torch.channels_last)
    example = [torch.from_numpy(image[..., :256, :256]).to(memory_format=torch.channels_last) for image in images]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
        traced = torch.jit.freeze(torch.jit.trace(whole, example, check_trace=False))
    return _eager(traced, torch.channels_last, half=half)


def _compiled(path: Path) -> Predict:
    whole = _Whole(load_model(path)).eval().to(memory_format=torch.channels_last)
    return _eager(torch.compile(whole), torch.channels_last, half=True)


def _onnx(path: Path) -> Predict:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(path, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, dict(zip(("before", "after"), images, strict=True)))[0]


def _openvino(ir: Path, precision: Any, images: Images) -> Predict:
    request = compile_network(ir, precision, images[0].shape)
    return lambda images: np.array(request.infer(images, share_inputs=True)[0])


def _int8(path: Path, images: Images, folder: Path) -> Predict:
    sys.path.append(os.fspath(folder))
    import nncf

    openvino = load_openvino()
    graph = openvino.Core().read_model(network_ir(path, file_digest(path)))
    parts = [[image[..., row : row + 256, col : col + 256] for image in images] for row in (0, 256) for col in (0, 256)]
    quantised = nncf.quantize(
        graph, nncf.Dataset(parts, lambda part: dict(zip(("before", "after"), part, strict=True)))
    )
    with tempfile.TemporaryDirectory() as work:
        xml = Path(work) / "int8.xml"
        openvino.save_model(quantised, xml)
        return _openvino(xml, "bfloat16", images)


if __name__ == "__main__":
    main()

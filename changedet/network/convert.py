"""From a model file to OpenVINO's IR or to ONNX: reflectance in, probability out, the card inside."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from changedet.errors import ConfigError, ModelError
from changedet.network.calibration import probability_of
from changedet.network.ir import load_openvino
from changedet.network.package import ChangeModel, load_model
from changedet.network.shipped import CARD_KEY

# 17, of 2022: layer norms as one operation; every runtime of today reads it.
_OPSET = 17
# Probabilities by torch and by OpenVINO may differ by their order of sums.
_SAME = 1e-3


class _Whole(nn.Module):
    """A model from reflectance to probability, for images whose sides are multiples of the stride."""

    def __init__(self, model: ChangeModel) -> None:
        super().__init__()
        self.normalise = model.normalise
        self.network = model.network
        self.calibration = model.card.calibration

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        logits = self.network.logits(self.normalise(before), self.normalise(after))
        return probability_of(logits, self.calibration)


def convert(model: str | Path, xml: Path) -> None:
    """Write a model as IR: `xml` with the graph and the card, and the weights beside it.

    Inputs `before` and `after` are reflectance (N, C, H, W), float32, H and W multiples of the stride; the output
    `probability` is (N, K, H, W). In the graph are the scaling of reflectance, folded batch norms and calibration.

    Raises:
        ModelError: OpenVINO cannot convert it, or the result is not the model's.
    """
    openvino = load_openvino()
    loaded = load_model(model)
    example = _example(loaded)
    channels = len(loaded.card.bands)
    whole = _Whole(loaded).eval()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # tracing warns of what does not concern this graph
            # Traced once: `_check` compares more than tracing twice would.
            traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch gives it no types
            graph = openvino.convert_model(traced, input=[openvino.PartialShape([-1, channels, -1, -1])] * 2)
    # Whatever the tracer and the frontend meet in an architecture that they do not know.
    except Exception as error:
        raise ModelError(f"OpenVINO cannot convert {model}: {error}", remedy="--backend torch") from error
    for port, name in zip((*graph.inputs, *graph.outputs), ("before", "after", "probability"), strict=True):
        port.set_names({name})
    graph.set_rt_info(loaded.card.model_dump_json(), CARD_KEY)
    _check(graph, loaded, str(model))
    # Not as float16: folded batch norms no longer are what the file holds.
    openvino.save_model(graph, xml, compress_to_fp16=False)


def export_onnx(model: str | Path, path: Path) -> None:
    """Write a model as ONNX, as `convert` describes it, with the card in its metadata.

    Raises:
        ConfigError: the package onnx is not installed.
        ModelError: torch cannot export it, or the result is not a valid model.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError("the package onnx is not installed", remedy="pip install 'changedet[onnx]'") from error
    loaded = load_model(model)
    names = ("before", "after", "probability")
    sizes = {0: "count", 2: "height", 3: "width"} if loaded.card.tiling == "exact" else {0: "count"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of what does not concern this graph
            # The tracing exporter: the newer one cannot leave height and width open here (torch 2.14).
            torch.onnx.export(
                _Whole(loaded).eval(),
                _example(loaded),
                path,
                input_names=names[:2],
                output_names=names[2:],
                dynamic_axes=dict.fromkeys(names, sizes),
                opset_version=_OPSET,
                dynamo=False,
            )
        graph = onnx.load(path)
        onnx.helper.set_model_props(graph, {CARD_KEY: loaded.card.model_dump_json()})
        onnx.checker.check_model(graph, full_check=True)
    # Whatever the exporter meets in an architecture that it does not know.
    except Exception as error:
        raise ModelError(f"{model} cannot be exported to ONNX: {error}", remedy="--format openvino") from error
    onnx.save(graph, path)


def _check(graph: object, model: ChangeModel, name: str) -> None:
    """Compare with torch, at another size than the traced one where the model takes any."""
    images = _example(model, strides=6)
    expected = model.probability(*images).numpy()
    compiled = load_openvino().Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    largest = float(np.abs(compiled([image.numpy() for image in images])[0] - expected).max())
    if not largest <= _SAME:
        raise ModelError(
            f"{name} gives probabilities in OpenVINO that are off by {largest:.3g}",
            expected=f"at most {_SAME}",
            remedy="--backend torch",
        )


def _example(model: ChangeModel, strides: int = 4) -> tuple[Tensor, Tensor]:
    """Return two dates of noise, some strides high and one more wide; a fixed chip where the model wants one."""
    card = model.card
    height, width = (card.chip_px,) * 2 if card.chip_px else (strides * card.stride, (strides + 1) * card.stride)
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand((2, 1, len(card.bands), height, width), generator=generator) / 2
    return before, after


def main() -> None:
    """Convert in a child process: model file, xml file."""
    model, xml = sys.argv[1:]
    convert(model, Path(xml))

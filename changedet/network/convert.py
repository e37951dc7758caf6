"""From a model file to OpenVINO's IR or to ONNX: reflectance in, probability out, the card inside."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn

from changedet.errors import ConfigError, ModelError
from changedet.network.calibration import probability_of
from changedet.network.graph import padded, place_graph, write_graph
from changedet.network.ir import IR_NAME, load_openvino
from changedet.network.package import ChangeModel, load_model
from changedet.network.shipped import CARD_KEY, tensor_offsets

# 17, of 2022: layer norms as one operation; every runtime of today reads it.
_OPSET = 17
# Probabilities by torch and by OpenVINO may differ by their order of sums.
_SAME = 1e-3
# What the tracer puts before the names of weights.
_NETWORK = "self.network."
# Bytes: shapes and scalars of a graph, no weights.
_MOST_CONSTANTS = 2**17


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
    try:
        graph = openvino.convert_model(_traced(loaded), input=[_shape(loaded)] * 2)
    # Whatever the tracer and the frontend meet in an architecture that they do not know.
    except Exception as error:
        raise ModelError(f"OpenVINO cannot convert {model}: {error}", remedy="--backend torch") from error
    _describe(graph, loaded)
    _check(graph, loaded, str(model))
    # Not as float16: folded batch norms no longer are what the file holds.
    openvino.save_model(graph, xml, compress_to_fp16=False)


def make_graph(model: Path, path: Path) -> None:
    """Write the graph of a model (`changedet.network.graph`): what `convert` writes, but no batch norm is folded.

    So its weights are those in the file. OpenVINO folds them when it compiles, and the answers are the same. It appears
    at `path` once it has been compared with torch.

    Raises:
        ModelError: it holds more than the model file does, or the result is not the model's.
    """
    openvino = load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    loaded = load_model(model)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(_traced(loaded))  # which OpenVINO does not keep alive
    graph = frontend.convert(frontend.load(decoder))
    _describe(graph, loaded)
    graph.reshape({"before": _shape(loaded), "after": _shape(loaded)})
    _halve_weights(graph, loaded)
    with TemporaryDirectory(dir=path.parent) as folder:
        xml, made = Path(folder) / IR_NAME, Path(folder) / path.name
        openvino.save_model(graph, xml, compress_to_fp16=False)
        write_graph(made, *_without_weights(xml, model))
        place_graph(made, model, xml)
        _check(openvino.Core().read_model(xml), loaded, str(model))
        made.replace(path)


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


def _traced(model: ChangeModel) -> Any:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of what does not concern this graph
        # Traced once: `_check` compares more than tracing twice would.
        return torch.jit.trace(_Whole(model).eval(), _example(model), check_trace=False)  # type: ignore[no-untyped-call]  # torch gives it no types


def _shape(model: ChangeModel) -> Any:
    return load_openvino().PartialShape([-1, len(model.card.bands), -1, -1])


def _describe(graph: Any, model: ChangeModel) -> None:
    """Give a graph its names and its card."""
    for port, name in zip((*graph.inputs, *graph.outputs), ("before", "after", "probability"), strict=True):
        port.set_names({name})
    graph.set_rt_info(model.card.model_dump_json(), CARD_KEY)


def _halve_weights(graph: Any, model: ChangeModel) -> None:
    """Give a graph its weights in float16, as the model's file has them, and the conversion to float32 beside them."""
    from openvino import opset13

    weights = model.network.state_dict()
    for constant in [node for node in graph.get_ops() if node.get_type_name() == "Constant"]:
        name = constant.get_friendly_name().removeprefix(_NETWORK)
        if name not in weights:
            continue
        half = opset13.constant(weights[name].half().numpy())
        half.set_friendly_name(constant.get_friendly_name())
        whole = opset13.convert(half, "f32").output(0)
        for use in constant.output(0).get_target_inputs():
            use.replace_source_output(whole)


def _without_weights(xml: Path, model: Path) -> tuple[str, bytes]:
    """Return the text of an IR whose weights are read from its model's file, and what follows that file."""
    tree, stored = ElementTree.parse(xml), xml.with_suffix(".bin").read_bytes()  # noqa: S314  # written just now
    weights, end, constants = tensor_offsets(model), len(padded(model.read_bytes())), b""
    for layer in tree.iterfind(".//layer[@type='Const']"):
        name, data = layer.attrib["name"].removeprefix(_NETWORK), layer[0].attrib
        if name in weights:
            data["offset"] = str(weights[name])
        else:
            begin, size = int(data["offset"]), int(data["size"])
            data["offset"] = str(end + len(constants))
            constants += padded(stored[begin : begin + size])
    if len(constants) > _MOST_CONSTANTS:
        raise ModelError(f"the graph of {model} holds {len(constants)} bytes that are none of its weights")
    return ElementTree.tostring(tree.getroot(), encoding="unicode"), constants


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

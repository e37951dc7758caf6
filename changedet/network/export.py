"""Models for other programs: OpenVINO's IR and ONNX, with pre- and post-processing and the card inside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, get_args

from changedet.errors import ConfigError, ModelError
from changedet.network.ir import network_ir
from changedet.network.shipped import file_digest, read_card, resolve_model

Format = Literal["onnx", "openvino"]


def export_names(model: str | Path, form: Format) -> tuple[str, ...]:
    """Return the names of the files that an export makes.

    Raises:
        NotFoundError: there is no such model.
        ModelError: its card cannot be read, or its name is no name for a file.
        ConfigError: there is no such format.
    """
    if form not in get_args(Format):
        raise ConfigError(f"format {form!r}", expected=f"one of {', '.join(get_args(Format))}")
    name = read_card(model).name
    # A card may come from anywhere, and its name must not lead out of the folder that is written to.
    if name in (".", "..") or set(name) & set("/\\:\0"):
        raise ModelError(
            f"the card of {model} has the name {name!r}, which is no name for a file",
            expected="a name without / \\ and :",
        )
    return (f"{name}.onnx",) if form == "onnx" else (f"{name}.xml", f"{name}.bin")


def export_model(model: str | Path, form: Format, folder: Path) -> None:
    """Write a model into a folder that exists, under the names that `export_names` gives.

    The graph takes `before` and `after`, reflectance (N, C, H, W) float32 in the order of the card's bands, H and W
    multiples of the card's stride, invalid pixels 0.1 at both dates; it gives `probability` (N, K, H, W).

    Raises:
        NotFoundError, ModelError: there is no such model, or it cannot be converted.
        ConfigError: there is no such format, or what makes it is not installed.
    """
    path, names = resolve_model(model), export_names(model, form)
    if form == "onnx":
        from changedet.network.convert import export_onnx

        export_onnx(path, folder / names[0])
        return
    xml = network_ir(path, file_digest(path))
    for source, name in zip((xml, xml.with_suffix(".bin")), names, strict=True):
        shutil.copyfile(source, folder / name)

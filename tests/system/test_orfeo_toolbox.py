"""MAD against the Orfeo ToolBox's own implementation of Nielsen's method."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio

from changedet.stats.mad import Mad
from changedet.stats.moments import Moments
from tests.data import texture, write_raster

PROGRAM = "otbcli_MultivariateAlterationDetector"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"no {PROGRAM} here (Debian package otb-bin)"),
]


def test_the_variates_are_those_of_the_orfeo_toolbox_up_to_sign(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = np.stack([texture(120, 150, seed=seed) for seed in range(4)])
    mixing = np.eye(4) + 0.4 * rng.normal(size=(4, 4))
    after = np.tensordot(mixing, before, axes=1) + rng.normal(0, 0.03, before.shape)
    after[:, 30:50, 60:90] += rng.normal(0.2, 0.1, (4, 1, 1))
    images = [image.astype(np.float32) for image in (before, after)]
    paths = [write_raster(tmp_path / f"{name}.tif", image) for name, image in zip("ab", images, strict=True)]
    out = tmp_path / "mad.tif"
    command = [PROGRAM, "-in1", paths[0], "-in2", paths[1], "-out", out, "float"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with rasterio.open(out) as dataset:
        theirs = dataset.read().reshape(dataset.count, -1)

    pixels = [image.reshape(4, -1) for image in images]
    mad = Mad.from_moments(Moments.of(np.concatenate(pixels)))
    ours = mad.variates(*pixels)
    assert len(theirs) == len(ours)
    agreement = np.abs(np.corrcoef(ours, theirs)[:4, 4:])
    # Each of ours is one of theirs, whichever way they are ordered.
    np.testing.assert_array_less(0.999, agreement.max(axis=0))
    np.testing.assert_array_less(0.999, agreement.max(axis=1))

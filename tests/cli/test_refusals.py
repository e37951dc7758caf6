"""Bad input and interruptions: one clear message, the exit code of its class, and nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rich.console import Console

from changedet.cli.console import shown
from tests.commands import MAIN, RESULTS, assert_refused, call, names_in
from tests.data import texture, write_raster
from tests.pairs import RGBN, SAMPLE, tiny_model


def _missing(folder: Path) -> Path:
    return folder / "nowhere.tif"


def _no_raster(folder: Path) -> Path:
    path = folder / "letter.tif"
    path.write_text("Dear reader")
    return path


def _without_its_directory(folder: Path) -> Path:
    path = folder / "cut.tif"
    data = (SAMPLE / "after.tif").read_bytes()  # where GDAL compresses, it writes the directory last
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def _image(folder: Path, *, bands: NDArray[np.uint16] | None = None, **changes: Any) -> Path:
    if bands is None:
        bands = np.repeat((texture(96, 80) * 10_000).astype(np.uint16)[None], 4, axis=0)
    return write_raster(folder / "image.tif", bands, **{"names": RGBN, "crs": "EPSG:32631", **changes})


def _without_its_last_rows(folder: Path) -> Path:
    path = folder / "rows.tif"
    rasterio.shutil.copy(SAMPLE / "after.tif", path, driver="COG")  # which has its directory first
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def _no_crs(folder: Path) -> Path:
    return _image(folder, crs=None)


def _elsewhere(folder: Path) -> Path:
    return _image(folder)


def _nothing_valid(folder: Path) -> Path:
    with rasterio.open(SAMPLE / "before.tif") as before:
        return _image(folder, bands=np.zeros((4, *before.shape), np.uint16), transform=before.transform, nodata=0)


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (_missing, 3, "nowhere.tif does not exist"),
        (_no_raster, 4, "letter.tif cannot be opened as a raster"),
        (_without_its_directory, 4, "cut.tif cannot be opened as a raster"),
        (_without_its_last_rows, 4, "rows.tif is damaged or truncated"),
        (_no_crs, 4, "image.tif has no coordinate reference system"),
        (_elsewhere, 5, "the scenes do not overlap"),
        (_nothing_valid, 5, "no pixel is valid at both dates"),
    ],
)
def test_a_scene_that_cannot_be_compared_is_refused(
    make: Callable[[Path], Path], code: int, message: str, model: Path, tmp_path: Path
) -> None:
    result = call("run", SAMPLE / "before.tif", make(tmp_path), "-o", tmp_path / "out", "--model", model)
    assert_refused(result, tmp_path / "out", code, message)


def test_different_band_counts_without_a_mapping_are_refused_with_one(tmp_path: Path) -> None:
    image = (texture(96, 80) * 10_000).astype(np.uint16)
    three = write_raster(tmp_path / "three.tif", np.repeat(image[None], 3, axis=0))
    four = write_raster(tmp_path / "four.tif", np.repeat(image[None], 4, axis=0))
    result = call("run", three, four, "-o", tmp_path / "out")
    assert_refused(result, tmp_path / "out", 5, "--bands red=1,green=2,blue=3")


def _letter(model: Path, folder: Path) -> Path:
    path = folder / "letter.safetensors"
    path.write_text("Dear reader, this is no model.")
    return path


def _half(model: Path, folder: Path) -> Path:
    path = folder / "half.safetensors"
    path.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    return path


@pytest.mark.parametrize(("make", "message"), [(_letter, "is not a safetensors file"), (_half, "is truncated")])
def test_a_damaged_model_is_refused(
    make: Callable[[Path, Path], Path], message: str, model: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    result = call("run", *pair, "-o", tmp_path / "out", "--model", make(model, tmp_path))
    assert_refused(result, tmp_path / "out", 6, message)


def test_a_model_that_is_not_there_is_refused_with_the_shipped_ones(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("run", *pair, "-o", tmp_path / "out", "--model", "s3-urban")
    assert_refused(result, tmp_path / "out", 3, "expected: a file, or a shipped model: s2-urban")


def test_a_model_that_wants_other_bands_is_refused_with_those_missing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "infrared.safetensors", bands=("B04", "B11"))
    result = call("run", *pair, "-o", tmp_path / "out", "--model", model)
    assert_refused(result, tmp_path / "out", 5, "missing: B11 (swir16)")


def test_an_output_folder_in_use_is_refused(pair: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    result = call("run", *pair, "-o", tmp_path, "--model", model)
    assert result.exit_code == 7
    assert "--overwrite to replace" in result.stderr
    assert names_in(tmp_path) == {"before.tif", "after.tif"}


@pytest.mark.parametrize("room", [0, 150_000, 350_000, 600_000])
def test_a_disk_that_fills_up_leaves_no_result(
    room: int, small_disk: Path, pair: tuple[Path, Path], model: Path
) -> None:
    # 96 x 80 px take one block of 512 x 512 in each of two rasters, then come the COGs and the GeoPackage.
    (small_disk / "filler").write_bytes(bytes(2 * 2**20 - room))
    result = call("run", *pair, "-o", small_disk / "out", "--model", model)
    assert result.exit_code == 8, result.output
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.output
    assert names_in(small_disk) == {"filler"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run:\n  before: a.tif\n  after: b.tif\n  out: out\n  colour: red\n", "line 5: run.colour: unknown key"),
        ("run:\n  before: a.tif\n  after: b.tif\n  min_area: wide\n  out: out\n", "line 4: run.min_area"),
    ],
)
def test_a_mistake_in_a_pipeline_file_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(text)
    assert_refused(call("pipeline", tmp_path / "file.yaml"), tmp_path / "out", 2, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threshold", "1.5"), "threshold"),
        (("--max-memory", "plenty"), "max_memory"),
        (("--halo", "wide"), "halo"),
        (("--dates", "2018-01-01,soon"), "two ISO dates"),
        (("--bands", "red=1,pink=2"), "band mapping 'pink=2'"),
        (("--max-memory", "501MB"), "is too little for a chip"),
        (("--device", "cuda:63"), "cuda:63 is not on this machine"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    options: tuple[str, str], message: str, pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    result = call("run", *pair, "-o", tmp_path / "out", "--model", model, *options)
    assert_refused(result, tmp_path / "out", 2, message)


def test_a_message_hides_credentials(tmp_path: Path) -> None:
    result = call("inspect", tmp_path / "a.tif?token=hunter2", tmp_path / "b.tif")
    assert result.exit_code == 3
    assert "hunter2" not in result.output


def test_what_is_shown_is_no_markup_and_hides_credentials() -> None:
    console = Console(file=StringIO())
    console.print(shown("[red]https://me:hunter2@host/a.tif[/red]"))
    assert console.file.getvalue().strip() == "[red]https://***@host/a.tif[/red]"


def test_a_log_hides_credentials(tmp_path: Path) -> None:
    path = tmp_path / "a.tif?token=hunter2"
    path.write_text("Dear reader")
    command = [sys.executable, "-c", MAIN, "-v", "inspect", str(path), str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "GDAL signalled an error" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("reason", [errno.EACCES, errno.ENAMETOOLONG])
def test_what_the_system_refuses_is_told_in_one_line(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(reason, os.strerror(reason), str(path))

    out = tmp_path / "token=hunter2"
    monkeypatch.setattr("changedet.write.staging.refuse_existing", refuse)
    result = call("run", "a.tif", "b.tif", "-o", out)
    assert result.exit_code == 1
    assert result.output.splitlines() == [f"error: {tmp_path}/token=*** ({os.strerror(reason)})"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAIN, "--debug", "inspect", "a.tif", "b.tif"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode != 0
    assert "Traceback" in shown.stderr
    assert "NotFoundError: a.tif does not exist" in shown.stderr


def _start(pair: tuple[Path, Path], out: Path) -> subprocess.Popen[str]:
    """Start a run of its own process and return once its work folder is there."""
    # Where the tests run in the background, a child would inherit that Ctrl-C is ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{code}\n{MAIN}", "run", *map(str, pair), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not names_in(out):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = _start((SAMPLE / "before.tif", SAMPLE / "after.tif"), tmp_path / "out")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: nothing was left behind" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_kill_leaves_nothing_visible_and_the_next_run_cleans_up(
    pair: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = _start((SAMPLE / "before.tif", SAMPLE / "after.tif"), out)
    process.kill()
    process.communicate(timeout=60)
    assert all(name.startswith(".") for name in names_in(out))
    assert call("run", *pair, "-o", out, "--model", model).exit_code == 0
    assert names_in(out) == RESULTS

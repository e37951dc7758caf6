import json

import numpy as np
import pytest

from changedet.errors import ConfigError
from changedet.read import open_pair
from changedet.read.report import PairReport, report_pair
from changedet.read.survey import survey
from tests.data import geobox, texture, write_raster

GRID = geobox(260, 240)
DATES = ({"ACQUISITION_DATE": "2018-03-28"}, {"ACQUISITION_DATE": "2020-06-01"})


def _report(folder, *, before=None, after=None, grid=GRID, hole=False) -> PairReport:
    """Report a pair of one texture; `before` and `after` are options of `write_raster`."""
    images = [np.stack([texture(*box.shape, seed=seed) for seed in (1, 2)]) for box in (GRID, grid)]
    if hole:
        images[1][:, :130] = np.nan
    write_raster(folder / "before.tif", images[0], names=["red", "nir"], **{"tags": DATES[0], **(before or {})})
    place = {"transform": grid.affine, "crs": str(grid.crs)}
    write_raster(folder / "after.tif", images[1], names=["red", "nir"], **place, **{"tags": DATES[1], **(after or {})})
    with open_pair(folder / "before.tif", folder / "after.tif") as pair:
        return report_pair(pair, survey(pair))


def _notes(report: PairReport) -> str:
    return "\n".join(report.notes)


def test_same_grid_is_used_as_it_is(tmp_path):
    report = _report(tmp_path)
    assert "one grid: used as it is" in _notes(report)
    assert "small enough to leave" in _notes(report)
    assert report.valid_share == 1
    assert report.shift.size < 0.02
    assert report.resolution_m == pytest.approx((10, 10), rel=0.001)
    assert (report.before.date, report.after.date) == ("2018-03-28", "2020-06-01")


def test_whole_pixels_are_cut_and_parts_resampled(tmp_path):
    assert "cut to the overlap, not resampled" in _notes(_report(tmp_path, grid=geobox(200, 240, row=30)))
    assert "overlap only" in _notes(_report(tmp_path, grid=geobox(200, 240, row=30)))
    assert "resampled to the before grid" in _notes(_report(tmp_path, grid=geobox(260, 240, row=0.4)))


def test_other_crs_is_warped(tmp_path):
    notes = _notes(_report(tmp_path, grid=GRID.to_crs("EPSG:32632")))
    assert "warped from EPSG:32632 to EPSG:32633" in notes


def test_invalid_share_is_said(tmp_path):
    report = _report(tmp_path, hole=True)
    assert report.valid_share == pytest.approx(0.5, abs=0.02)
    assert "never 'unchanged'" in _notes(report)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint16"])
def test_zeros_in_all_bands_that_count_as_data_are_warned_of(tmp_path, dtype):
    """As in the holes of a mosaic of files without a nodata value; of uint16 they are no data at once."""
    image = np.stack([texture(300, 300, seed=seed) for seed in range(2)]) * (1 if dtype == "float32" else 10_000)
    before = write_raster(tmp_path / "before.tif", image.astype(dtype))
    image[:, :60] = 0
    after = write_raster(tmp_path / "after.tif", image.astype(dtype), scale=0.5, offset=0.25)
    with open_pair(before, after) as pair:
        report = report_pair(pair, survey(pair))
    told = [note for note in report.notes if "0 in all bands" in note]
    if dtype == "uint16":
        assert told == []
        assert report.valid_share == pytest.approx(0.8, abs=0.06)
    else:
        (note,) = told
        assert float(note.split()[1].rstrip("%")) == pytest.approx(20, abs=6)
        assert "sampled pixels of the after scene are 0 in all bands and count as data: --nodata 0" in note


def test_shift_is_warned_of(tmp_path):
    image = texture(300, 300)
    before = write_raster(tmp_path / "before.tif", np.stack([image[20:280, 20:280]] * 3))
    after = write_raster(tmp_path / "after.tif", np.stack([image[18:278, 21:281]] * 3))
    with open_pair(before, after) as pair:
        report = report_pair(pair, survey(pair))
    assert (report.shift.row, report.shift.col) == pytest.approx((2, -1), abs=0.05)
    assert "WARNING: residual shift of 2.24 px" in _notes(report)
    assert "--coregister removes it" in _notes(report)


def test_unknown_and_reversed_dates_are_said(tmp_path):
    assert "dates are not known" in _notes(_report(tmp_path, after={"tags": {}}))
    late = {"tags": {"ACQUISITION_DATE": "2021-01-01"}}
    assert "later than the after scene" in _notes(_report(tmp_path, before=late))


def test_report_is_json_and_a_table(tmp_path):
    report = _report(tmp_path).noting("one more")
    told = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert told["notes"][-1] == "one more"
    rows = {name: (before, after) for name, before, after in report.rows()}
    assert rows["bands"] == ("B04 (red), B08 (nir)",) * 2
    assert rows["CRS"] == ("EPSG:32633",) * 2
    assert rows["size (rows × columns)"] == ("260 × 240",) * 2


def test_report_is_read_back_from_json(tmp_path):
    report = _report(tmp_path)
    written = json.loads(json.dumps(report.as_json()))
    again = PairReport.from_json(written)
    assert again.rows() == report.rows()
    assert json.loads(json.dumps(again.as_json())) == written
    with pytest.raises(ConfigError, match="another version"):
        PairReport.from_json({**written, "of_the_future": 1})

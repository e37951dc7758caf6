import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from changedet.errors import ConfigError, OutputError
from changedet.grid.quantise import NODATA, STEPS, quantise, stored_threshold
from changedet.grid.window import Window, blocks
from changedet.write import raster
from changedet.write.raster import (
    RasterLayout,
    RasterSink,
    mask_of,
    probability_layout,
    to_cog,
    write_mask,
)

TAGS = {"MODEL": "a-model", "THRESHOLD": "0.5"}


@pytest.fixture
def stored(geobox):
    """Smooth stored probabilities with a corner of nodata."""
    rows, cols = np.indices(geobox.shape)
    values = np.rint(127 + 127 * np.sin(rows / 90) * np.cos(cols / 70)).astype(np.uint8)
    values[:200, 900:] = NODATA
    return values


def written(path, layout, array, size=333):
    """Write an array in windows that do not fit the blocks, from the last to the first."""
    with RasterSink(path, layout) as sink:
        for window in reversed(blocks(*array.shape[-2:], size)):
            sink.write(window, array[(..., *window.slices)])
    return path


def test_windows_in_any_order_make_the_whole(tmp_path, geobox, stored):
    path = written(tmp_path / "p.tif", probability_layout(geobox, tags=TAGS), stored)

    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), stored)
        assert GeoBox.from_rio(dataset) == geobox
        assert dataset.nodata == NODATA
        assert dataset.scales == (1 / STEPS,)
        assert dataset.descriptions == ("probability",)
        assert TAGS.items() <= dataset.tags().items()
        assert dataset.block_shapes == [(512, 512)]


def test_pixels_never_written_are_nodata(tmp_path, geobox):
    with RasterSink(tmp_path / "p.tif", probability_layout(geobox)) as sink:
        sink.write(Window(600, 600, 10, 10), np.zeros((10, 10), np.uint8))

    with rasterio.open(tmp_path / "p.tif") as dataset:
        band = dataset.read(1)
    assert (band != NODATA).sum() == 100


def test_several_bands_and_floats(tmp_path, geobox):
    values = np.random.default_rng(0).random((3, *geobox.shape), dtype=np.float32)
    layout = RasterLayout(geobox, 3, dtype="float32", nodata=np.nan, descriptions=("a", "b", "c"))

    written(tmp_path / "s.tif", layout, values)
    to_cog(tmp_path / "s.tif", tmp_path / "cog.tif", overview_resampling="average")

    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert np.array_equal(dataset.read(), values)
        assert dataset.descriptions == ("a", "b", "c")
    assert cog_validate(tmp_path / "cog.tif", strict=True, quiet=True) == (True, [], [])


def test_a_cog_of_a_quantity_holds_the_statistics_of_all_its_pixels(tmp_path, geobox, stored):
    written(tmp_path / "p.tif", probability_layout(geobox), stored)
    to_cog(tmp_path / "p.tif", tmp_path / "cog.tif", overview_resampling="average")

    with rasterio.open(tmp_path / "cog.tif") as dataset:
        told = {name: float(value) for name, value in dataset.tags(1).items()}
    known = stored[stored != NODATA]
    assert (told["STATISTICS_MINIMUM"], told["STATISTICS_MAXIMUM"]) == (known.min(), known.max())
    assert (told["STATISTICS_MEAN"], told["STATISTICS_STDDEV"]) == pytest.approx((known.mean(), known.std()))
    assert told["STATISTICS_VALID_PERCENT"] == pytest.approx(100 * known.size / stored.size, abs=0.01)


def test_a_cog_without_a_valid_pixel(tmp_path, geobox):
    with RasterSink(tmp_path / "p.tif", probability_layout(geobox)):
        pass
    to_cog(tmp_path / "p.tif", tmp_path / "cog.tif", overview_resampling="average")

    assert cog_validate(tmp_path / "cog.tif", strict=True, quiet=True) == (True, [], [])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 10, 11), np.uint8), ((2, 10, 10), np.uint8), ((10, 10), np.float32), ((10, 10), np.int64)]
)
def test_a_sink_refuses_what_rasterio_would_resample_or_cast(tmp_path, geobox, shape, dtype):
    with (
        pytest.raises(ConfigError, match="an array"),
        RasterSink(tmp_path / "p.tif", probability_layout(geobox)) as sink,
    ):
        sink.write(Window(0, 0, 10, 10), np.zeros(shape, dtype))


def test_cogs_are_valid_and_keep_everything(tmp_path, geobox, stored):
    source = written(tmp_path / "p.tif", probability_layout(geobox, tags=TAGS), stored)
    write_mask(source, tmp_path / "m.tif", 0.5, tags=TAGS)
    to_cog(source, tmp_path / "probability.tif", overview_resampling="average")
    to_cog(tmp_path / "m.tif", tmp_path / "mask.tif", overview_resampling="nearest")

    expected = {
        "probability.tif": (stored, 1 / STEPS, "probability"),
        "mask.tif": (mask_of(stored[np.newaxis], 127), 1.0, "change"),
    }
    for name, (values, scale, description) in expected.items():
        assert cog_validate(tmp_path / name, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(tmp_path / name) as dataset:
            assert np.array_equal(dataset.read(1), values)
            assert GeoBox.from_rio(dataset) == geobox
            assert (dataset.nodata, dataset.scales, dataset.descriptions) == (NODATA, (scale,), (description,))
            assert TAGS.items() <= dataset.tags().items()
            assert dataset.overviews(1) == [2, 4]
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        colours = dataset.colormap(1)
        assert (colours[1], colours[NODATA][3]) == ((227, 26, 28, 255), 0)
        nearest = dataset.read(1, out_shape=(650, 550))
    assert set(np.unique(nearest)) == {0, 1, NODATA}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "mask.tif", "p.tif", "probability.tif"]


def test_nodata_does_not_bleed_into_the_overviews(tmp_path, geobox):
    values = np.full(geobox.shape, 100, np.uint8)
    values[::2, ::2] = NODATA
    to_cog(
        written(tmp_path / "p.tif", probability_layout(geobox), values),
        tmp_path / "cog.tif",
        overview_resampling="average",
    )

    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert (dataset.read(1, out_shape=(650, 550)) == 100).all()


def test_creation_options_are_the_users(tmp_path, geobox, stored):
    source = written(tmp_path / "p.tif", probability_layout(geobox), stored)
    to_cog(
        source,
        tmp_path / "cog.tif",
        overview_resampling="average",
        creation_options={"compress": "LZW", "BLOCKSIZE": "256"},
    )

    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert (dataset.profile["compress"], dataset.profile["blockxsize"]) == ("lzw", 256)


@given(stored=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=5)), lowest=st.integers(0, STEPS))
def test_mask_of_against_its_definition(stored, lowest):
    mask = mask_of(stored, lowest)

    for index in np.ndindex(mask.shape):
        bands = stored[(slice(None), *index)].tolist()
        changed = min(sum(bands), STEPS) >= lowest
        assert mask[index] == (NODATA if NODATA in bands else changed * (bands.index(max(bands)) + 1))


@given(
    probability=arrays(np.float32, (4, 5), elements=st.floats(0, 1, width=32)),
    valid=arrays(np.bool_, (4, 5)),
    threshold=st.one_of(st.integers(1, STEPS).map(lambda step: step / STEPS), st.floats(0.01, 1)),
)
def test_the_mask_of_a_stored_file_is_its_values_against_the_threshold(probability, valid, threshold):
    stored = quantise(probability, valid)

    mask = mask_of(stored[np.newaxis], stored_threshold(threshold))

    assert np.array_equal(mask == NODATA, ~valid)
    assert np.array_equal(mask[valid] == 1, stored[valid] / STEPS >= threshold - 1e-11)
    # One step is the most that storing moves a probability.
    assert (mask[valid & (probability >= threshold + 0.5 / STEPS + 1e-6)] == 1).all()
    assert (mask[valid & (probability <= threshold - 0.5 / STEPS - 1e-6)] == 0).all()


def test_the_mask_is_the_same_from_the_plain_file_and_from_the_cog(tmp_path, geobox, stored):
    source = written(tmp_path / "p.tif", probability_layout(geobox), stored)
    to_cog(source, tmp_path / "cog.tif", overview_resampling="average")
    for name in ("p", "cog"):
        write_mask(tmp_path / f"{name}.tif", tmp_path / f"mask_of_{name}.tif", 0.7)

    assert (tmp_path / "mask_of_p.tif").read_bytes() == (tmp_path / "mask_of_cog.tif").read_bytes()


def test_a_missing_or_cut_block_is_found(tmp_path, geobox, stored):
    whole = written(tmp_path / "p.tif", probability_layout(geobox), stored)
    raster.check_complete(whole)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(OutputError, match="not all there"):
        raster.check_complete(cut)
    with rasterio.open(tmp_path / "sparse.tif", "w", **{**rasterio.open(whole).profile, "SPARSE_OK": True}) as dataset:
        dataset.write(stored[:512, :512], 1, window=((0, 512), (0, 512)))
    with pytest.raises(OutputError, match="not all there"):
        raster.check_complete(tmp_path / "sparse.tif")
    raster.check_complete(tmp_path / "sparse.tif", may_be_sparse=True)


def test_a_sink_too_large_for_the_disk_is_refused_before_the_work(small_disk, geobox):
    layout = probability_layout(GeoBox((4000, 4000), geobox.affine, geobox.crs))
    with pytest.raises(OutputError, match="it takes 15 MB"), RasterSink(small_disk / "p.tif", layout):
        pass


@pytest.mark.parametrize("size", [333, 512])
def test_a_disk_that_fills_up_while_a_sink_writes(small_disk, geobox, stored, size):
    def write_beside_somebody() -> None:
        with RasterSink(small_disk / "p.tif", probability_layout(geobox)) as sink:
            (small_disk / "somebody else").write_bytes(bytes(2**20))
            for window in blocks(*geobox.shape, size):
                sink.write(window, stored[window.slices])

    with pytest.raises(OutputError, match=r"p\.tif could not be written"):
        write_beside_somebody()


def test_a_disk_that_is_too_small_for_the_cog(small_disk, tmp_path, geobox):
    noise = np.random.default_rng(0).integers(0, STEPS, (2000, 2000), dtype=np.uint8)
    large = GeoBox(noise.shape, geobox.affine, geobox.crs)
    source = written(tmp_path / "p.tif", probability_layout(large), noise, size=2000)
    with pytest.raises(OutputError, match=r"cog\.tif could not be written"):
        to_cog(source, small_disk / "cog.tif", overview_resampling="average")

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from changedet.config import RunConfig
from changedet.detect import choose
from changedet.detect.choose import bands_for, check_resolution, choose_encoder, choose_model, told_missing
from changedet.errors import ModelError, PairError
from changedet.network.card import Card
from changedet.network.shipped import read_card, shipped_models
from changedet.read.pair import RasterPair, open_pair
from changedet.read.scene import Band, Scene
from tests.data import geobox, write_raster
from tests.pairs import RGBN, tiny_model

Opener = Callable[[float], RasterPair]
TWELVE = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def _scenes(*names: str) -> tuple[Scene, Scene]:
    bands = tuple(
        Band(name, "x.tif", index, geobox(8, 8), "uint16", 0.0, masked=False, scale=1.0, offset=0.0)
        for index, name in enumerate(names, start=1)
    )
    return Scene("before.tif", bands), Scene("after.tif", bands)


def test_the_shipped_model_of_the_highest_f1_is_chosen() -> None:
    cards = {name: read_card(path) for name, path in shipped_models().items()}
    best = max(cards, key=lambda name: float(cards[name].figures["pooled"]["f1"]))  # type: ignore[index, call-overload, arg-type]
    assert choose_model(_scenes(*TWELVE, "B10"), RunConfig()) == best


@pytest.mark.parametrize("names", [RGBN, ("B02", "B03", "B04", "B08")])
def test_the_four_band_model_is_chosen_for_its_four_bands(names: tuple[str, ...]) -> None:
    assert choose_model(_scenes(*names), RunConfig()) == "s2-urban-rgbn"


def test_a_band_that_only_one_date_has_does_not_count() -> None:
    scenes = _scenes(*TWELVE)[0], _scenes(*RGBN)[1]
    assert choose_model(scenes, RunConfig()) == "s2-urban-rgbn"


def test_where_nothing_fits_the_missing_bands_and_a_mapping_are_told() -> None:
    with pytest.raises(PairError, match=r"misses B02 \(blue\)\n.*\n.*--bands red=1,green=2,blue=3"):
        choose_model(_scenes("B04", "B03"), RunConfig())


def test_the_model_asked_for_is_taken(tmp_path: Path) -> None:
    path = str(tiny_model(tmp_path / "mine.safetensors"))
    assert choose_model(_scenes(*TWELVE), RunConfig(model=path, free_only=True)) == path


def test_a_model_that_is_not_free_is_refused_by_free_only() -> None:
    with pytest.raises(ModelError, match=r"s2-urban is under CC-BY-NC-SA-4\.0, not free for commercial use"):
        choose_model(_scenes(*TWELVE), RunConfig(model="s2-urban", free_only=True))


def _needing(
    monkeypatch: pytest.MonkeyPatch, folder: Path, **optional: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Let the shipped models be these: name → (bands, optional bands)."""
    shipped = {
        name: tiny_model(folder / f"{name}.safetensors", bands=bands, optional_bands=may_lack)
        for name, (bands, may_lack) in optional.items()
    }
    monkeypatch.setattr(choose, "shipped_models", lambda: shipped)


def test_a_model_may_lack_its_optional_bands_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _needing(monkeypatch, tmp_path, wide=(TWELVE, ("B01", "B09")))
    assert choose_model(_scenes(*TWELVE[1:]), RunConfig()) == "wide"
    with pytest.raises(PairError, match=r"misses B02 \(blue\)"):
        choose_model(_scenes("B01", *TWELVE[2:]), RunConfig())


def test_a_model_that_lacks_bands_is_taken_only_where_no_other_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = tuple(band for band in TWELVE if band not in RGBN[:3])
    _needing(monkeypatch, tmp_path, wide=(TWELVE, lacking), narrow=(RGBN, ()))
    assert choose_model(_scenes(*RGBN, "B11"), RunConfig()) == "narrow"
    assert choose_model(_scenes(*RGBN[:3], "B11"), RunConfig()) == "wide"


def test_of_two_models_that_fit_the_one_of_the_better_card_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {
        name: tiny_model(tmp_path / f"{name}.safetensors", bands=bands, figures={"pooled": {"f1": f1}})
        for name, bands, f1 in (("wide", TWELVE, 0.4), ("narrow", RGBN, 0.5), ("unmeasured", TWELVE, None))
    }
    monkeypatch.setattr(choose, "shipped_models", lambda: shipped)
    assert choose_model(_scenes(*TWELVE), RunConfig()) == "narrow"


def test_bands_to_read_are_all_but_the_optional_ones_a_date_lacks(tmp_path: Path) -> None:
    card = read_card(tiny_model(tmp_path / "some.safetensors", bands=("B01", *RGBN), optional_bands=("B01", "B08")))
    both = _scenes("B01", *RGBN)[0], _scenes(*RGBN)[1]
    assert bands_for(card, both) == RGBN
    assert bands_for(card, _scenes("B01", *RGBN)) == ("B01", *RGBN)
    # A required one is asked for all the same, so that reading refuses its absence.
    assert bands_for(card, _scenes("B04", "B03")) == ("B04", "B03", "B02")
    told = told_missing(card, RGBN)
    assert told is not None
    assert "without B01 (coastal)" in told
    assert told_missing(card, card.bands) is None


@pytest.mark.parametrize("names", [RGBN, (*TWELVE, "B10")])
def test_free_only_takes_the_best_free_model_that_fits(names: tuple[str, ...]) -> None:
    cards = {name: read_card(path) for name, path in shipped_models().items()}
    free = {name: card for name, card in cards.items() if card.commercial_use and set(card.bands) <= set(names)}
    assert "s2-urban-rgbn-free" in free
    assert {(card.licence, card.tiling) for card in free.values()} == {("Apache-2.0", "exact")}
    best = max(free, key=lambda name: float(free[name].figures["pooled"]["f1"]))  # type: ignore[index, call-overload, arg-type]
    assert choose_model(_scenes(*names), RunConfig(free_only=True)) == best


def test_an_encoder_that_learned_without_labels_is_preferred() -> None:
    assert choose_encoder(_scenes(*RGBN), RunConfig()) == "s2-urban-rgbn-free"


def test_free_only_where_no_free_model_fits_says_which_there_are() -> None:
    with pytest.raises(PairError, match=r"no shipped model fits[\s\S]*s2-urban-rgbn-free misses B08") as caught:
        choose_model(_scenes("B04", "B03", "B02"), RunConfig(free_only=True))
    assert "CC-BY" not in str(caught.value)


def test_free_only_without_a_free_model_says_that_none_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    paid = {name: path for name, path in shipped_models().items() if not read_card(path).commercial_use}
    assert paid
    monkeypatch.setattr(choose, "shipped_models", lambda: paid)
    with pytest.raises(ModelError, match=r"none of the shipped models is free[\s\S]*--model FILE"):
        choose_model(_scenes(*TWELVE), RunConfig(free_only=True))


def test_an_installation_without_models_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "shipped_models", dict)
    with pytest.raises(ModelError, match="no model came with this installation"):
        choose_model(_scenes(*TWELVE), RunConfig())


@pytest.fixture
def pair_of(tmp_path: Path) -> Iterator[Opener]:
    opened: list[RasterPair] = []

    def _open(pixel: float) -> RasterPair:
        transform = Affine(pixel, 0, 500_000, 0, -pixel, 5_600_000)
        paths = [
            write_raster(tmp_path / f"{role}.tif", np.ones((1, 8, 8), np.uint16), names=["B04"], transform=transform)
            for role in ("before", "after")
        ]
        opened.append(open_pair(*paths))
        return opened[-1]

    yield _open
    for pair in opened:
        pair.__exit__(None, None, None)


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return read_card(tiny_model(tmp_path / "ten_metres.safetensors"))


@pytest.mark.parametrize("pixel", [7, 10, 14.9])
def test_a_near_resolution_says_nothing(pixel: float, pair_of: Opener, card: Card) -> None:
    assert check_resolution(pair_of(pixel), card, RunConfig()) is None


@pytest.mark.parametrize("pixel", [3.34, 6, 16, 30])
def test_a_resolution_over_one_and_a_half_times_off_is_warned_of(pixel: float, pair_of: Opener, card: Card) -> None:
    warning = check_resolution(pair_of(pixel), card, RunConfig())
    assert warning is not None
    assert "learned from 10 m: expect a poorer map" in warning


@pytest.mark.parametrize("pixel", [1, 31])
def test_a_resolution_over_three_times_off_is_refused_unless_told_otherwise(
    pixel: float, pair_of: Opener, card: Card
) -> None:
    with pytest.raises(PairError, match=r"3\.33 to 30 m[\s\S]*--any-resolution"):
        check_resolution(pair_of(pixel), card, RunConfig())
    assert check_resolution(pair_of(pixel), card, RunConfig(any_resolution=True)) is not None

from xml.etree import ElementTree

import pytest

from changedet.write.style import changes_style, first_change_style, footprint_style, unknown_style

STYLES = [changes_style(by_probability=True), changes_style(by_probability=False), footprint_style(), unknown_style()]


def parsed(qml):
    return ElementTree.fromstring(qml)  # noqa: S314 - our own text


@pytest.mark.parametrize("qml", STYLES)
def test_every_symbol_is_a_polygons_fill(qml):
    root = parsed(qml)

    assert root.tag == "qgis"
    assert root.findtext("layerGeometryType") == "2"
    symbols = root.findall("renderer-v2/symbols/symbol")
    assert symbols
    for index, symbol in enumerate(symbols):
        assert (symbol.get("name"), symbol.get("type")) == (str(index), "fill")
        names = {option.get("name") for option in symbol.findall("layer[@class='SimpleFill']/Option/Option")}
        assert {"color", "style", "outline_color", "outline_width"} <= names


def test_the_classes_cover_every_probability_and_each_has_its_symbol():
    renderer = parsed(changes_style(by_probability=True)).find("renderer-v2")

    ranges = renderer.findall("ranges/range")
    lowers, uppers = ([float(entry.get(name)) for entry in ranges] for name in ("lower", "upper"))
    assert renderer.get("attr") == "probability_mean"
    assert (lowers[0], uppers[-1]) == (0, 1)
    assert lowers[1:] == uppers[:-1]
    symbols = [symbol.get("name") for symbol in renderer.findall("symbols/symbol")]
    assert [entry.get("symbol") for entry in ranges] == symbols


def test_without_probabilities_all_polygons_are_drawn_alike():
    assert parsed(changes_style(by_probability=False)).find("renderer-v2").get("type") == "singleSymbol"


@pytest.mark.parametrize("count", [1, 2, 30])
def test_dates_that_show_change_first_are_drawn_from_dark_to_light(count):
    labels = [f'20{number:02} <&">' for number in range(count)]
    entries = parsed(first_change_style(labels)).findall("pipe/rasterrenderer/colorPalette/paletteEntry")

    assert [entry.get("value") for entry in entries] == [str(index) for index in range(count + 1)]
    assert [entry.get("label") for entry in entries] == ["no change", *labels]
    colours = [[int(entry.get("color")[at : at + 2], 16) for at in (1, 3, 5)] for entry in entries[1:]]
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in colours]
    assert light == sorted(light)
    assert len(set(light)) == count

"""How QGIS draws our layers when it opens them: one QML document a layer.

Source: QGIS 3 layer styles, https://docs.qgis.org/latest/en/docs/user_manual/appendices/qgis_file_formats.html
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from changedet.write.palette import UNCHANGED, Colour, sequence_colours

# Lower bound of the mean probability and colour, from light to dark. The lowest begins at 0, so that no polygon is left
# out whatever the threshold was.
_CLASSES = (
    (0.0, "254,217,118"),
    (0.5, "254,178,76"),
    (0.6, "253,141,60"),
    (0.7, "252,78,42"),
    (0.8, "227,26,28"),
    (0.9, "177,0,38"),
)
_CERTAIN = "227,26,28"
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"


def changes_style(*, by_probability: bool) -> str:
    """Return the QML of `changes`: coloured by `probability_mean`, or in one colour where that is null.

    QGIS does not draw features for which the graduated attribute is null.
    """
    if not by_probability:
        return _single(_fill(_CERTAIN, alpha=150, outline=_CERTAIN))
    uppers = [lower for lower, _ in _CLASSES[1:]] + [1.0]
    ranges = "".join(
        f'<range render="true" symbol="{index}" lower="{lower}" upper="{upper}" label="{lower:.1f} to {upper:.1f}"/>'
        for index, ((lower, _), upper) in enumerate(zip(_CLASSES, uppers, strict=True))
    )
    symbols = [_fill(colour, alpha=150, outline=colour) for _, colour in _CLASSES]
    attributes = 'type="graduatedSymbol" attr="probability_mean" graduatedMethod="GraduatedColor"'
    return _document(attributes, f"<ranges>{ranges}</ranges>", symbols)


def footprint_style() -> str:
    """Return the QML of `footprint`: its outline only."""
    return _single(_fill("0,0,0", alpha=0, outline="31,120,180"))


def unknown_style() -> str:
    """Return the QML of `unknown`: translucent grey."""
    return _single(_fill("128,128,128", alpha=110, outline="128,128,128"))


def first_change_style(labels: Sequence[str]) -> str:
    """Return the QML of a raster of indices of dates: 0 is no change, 1 what `labels` begin with, in their order."""
    colours = [UNCHANGED, *sequence_colours(len(labels))]
    entries = "".join(map(_entry, range(len(colours)), colours, ["no change", *labels]))
    return (
        f'{_DOCTYPE}<qgis version="3.22.0" styleCategories="Symbology"><pipe>'
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">'
        f"<colorPalette>{entries}</colorPalette></rasterrenderer></pipe></qgis>"
    )


def _entry(value: int, colour: Colour, label: str) -> str:
    red, green, blue, alpha = colour
    told = f'color="#{red:02x}{green:02x}{blue:02x}" alpha="{alpha}" label={quoteattr(label)}'
    return f'<paletteEntry value="{value}" {told}/>'


def _single(layer: str) -> str:
    return _document('type="singleSymbol"', "", [layer])


def _document(renderer_attributes: str, classes: str, layers: Sequence[str]) -> str:
    symbols = "".join(
        f'<symbol type="fill" name="{index}" alpha="1" clip_to_extent="1" force_rhr="0">{layer}</symbol>'
        for index, layer in enumerate(layers)
    )
    return (
        f'{_DOCTYPE}<qgis version="3.22.0" styleCategories="Symbology">'
        f'<renderer-v2 {renderer_attributes} symbollevels="0" forceraster="0" enableorderby="0">'
        f"{classes}<symbols>{symbols}</symbols></renderer-v2>"
        "<blendMode>0</blendMode><featureBlendMode>0</featureBlendMode>"
        "<layerOpacity>1</layerOpacity><layerGeometryType>2</layerGeometryType></qgis>"
    )


def _fill(colour: str, *, alpha: int, outline: str) -> str:
    """Return a fill of `colour` ("red,green,blue") with `alpha` (0..255) and an opaque outline of 0.3 mm."""
    properties = {
        "color": f"{colour},{alpha}",
        "style": "solid",
        "outline_color": f"{outline},255",
        "outline_style": "solid",
        "outline_width": "0.3",
        "outline_width_unit": "MM",
    }
    options = "".join(f'<Option type="QString" name="{name}" value="{value}"/>' for name, value in properties.items())
    return f'<layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">{options}</Option></layer>'

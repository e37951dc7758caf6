"""From plain data to one HTML file: the template, what it loads from this package, and what keeps it safe.

Texts are escaped by Jinja, data by `embedded_json`. The page's own policy names the hash of every script and style in
it and forbids all else, network included: what an escape might miss still cannot run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from changedet.report import words

_SCRIPTS = ("vendor/leaflet/leaflet.js", "assets/report.js")
_STYLES = ("vendor/leaflet/leaflet.css", "assets/report.css")
# Leaflet's map of its source and its icons, which the page does not use, lie in files that it does not bring.
_ELSEWHERE = re.compile(r"^//# sourceMappingURL=.*$|url\((?!data:)[^)]*\)", re.MULTILINE)


def render(template: str, context: dict[str, Any], data: dict[str, Any]) -> str:
    """Return the page.

    Args:
        template: `report.html` or another one in assets that extends page.html.
        context: what the template shows.
        data: what the script draws, see assets/report.js; plain data.
    """
    scripts, styles = [_asset(name) for name in _SCRIPTS], [_asset(name) for name in _STYLES]
    return (
        _environment()
        .get_template(template)
        .render(
            context,
            data=embedded_json(data),
            scripts=[Markup(script) for script in scripts],  # noqa: S704  # our own files
            styles=[Markup(style) for style in styles],  # noqa: S704  # our own files
            policy=_policy(scripts, styles),
            leaflet_licence=_asset("vendor/leaflet/LICENSE"),
        )
    )


def embedded_json(data: Any) -> Markup:
    r"""Return data as JSON that may stand in a `<script>` element, whatever is in it.

    >>> print(embedded_json({"name": "</script>\u2028"}))
    {"name":"\u003c/script\u003e\u2028"}
    """
    # Without non-ASCII characters there is no U+2028, and without these three no tag, comment or entity.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  # made safe above


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("changedet.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(area=words.area, plain=words.plain, share=words.share)
    return environment


@cache
def _asset(name: str) -> str:
    text = files("changedet.report").joinpath(name).read_text(encoding="utf-8")
    return _ELSEWHERE.sub(lambda match: "none" if match[0].startswith("url") else "", text)


def _policy(scripts: list[str], styles: list[str]) -> str:
    hashes = {
        kind: " ".join(f"'sha256-{_hash(text)}'" for text in texts)
        for kind, texts in (("script", scripts), ("style", styles))
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""What keeps the page safe: escapes, and a policy that would stop what they let through."""

import base64
import hashlib
import json
import re

import pytest

from changedet.report.page import _asset, _policy, embedded_json

NASTY = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "a\u2028b\u2029c",
    "&lt;",
    "\\u003c",
    "]]>",
    "\x00\ud800",
]


@pytest.mark.parametrize("text", NASTY)
def test_embedded_data_has_no_markup_and_is_read_as_it_was(text: str) -> None:
    embedded = embedded_json({text: [text]})
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert embedded.isascii()
    assert json.loads(embedded) == {text: [text]}


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))


def test_the_policy_allows_our_scripts_and_no_others_and_no_network() -> None:
    policy = _policy(["alert(1)"], ["p {}"])
    digest = base64.b64encode(hashlib.sha256(b"alert(1)").digest()).decode()
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == f"'sha256-{digest}'"
    assert directives["img-src"] == "data:"
    assert "http" not in policy


@pytest.mark.parametrize("name", ["vendor/leaflet/leaflet.js", "assets/report.js"])
def test_a_script_does_not_end_its_own_element(name: str) -> None:
    assert not re.search(r"</script|<!--", _asset(name), re.IGNORECASE)


def test_nothing_in_the_assets_points_to_other_files() -> None:
    for name in ("vendor/leaflet/leaflet.js", "vendor/leaflet/leaflet.css", "assets/report.css"):
        assert not re.search(r"url\((?!data:)|sourceMappingURL|@import", _asset(name))

"""A picture of a report, as the README and the guide show it.

python -m benchmarks.screenshot OUT docs/images/report_sample.jpg [--dark] [--choose ROW]

It takes Chromium and playwright, as the tests of the report do.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1360, 970


def main() -> None:
    """Open report.html of a run, choose a change if asked to, and write what is seen as JPEG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="output folder of a run")
    parser.add_argument("jpg", type=Path)
    parser.add_argument("--dark", action="store_true", help="as in a dark room")
    parser.add_argument("--choose", type=int, help="row of the list of changes, from 1 on")
    options = parser.parse_args()
    png = options.jpg.with_suffix(".png")
    with sync_playwright() as driver:
        # Without the sandbox, which does not start for root, as which containers run; the page is our own.
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if options.dark else "light",
            reduced_motion="reduce",
        )
        page.goto((options.out / "report.html").resolve().as_uri())
        if options.choose:
            page.locator("#changes tbody tr").nth(options.choose - 1).click()
        page.wait_for_timeout(1000)
        page.screenshot(path=png)
        chromium.close()
    with Image.open(png) as picture:
        picture.convert("RGB").save(options.jpg, quality=80, optimize=True)
    png.unlink()


if __name__ == "__main__":
    main()

"""Take the picture of a report for the README: ``python -m tools.report_picture results/report.html``.

Needs Chromium (the Debian package chromium). The picture is of the part "Listen", 1000 pixels wide.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent.parent / "docs/report.png"
SIZE = {"width": 1000, "height": 760}


def main() -> None:
    """Open the report, and write the picture."""
    chromium = shutil.which("chromium")
    if len(sys.argv) != 2 or chromium is None:
        sys.exit("usage: python -m tools.report_picture results/report.html; needs chromium")
    with sync_playwright() as playwright:
        # Root may not start it with a sandbox.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE)
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        page.evaluate("document.getElementById('listen').scrollIntoView()")
        # Pictures are decoded once they are seen.
        page.wait_for_function(
            "[...document.querySelectorAll('#listen img')].slice(0, 4).every((each) => each.complete)"
        )
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()

"""The report in a real browser, headless Chromium: charts, players, keyboard, phone width, dark mode, no request."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from asdpipe.report.content import gather
from asdpipe.report.page import render
from tests.conftest import ROOT, SHARED, run_snakemake
from tests.monitor.conftest import stage
from tests.monitor.reported import DATASET
from tests.monitor.test_report import HOSTILE, page_data, written

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "color_scheme": "dark"}
# The marks of a chart, as Vega names them.
MARKS = ".mark-symbol path, .mark-rect path, .mark-line path, .mark-rule line"
LARGEST = 15_000_000


class Opened(NamedTuple):
    """A page in a browser."""

    page: object
    problems: list[str]
    """Messages of the console, errors of scripts, and requests but for the file itself."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A browser; without Chromium, its tests are skipped."""
    if CHROMIUM is None:
        pytest.skip("no chromium is found here, so the report is not opened: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    # Root may not start it with a sandbox.
    arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def of_run(ran) -> Path:
    """The report of a small run, by its rule."""
    config = ["--configfile", str(ran / "config.yaml"), "--config", "method=ba_ps"]
    planned = run_snakemake(ran, "-n", *config, "--", "results/report.html")
    assert planned.returncode == 0, planned.stdout
    # Nothing else is made again, though the run has finished only some of its results.
    assert re.search(r"^report +1$", planned.stdout, flags=re.M), planned.stdout
    assert re.search(r"^total +1$", planned.stdout, flags=re.M), planned.stdout
    done = run_snakemake(ran, *config, "--", "results/report.html")
    assert done.returncode == 0, done.stdout
    return ran / "results/report.html"


@pytest.fixture(scope="module")
def badly_named(tmp_path_factory) -> Path:
    """A report of clips, machine types, labels and attributes with names that attack it."""
    folder = tmp_path_factory.mktemp("names")
    machines = [f"fan {HOSTILE[:200]}".replace("/", "|"), "pump"]
    runs = [("ba", stage, seed) for stage in (1, 2) for seed in (0, 1)] + [("raw_logmel", 1, 0)]
    results = written(folder, machines=machines, label=HOSTILE, name=HOSTILE, runs=runs)
    file = folder / "report.html"
    file.write_text(render(gather(results, DATASET, "ba")), encoding="utf-8")
    return file


def opened(browser, file: Path, **kind) -> Opened:
    """Open a page and wait until all charts are drawn."""
    context = browser.new_context(**kind)
    context.set_default_timeout(120_000)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: None if request.url.startswith("data:") else problems.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    assert problems.pop(0) == file.as_uri()
    return Opened(page, problems)


def drawn(page) -> list[tuple[str, int]]:
    """Return the name of every chart, and the number of its marks."""
    places = 'document.querySelectorAll("[data-chart]")'
    return page.evaluate(f"[...{places}].map((each) => [each.dataset.chart, each.querySelectorAll('{MARKS}').length])")


def plays(page) -> None:
    """Wait until a sound is playing."""
    page.wait_for_function("document.getElementById('audio').currentTime > 0.05")


def test_all_charts_are_drawn_and_nothing_is_fetched(browser, of_run):
    page, problems = opened(browser, of_run, viewport={"width": 1200, "height": 900})
    assert of_run.stat().st_size < LARGEST
    text = of_run.read_text()
    marks = dict(drawn(page))
    assert marks.keys() == page_data(text, "charts").keys()
    assert {"auc-dev", "histogram-0", "histogram-1", "roc-0", "roc-1", "map", "losses", "times"} <= marks.keys()
    assert min(marks.values()) > 0, marks
    auc = pd.read_csv(of_run.parents[1] / stage("ba_ps") / "auc.csv")
    assert [row["auc"] for row in page_data(text)["auc"] if row["method"] == "ba_ps"] == auc.auc.tolist()
    # Explained by the network: a map, and the regions in words.
    assert page.locator(".card .map img").count() == page.locator(".card").count() > 0
    assert problems == []


def test_players_play_by_button_point_and_keyboard(browser, of_run):
    page, problems = opened(browser, of_run, viewport={"width": 1200, "height": 900})
    page.locator(".card .play").first.click()
    plays(page)
    page.evaluate("audio.pause()")
    # A point of the map, that of a clip with another sound.
    before = page.evaluate("audio.src")
    point = page.locator("[data-chart=map] .mark-symbol.role-mark path").last
    point.scroll_into_view_if_needed()
    point.click(force=True)
    page.wait_for_function("(before) => document.getElementById('audio').src !== before", arg=before)
    plays(page)
    name = page.locator("#playing").inner_text()
    assert name in {
        row["name"] for rows in page_data(of_run.read_text(), "charts")["map"]["datasets"].values() for row in rows
    }
    page.evaluate("audio.pause()")
    # By keyboard alone: choose a clip, and the next stop is its button.
    page.locator("#clip").focus()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "play-clip"
    page.keyboard.press("Enter")
    last = page.locator("#clip option").last.inner_text()
    page.wait_for_function("(name) => document.getElementById('playing').textContent === name", arg=last)
    plays(page)
    # The list of a machine type's clips.
    page.locator(".clips summary").first.press("Enter")
    scores = page_data(of_run.read_text())["scores"]
    first = page.locator(".clips").first
    # Filled once it opens.
    first.locator("tr").last.wait_for()
    assert first.locator("tr").count() == 1 + sum(row["machine"] == "fan" for row in scores)
    assert first.locator(".play").count() == first.locator("tr").count() - 1
    assert problems == []


def test_the_report_of_the_demo(browser):
    page = ROOT / "results/report.html"
    if not page.exists():
        pytest.skip(f"{page} is not there: make demo makes it")
    assert_it_works(browser, page)


@pytest.mark.soak
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared recordings are not there ({SHARED})")
def test_the_report_of_real_recordings(browser, tmp_path):
    settings = ["seeds=[0]", "training={epochs: 2, source_per_batch: 16, target_per_batch: 4}", f"data_root={SHARED}"]
    config = ["--configfile", str(ROOT / "config/real-mini.yaml"), "--config", *settings, "method=ba_ps"]
    for targets in (["results/stage2/auc.csv"], ["results/report.html"]):
        done = run_snakemake(tmp_path, *config, "--", *targets)
        assert done.returncode == 0, done.stdout
    assert_it_works(browser, tmp_path / "results/report.html")


def assert_it_works(browser, file: Path) -> None:
    """Open a report on a screen and on a phone: charts are drawn, sounds play, and nothing is fetched."""
    assert file.stat().st_size < LARGEST
    for kind in ({"viewport": {"width": 1200, "height": 900}}, PHONE):
        page, problems = opened(browser, file, **kind)
        marks = dict(drawn(page))
        assert marks.keys() == page_data(file.read_text(), "charts").keys()
        assert min(marks.values()) > 0, marks
        page.locator(".card .play").first.click()
        plays(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= kind["viewport"]["width"]
        assert problems == []


def test_it_fits_a_phone_and_is_dark_there(browser, of_run):
    page, problems = opened(browser, of_run, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert luminance(paper) < 0.05
    assert luminance(ink) > 0.7
    # The text of charts has the colour of the page's.
    label = page.locator("[data-chart=map] text").first
    assert luminance(label.evaluate("(text) => getComputedStyle(text).fill")) > 0.7
    assert problems == []


def test_names_that_attack_it_are_text(browser, badly_named):
    page, problems = opened(browser, badly_named, **PHONE)
    assert page.locator("img[src='x']").count() == 0
    assert min(count for _, count in drawn(page)) > 0
    assert page.locator("script").count() == 5
    for summary in page.locator(".clips summary").all():
        summary.press("Enter")
    first = page.locator(".clips").first
    first.locator("tr").last.wait_for()
    assert HOSTILE in first.inner_text()
    # Tooltips are HTML, too.
    page.locator("[data-chart=map] .mark-symbol.role-mark path").first.dispatch_event("pointermove")
    page.wait_for_selector("#vg-tooltip-element", state="attached")
    assert page.locator("#vg-tooltip-element img, #vg-tooltip-element script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
    assert problems == []


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour as browsers write it, ``rgb(1, 2, 3)`` (WCAG 2)."""
    parts = [int(each) / 255 for each in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

"""A report as one HTML file that loads nothing."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from asdpipe.report import pictures
from asdpipe.report.content import Report, machine_metrics

PACKAGE = Path(__file__).parent.parent
# Within the package; the digest of the step's code covers them, as they are named here.
TEMPLATE, STYLE, SCRIPT = "report/page/report.html.j2", "report/page/report.css", "report/page/report.js"
# In a script element, these would end it or are not JavaScript.
ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(report: Report) -> str:
    """Return the page of a report."""
    loader = FileSystemLoader(PACKAGE)
    environment = Environment(autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = number
    return environment.get_template(TEMPLATE).render(
        report=report,
        machine_metrics=machine_metrics,
        ticks=pictures.ticks(),
        vega=Markup(_vega()),
        style=Markup((PACKAGE / STYLE).read_text(encoding="utf-8")),
        script=Markup((PACKAGE / SCRIPT).read_text(encoding="utf-8")),
        data=as_json(report.data()),
        specs=as_json(report.charts),
        sounds=as_json(report.sounds.files),
    )


def as_json(value: Any) -> Markup:
    """Return JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(ESCAPED))


def number(value: float | None, digits: int = 1) -> str:
    """Return a number for people; an en dash where it is missing."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{round(value, digits) + 0:.{digits}f}"


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as JavaScript for a script element."""
    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")

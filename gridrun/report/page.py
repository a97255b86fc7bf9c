"""The page as one HTML file that asks for nothing else.

The content security policy allows no host at all, and of scripts only those whose digests it names. Styles
are named likewise; Tabulator and ECharts set styles of elements through the DOM, which no policy forbids.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

from gridrun.report.data import Report, to_json

HERE = Path(__file__).parent
SCRIPTS = (
    *("vendor/echarts.min.js", "vendor/tabulator.min.js"),
    *("assets/core.js", "assets/table.js", "assets/charts.js", "assets/page.js"),
)
STYLES = ("vendor/tabulator.min.css", "assets/page.css")


def to_html(report: Report) -> str:
    """Return the page with all its data, to be opened from disk."""
    blobs = "\n".join(
        f'<script type="text/plain" id="blob-{name}">{base64.b64encode(blob).decode()}</script>'
        for name, blob in report.blobs.items()
    )
    return _filled(report.data, blobs, policy())


def to_served_html(report: Report) -> str:
    """Return the page without its blobs. It asks its own server for them, and for what is new."""
    return _filled({**report.data, "live": True}, "", policy("connect-src 'self'"))


def policy(*more: str) -> str:
    """Return the content security policy, with directives added."""
    scripts = " ".join(map(_digest, map(_read, SCRIPTS)))
    styles = " ".join(map(_digest, map(_read, STYLES)))
    own = (
        "default-src 'none'",
        f"script-src {scripts}",
        f"style-src {styles}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join((*own, *more))


def _filled(data: dict[str, Any], blobs: str, csp: str) -> str:
    parts = {
        "policy": html.escape(csp),
        "title": html.escape(data["title"]),
        "styles": "\n".join(f"<style>{_read(path)}</style>" for path in STYLES),
        "scripts": "\n".join(f"<script>{_read(path)}</script>" for path in SCRIPTS),
        "data": to_json(data),
        "blobs": blobs,
    }
    template = _read("assets/page.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _read(path: str) -> str:
    """Return an asset. The parser would end an element within it at its closing tag."""
    text = (HERE / path).read_text(encoding="utf-8").replace("\r\n", "\n")
    assert path.endswith(".html") or not re.search(r"</(script|style)|<!--", text, re.IGNORECASE), path
    return text


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

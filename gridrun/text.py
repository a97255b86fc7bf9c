"""Numbers, counts, times and option values as text, and text that is safe to print."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any


def format_percent(fraction: float) -> str:
    """Write a fraction in percent, two decimals: 0.0491 as `4.91`."""
    return format_hundredths(100 * fraction)


def format_hundredths(value: float) -> str:
    """Write two decimals and round a half up as it reads in decimal: 24.685 as `24.69`."""
    return str(Decimal(f"{value:.12g}").quantize(Decimal("0.01"), ROUND_HALF_UP, Context(prec=400)))


def format_loss(loss: float) -> str:
    """Write a loss, four decimals."""
    return f"{loss:.4f}"


def format_count(count: float) -> str:
    """Write a large count, rounded to a whole number: `269,722`."""
    return f"{round(count):,}"


def format_whole(number: float) -> str:
    """Write a small count, or the median of two: `200`, `62.5`."""
    return f"{number:.12g}"


def format_amount(amount: float) -> str:
    """Write hours or kWh in three digits, without an exponent: `0.00123`, `12.3`, `1,234`."""
    if amount >= 100:
        return f"{amount:,.0f}"
    return f"{float(f'{amount:.3g}'):.9f}".rstrip("0").rstrip(".")


def number_of(count: float, noun: str) -> str:
    """Write a count with its noun: `1 epoch`, `200 epochs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_time(seconds: float) -> str:
    """Write a time in two or three digits: `8.2s`, `45s`, `2m16s`, `22m`, `1h26m`."""
    if seconds < 10:
        return f"{round(seconds, 1):g}s"
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds}s"
    if whole_seconds < 600:
        return f"{whole_seconds // 60}m{whole_seconds % 60:02}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def utc_now() -> str:
    """Return the current time as records write it: UTC, ISO 8601, microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def seconds_of(moment: str | None) -> float | None:
    """Return a moment of a record in seconds since 1970, None if it is none."""
    try:
        return datetime.fromisoformat(moment or "").timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def format_option(value: Any) -> str:
    """Write an option's value: `0.1`, `5e-4`, `yes`, `none`, `100, 150`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(format_option(item) or "''" for item in value) or "none"
    return str(value)


def _format_float(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e15:
        return f"{value:.12f}".rstrip("0").rstrip(".")
    mantissa, _, exponent = f"{value:.11e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of control and format characters, unpaired surrogates, separators of lines and paragraphs."""


def printable(text: str) -> str:
    """Drop the characters by which a text could steer a terminal, or spoil an XML file."""
    if text.isprintable():
        return text
    return "".join(c for c in text if unicodedata.category(c) not in _STEERING)


def printable_lines(text: str) -> str:
    """Return a text of several lines as `printable` does each."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: str) -> str:
    """Return a text on one line, printable, with single spaces between words."""
    return printable(" ".join(text.split()))

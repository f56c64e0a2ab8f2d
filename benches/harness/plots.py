"""Line charts as SVG, for light and dark pages, independent of what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from harness.measured import Results

Draw = Callable[[Results], str]
Point = tuple[float, float]

WIDTH, HEIGHT = 680, 400
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 52, 58
INSIDE = (20, 56)  # between the frame and the first and last points, for their values
# Distinguishable with color blindness, on white and on black, and by their markers.
COLOURS = (("#0b6fb8", "#5db3f0"), ("#c2410c", "#fb923c"), ("#6b7280", "#9ca3af"))
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2937; }
  .title { font-size: 16px; font-weight: 600; }
  .axis { stroke: #6b7280; } .grid { stroke: #6b7280; stroke-opacity: .25; }
  .line { fill: none; stroke-width: 2.2; } .paper { fill: #fff; }
  .value { font-size: 12px; stroke: #fff; stroke-width: 3.5px; paint-order: stroke; }
%s
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb; } .paper { fill: #0d1117; } .value { stroke: #0d1117; }
%s
  }
"""


@dataclass(frozen=True)
class Scale:
    """Maps values to positions, and chooses the labels of the axis."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    is_log: bool

    def __call__(self, value: float) -> float:
        if self.is_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Make a scale of whole powers of ten around the values."""
    first = math.floor(math.log10(min(values)) + 1e-9)
    last = math.ceil(math.log10(max(values)) - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks, is_log=True)


def linear_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Make a scale from zero in steps of 1, 2, or 5."""
    most = max(values) or 1.0
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    count = math.ceil(most / step + 0.05)
    ticks = tuple(step * number for number in range(count + 1))
    return Scale(0.0, ticks[-1], start, end, ticks, is_log=False)


def line_chart(
    *, title: str, x: str, y: str, lines: Mapping[str, Sequence[Point]], y_log: bool = True
) -> str:
    """Draw a chart with a logarithmic x axis."""
    lines = {name: [p for p in points if p[1] > 0 or not y_log] for name, points in lines.items()}
    points = [point for each in lines.values() for point in each]
    if not points:
        return ""
    across = log_scale([p[0] for p in points], LEFT + INSIDE[0], WIDTH - RIGHT - INSIDE[1])
    scale = log_scale if y_log else linear_scale
    up = scale([p[1] for p in points], HEIGHT - BOTTOM, TOP + 18 * len(lines) * (not y_log))
    body = [f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>']
    body.append(f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>')
    body += _axes(across, up, x, y)
    for number, each in enumerate(lines.values()):
        body += _line(number, [(across(a), up(b)) for a, b in each])
    body += _labels([(round(across(a), 1), up(b), b) for a, b in points])
    if len(lines) > 1:
        body += _legend([name for name, each in lines.items() if each], list(lines))
    return _document(title, body)


def _document(title: str, body: list[str]) -> str:
    def rules(shade: int, indent: str) -> str:
        return "\n".join(
            f"{indent}.s{n} {{ stroke: {pair[shade]}; }} .d{n} {{ fill: {pair[shade]}; }}"
            for n, pair in enumerate(COLOURS)
        )

    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE % (rules(0, '  '), rules(1, '    '))}</style>\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _axes(across: Scale, up: Scale, x: str, y: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    drawn = []
    for tick in up.ticks:
        place = round(up(tick), 1)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{place}" y2="{place}"/>')
        drawn.append(
            f'<text x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{amount(tick)}</text>'
        )
    for tick in across.ticks:
        place = round(across(tick), 1)
        drawn.append(f'<line class="grid" y1="{TOP}" y2="{bottom}" x1="{place}" x2="{place}"/>')
        drawn.append(
            f'<text x="{place}" y="{bottom + 20}" text-anchor="middle">{amount(tick)}</text>'
        )
    drawn.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x)}</text>')
    height = (TOP + bottom) / 2
    drawn.append(
        f'<text transform="translate(18 {height}) rotate(-90)" text-anchor="middle">'
        f"{escape(y)}</text>"
    )
    return drawn


def _line(number: int, places: list[Point]) -> list[str]:
    number %= len(COLOURS)
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    drawn = [f'<polyline class="line s{number}" points="{path}"/>'] if len(places) > 1 else []
    return drawn + [_marker(number, a, b) for a, b in places]


def _labels(places: list[tuple[float, float, float]]) -> list[str]:
    """Draw the values beside their points; if points are close, one above the other."""
    drawn = []
    by_column: dict[float, list[tuple[float, float]]] = {}
    for a, b, value in places:
        by_column.setdefault(a, []).append((b, value))
    for a, column in by_column.items():
        lowest = math.inf
        for b, value in sorted(column, reverse=True):
            lowest = min(b - 8, lowest - 15)
            drawn.append(
                f'<text class="value" x="{a + 6:.1f}" y="{lowest:.1f}">{amount(value)}</text>'
            )
    return drawn


def _marker(number: int, a: float, b: float) -> str:
    if number == 0:
        return f'<circle class="d0" cx="{a:.1f}" cy="{b:.1f}" r="4.5"/>'
    if number == 1:
        return f'<rect class="d1" x="{a - 4:.1f}" y="{b - 4:.1f}" width="8" height="8"/>'
    return f'<path class="d2" d="M{a:.1f} {b - 5.5:.1f}l5 9h-10z"/>'


def _legend(shown: list[str], order: list[str]) -> list[str]:
    drawn = []
    for row, name in enumerate(shown):
        number = order.index(name) % len(COLOURS)
        place = TOP + 14 + row * 20
        drawn.append(_marker(number, LEFT + 18, place - 4))
        drawn.append(f'<text x="{LEFT + 32}" y="{place}">{escape(name)}</text>')
    return drawn


def amount(value: float) -> str:
    """Format a number: ``12k``, ``0.35``."""
    if value == 0:
        return "0"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"

"""Figures of statistics as SVG files, which `usrl compare` writes next to its report."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from usrl.evaluation.report.figures import COLORS, shorten

_INK = "#1c2733"


def draw_ranks(ranks: Mapping[str, Any]) -> bytes:
    """Return a critical-difference diagram, SVG, of ranks (`usrl.evaluation.statistics.summary.rank_cases`).

    Methods hang on an axis of mean ranks, the best on the left. Those that a thick line joins do not differ
    at 5% by Wilcoxon tests adjusted by Holm's method. Nemenyi's critical difference is drawn above.
    """
    means, cliques = ranks["mean_ranks"], ranks["cliques"]
    names, count = list(means), len(means)
    rows = -(-count // 2)
    depth = 0.5 + 0.35 * len(cliques)  # of the first label below the axis
    figure = Figure(figsize=(9.0, 1.3 + 0.32 * (rows + depth)))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.9))
    axes.set(xlim=(1 - 0.6 * (count - 1), count + 0.6 * (count - 1)), ylim=(-depth - rows, 1.6))
    axes.axis("off")
    line: dict[str, Any] = {"color": _INK, "linewidth": 1.2, "solid_capstyle": "butt"}
    axes.plot([1, count], [0, 0], **line)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.15], **line)
        axes.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=9)
    _draw_critical(axes, ranks["critical_difference"])
    for place, name in enumerate(names):
        is_left = place < rows
        height = -depth - (place if is_left else count - 1 - place)
        end = axes.get_xlim()[0] + 0.59 * (count - 1) if is_left else axes.get_xlim()[1] - 0.59 * (count - 1)
        axes.plot([means[name], means[name], end], [0, height, height], **line)
        text = f"{shorten(name)}  {means[name]:.2f}" if is_left else f"{means[name]:.2f}  {shorten(name)}"
        side = "right" if is_left else "left"
        axes.text(end, height, f" {text} ", ha=side, va="center", fontsize=8)
    margin = 0.012 * (count - 1)
    for row, clique in enumerate(cliques):
        spread = [means[name] for name in clique]
        ends, height = [min(spread) - margin, max(spread) + margin], -0.3 - 0.35 * row
        axes.plot(ends, [height, height], color=COLORS[0], linewidth=4, solid_capstyle="butt")
    return _save(figure)


def _draw_critical(axes: Axes, width: float) -> None:
    axes.plot([1, 1 + width], [1.05, 1.05], color=_INK, linewidth=1.2, marker="|", clip_on=False)
    text = f"Nemenyi's critical difference {width:.2f}"
    axes.text(1, 1.15, text, ha="left", va="bottom", fontsize=8)


def draw_profiles(profiles: Mapping[str, Any]) -> bytes:
    """Return the performance profiles, SVG (`usrl.evaluation.statistics.summary.trace_profiles`)."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    limits = profiles["thresholds"]
    for place, (name, curve) in enumerate(profiles["methods"].items()):
        color, style = COLORS[place % len(COLORS)], ("solid", "dashed", "dotted")[place // len(COLORS) % 3]
        axes.plot(limits, curve["share"], label=shorten(name), color=color, linestyle=style, linewidth=1.6)
        axes.fill_between(limits, curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0)
    axes.set(xlabel="Dice", ylabel="share of runs and images above it", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    return _save(figure)


def _save(figure: Figure) -> bytes:
    """Return a figure as SVG: the same bytes for the same figure, with its letters as text."""
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "usrl", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()

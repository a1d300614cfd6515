"""Pictures of the report as data URIs."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from usrl.evaluation.report.overlay import Picture
from usrl.evaluation.statistics.intervals import RiskCoverage

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
_MARKERS = "osD^vPX"
_FRAME_MS, _LAST_FRAME_MS = 350, 1500


def encode_picture(picture: Picture) -> str:
    """Return a picture, uint8, (H, W, 3), as a WebP data URI."""
    return _encode([picture], 0)


def encode_film(frames: Sequence[Picture]) -> str:
    """Return frames, uint8, (H, W, 3), as an animated WebP data URI that holds its last frame, then repeats.

    Small frames are enlarged.
    """
    scale = max(1, round(384 / max(frames[0].shape[:2])))
    large = [frame.repeat(scale, axis=0).repeat(scale, axis=1) for frame in frames]
    return _encode(large, [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS])


def plot_scores(scores: Mapping[str, Sequence[float]], label: str) -> str:
    """Return a plot of every case's score as a data URI: a line of points and a box per method.

    The axis of Dice reaches from 0 to 1.
    """
    figure, axes = _make_figure(1.1 + 0.5 * len(scores))
    rng = np.random.default_rng(0)
    names = list(scores)
    for row, name in enumerate(names):
        values = np.asarray(scores[name])
        height = row + rng.uniform(-0.16, 0.16, values.size)
        axes.scatter(values, height, s=14, alpha=0.45, color=COLORS[row % len(COLORS)], linewidths=0)
    axes.boxplot(
        [scores[name] for name in names],
        orientation="horizontal",
        positions=range(len(names)),
        widths=0.5,
        showfliers=False,
        showmeans=True,
        medianprops={"color": "#1c2733", "linewidth": 2},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "#1c2733", "markersize": 5},
        boxprops={"color": "#5b6875"},
    )
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=label)
    if label == "Dice":
        axes.set_xlim(-0.02, 1.02)
    return _save(figure)


def plot_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], score: str) -> str:
    """Return learning curves as a data URI: the validation score over minutes of training.

    The rows have ``seconds`` and ``val_score``.
    """
    figure, axes = _make_figure(3.4)
    for row, (name, points) in enumerate(curves.items()):
        minutes = [point["seconds"] / 60 for point in points]
        scores = [point["val_score"] for point in points]
        marker, color = _MARKERS[row % len(_MARKERS)], COLORS[row % len(COLORS)]
        axes.plot(minutes, scores, label=shorten(name), color=color, marker=marker, ms=4, linewidth=1.6)
    axes.set(xlabel="training time [min]", ylabel=f"validation {score}")
    if score == "Dice":
        axes.set_ylim(top=1.0)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="best")
    return _save(figure)


def plot_panels(draws: Sequence[Callable[[Axes], None]], *, legend: bool = True) -> str:
    """Return plots next to each other as a data URI, three in a row, each drawn by a function of its axes."""
    columns = min(3, len(draws))
    rows = -(-len(draws) // columns)
    figure = Figure(figsize=(9.0, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, draw in enumerate(draws, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _clear(axes)
        draw(axes)
    if legend:
        axes.legend(frameon=False, loc="best")
    return _save(figure)


def plot_risk(risks: Mapping[str, tuple[RiskCoverage, RiskCoverage]]) -> str:
    """Return risk over coverage, in each method's own order (solid) and in the perfect one, as a data URI."""
    figure, axes = _make_figure(3.4)
    for row, (name, (own, perfect)) in enumerate(risks.items()):
        color = COLORS[row % len(COLORS)]
        axes.plot(own.coverage, own.risk, label=shorten(name), color=color, linewidth=1.6)
        axes.plot(perfect.coverage, perfect.risk, color=color, linewidth=1.0, linestyle="dashed")
        axes.axhline(own.risk[-1], color=color, linewidth=1.0, linestyle="dotted")
    axes.set(xlabel="coverage (share of images kept)", ylabel="risk (mean 1 - Dice)", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="best")
    return _save(figure)


def _make_figure(height: float) -> tuple[Figure, Axes]:
    # No pyplot: its figures live until closed and it looks for a display.
    figure = Figure(figsize=(9.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _clear(axes)
    return figure, axes


def _clear(axes: Axes) -> None:
    """Leave of axes what helps to read them."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def shorten(name: str) -> str:
    """Return a name that fits an axis, without the dollar signs that matplotlib reads as mathematics.

    A first underscore gets a space before it, or matplotlib would leave the name out of legends.
    """
    short = (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")
    return f" {short}" if short.startswith("_") else short


def _save(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return _as_uri("png", buffer)


def _encode(pictures: Sequence[Picture], duration: int | list[int]) -> str:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    buffer, loop = io.BytesIO(), {"append_images": others, "duration": duration, "loop": 0}
    first.save(buffer, "WEBP", save_all=bool(others), quality=82, **loop)
    return _as_uri("webp", buffer)


def as_svg_uri(content: bytes) -> str:
    """Return an SVG as a data URI."""
    return _as_uri("svg+xml", io.BytesIO(content))


def _as_uri(kind: str, content: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"

"""Plots of probe navigation for the report of players."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from usrl.agents.players import Played, Player
from usrl.envs.probe.task import SUCCESS_DEG, SUCCESS_MM
from usrl.evaluation.report.figures import COLORS, plot_panels

_BINS = 5
"""Ranges of the start distance."""
_PATHS = 40
"""Paths that are drawn for a player; more would hide each other."""


def plot_navigation(
    task: Any, played: Mapping[str, Played[Any]], players: Mapping[str, Player]
) -> dict[str, str]:
    """Return plots of success by start, of errors at the end and of paths, as data URIs by title."""
    figures = {
        name: {key: values.cpu().numpy() for key, values in task.figures(own.states[-1]).items()}
        for name, own in played.items()
    }
    paths = {name: _list_paths(task, own) for name, own in played.items()}

    def success(axes: Axes, figure: str, unit: str) -> None:
        starts = np.concatenate([own[figure] for own in figures.values()])
        edges = np.linspace(0, max(float(starts.max()), 1e-6), _BINS + 1)
        for row, (name, own) in enumerate(figures.items()):
            place = np.clip(np.digitize(own[figure], edges) - 1, 0, _BINS - 1)
            shares = [
                own["success"][place == k].mean() if (place == k).any() else np.nan for k in range(_BINS)
            ]
            axes.plot((edges[1:] + edges[:-1]) / 2, shares, marker="o", ms=4, color=_color(row), label=name)
        axes.set(xlabel=f"start [{unit}]", ylabel="success", ylim=(-0.03, 1.03))

    def errors(axes: Axes, figure: str, unit: str, limit: float) -> None:
        bins = np.linspace(0, 4 * limit, 25)
        for row, (name, own) in enumerate(figures.items()):
            axes.hist(
                own[figure].clip(max=4 * limit), bins.tolist(), histtype="step", color=_color(row), label=name
            )
        axes.axvline(limit, color="#5b6875", linewidth=1, linestyle="dotted")
        axes.set(xlabel=f"error [{unit}], larger ones in the last bar", ylabel="episodes")

    def walks(axes: Axes, name: str, row: int) -> None:
        for line in paths[name]:
            axes.plot(line[:, 0], line[:, 1], color=_color(row), linewidth=0.8, alpha=0.5)
            axes.plot(*line[-1], marker=".", color="#1c2733", ms=4)
        axes.plot(0, 0, marker="+", color="#009E73", ms=12, mew=2)
        axes.set(xlabel="x [mm]", ylabel="y [mm]", title=name, xlim=(-60, 60), ylim=(-60, 60), aspect="equal")

    return {
        "Success by start": plot_panels(
            [lambda axes: success(axes, "start_mm", "mm"), lambda axes: success(axes, "start_deg", "degrees")]
        ),
        "Errors at the end": plot_panels(
            [
                lambda axes: errors(axes, "distance_mm", "mm", SUCCESS_MM),
                lambda axes: errors(axes, "angle_deg", "degrees", SUCCESS_DEG),
            ]
        ),
        "Paths on the skin, around the standard plane": plot_panels(
            [partial(walks, name=name, row=row) for row, name in enumerate(paths)],
            legend=False,
        ),
    }


def _list_paths(task: Any, played: Played[Any]) -> list[Any]:
    """Return the paths of some episodes in the axes of their standard plane, mm, (steps, 2) each."""
    standard = task.cases.standard[played.states[0].index][:_PATHS].cpu()
    poses = torch.stack([state.pose[:_PATHS].cpu() for state in played.states])  # (T, P, 5)
    x, y = (poses[..., :2] - standard[:, :2]).unbind(dim=2)
    cosine, sine = standard[:, 2].cos(), standard[:, 2].sin()
    turned = torch.stack([cosine * x + sine * y, cosine * y - sine * x], dim=2).numpy()
    lengths = played.lengths[:_PATHS].cpu().numpy()
    return [turned[: length + 1, row] for row, length in enumerate(lengths)]


def _color(row: int) -> str:
    return COLORS[row % len(COLORS)]

"""Plots of summaries for the report of players."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from usrl.agents.players import Played, Player, PolicyPlayer, begin_evaluation
from usrl.agents.summaries import PlannedPlayer
from usrl.compute.trees import map_tree
from usrl.evaluation.report.figures import COLORS, plot_panels
from usrl.evaluation.report.gallery import pick

_CHOSEN = ("best", "median", "worst")


def plot_summaries(
    task: Any, played: Mapping[str, Played[Any]], players: Mapping[str, Player]
) -> dict[str, str]:
    """Return plots of scores over time, as data URIs by title.

    They show the best, the median and the worst clip of the first player, by F1 if the known frames are
    there and by the reward if not: the score of each player that has scores, from 0 to 1 in a clip; below
    it the frames that each keeps; and the known frames in green.
    """
    first = next(iter(played))
    figures = task.figures(played[first].states[-1])
    figure = "f1" if "f1" in figures else "score"
    scores = figures[figure].cpu().tolist()
    rows = pick(scores, _CHOSEN)

    def draw(axes: Axes, label: str, row: int) -> None:
        _draw_clip(axes, task, played, players, row)
        axes.set_title(f"{label}: {task.cases.names[row]}, {figure} {scores[row]:.2f}", fontsize=9)

    draws = [partial(draw, label=label, row=row) for label, row in rows.items()]
    plots = {f"Scores over time, by the {figure} of {first}": plot_panels(draws, legend=False)}
    if figure == "f1":
        plots["Agreement with known frames"] = plot_panels(
            [partial(_draw_agreement, task=task, played=played)]
        )
    return plots


def score_clip(task: Any, player: Player, states: Sequence[Any], row: int) -> NDArray[np.float32] | None:
    """Return the scores of a clip's frames by a player, float32, (L,), or None if it has none.

    The scores of an agent that decides about one frame after the other are its probabilities of keeping
    each, in the states (of all clips) that it came through.
    """
    length = int(task.cases.lengths[row])
    state = begin_evaluation(task, [row])
    if isinstance(player, PolicyPlayer) and player.has_scores:
        scores = player.score(task.observe(state))
    elif isinstance(player, PlannedPlayer) and type(player).score is not PlannedPlayer.score:
        scores = player.score(state)
    elif (
        isinstance(player, PolicyPlayer) and task.is_sequential and hasattr(player.policy, "get_distribution")
    ):
        seen = torch.cat([task.observe(map_tree(_take(row), each)) for each in states[:length]])
        with torch.no_grad():
            scores = player.policy.get_distribution(seen.to(player.policy.device)).distribution.probs[
                None, :, 1
            ]
    else:
        return None
    own: NDArray[np.float32] = scores[0, :length].cpu().numpy()
    return own


def _take(row: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda part: part[row : row + 1]


def _draw_clip(
    axes: Axes, task: Any, played: Mapping[str, Played[Any]], players: Mapping[str, Player], row: int
) -> None:
    length = int(task.cases.lengths[row])
    if task.cases.informative is not None:
        known = task.known(torch.tensor([row], device=task.cases.device))[0, :length].cpu().numpy()
        axes.fill_between(
            np.arange(length),
            -0.1 * len(played),
            1,
            where=known,
            color="#009E73",
            alpha=0.15,
            step="mid",
            lw=0,
        )
    for number, (name, own) in enumerate(played.items()):
        color = COLORS[number % len(COLORS)]
        scores = score_clip(task, players[name], own.states, row)
        if scores is not None:
            low, high = float(scores.min()), float(scores.max())
            axes.plot((scores - low) / max(high - low, 1e-9), color=color, linewidth=0.9)
        kept = own.states[-1].kept[row, :length].cpu().nonzero().flatten().numpy()
        axes.plot(kept, np.full(len(kept), -0.1 * (number + 0.5)), "|", color=color, ms=5)
        axes.annotate(
            name, (length, -0.1 * (number + 0.5)), color=color, fontsize=6, va="center", annotation_clip=False
        )
    axes.set(xlabel="frame", ylim=(-0.1 * len(played), 1.02), xlim=(0, length))
    axes.set_yticks([0, 1])


def _draw_agreement(axes: Axes, task: Any, played: Mapping[str, Played[Any]]) -> None:
    for number, (name, own) in enumerate(played.items()):
        figures = task.figures(own.states[-1])
        precision, recall = (float(figures[key].mean()) for key in ("precision", "recall"))
        axes.plot(recall, precision, "o", color=COLORS[number % len(COLORS)], label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))

"""Does a summary keep the diagnosis? A grade of whole clips, read from the frames that each method keeps.

No frame of a patient's clip is labelled, but the clip is: its severity. A classifier learns the grade from
all frames of the clips of some patients. It then reads clips of other patients from all their frames, and
from those that each method keeps. A summary that keeps what matters is read as well as the whole clip.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from usrl.agents.players import Player, begin_evaluation, play
from usrl.data.clips.clips import Clips
from usrl.envs.summary.task import SummaryTask
from usrl.errors import UserError
from usrl.evaluation.compare import claimed, describe_comparison, free_name
from usrl.evaluation.report.sheets import format_csv
from usrl.files import write_atomically, writing_to
from usrl.metrics.grading import area_under_roc, quadratic_kappa
from usrl.progress import track

WHOLE = "all frames"
"""Row of the clips that are read from all their frames."""
_DECAY = 1e-2
"""Weight of the squared weights of the classifier in its loss."""
_GRID, _COARSE = 8, 4
_RESAMPLES = 2000
_PERCENTILES = (2.5, 97.5)
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """The grades of clips as a method's frames tell them.

    Attributes:
        expected: Mean grade by the probabilities, (M,).
        grade: Most probable grade, (M,).
    """

    expected: Numbers
    grade: Numbers


def diagnose(
    task: SummaryTask,
    players: Sequence[Player | Sequence[Player]],
    out: Path | str,
    *,
    dataset: str,
    label: str = "severity",
    severe: int = 2,
    folds: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Read grades of clips from the frames that players keep; write ``results.json`` and ``cases.csv``.

    Args:
        task: Over all clips, which are labelled as a whole.
        players: Whose summaries are read. Several runs of one method add their mean.
        out: Folder to write: absent or empty.
        dataset: Name of the data set.
        label: The grade among the labels of a clip.
        severe: Grades from this on count as positive for the ROC curve.
        folds: Parts of the patients; each part is read by a classifier that learned from the others.
        seed: Seed of the parts and of the bootstrap.

    Returns:
        What ``results.json`` holds: facts, and a row for each method with ``auc`` and ``kappa``, and their
        differences from all frames and from the first player, all with 95% intervals over patients.

    Raises:
        UserError: If a clip lacks the label, there are too few patients or grades, there is no player, or the
            folder holds files or cannot be written.
    """
    grades = read_grades(task.cases, label)
    if not players:
        raise UserError("a diagnosis needs a player whose summaries are read, such as uniform; name one")
    with claimed(Path(out)) as folder:
        parts = divide_patients(task.cases.groups, folds, seed)
        chances = predict_frames(task, grades, parts)
        is_frame = task.is_frame(torch.arange(len(grades), device=task.cases.device)).cpu()
        members = {WHOLE: [read_clips(chances, is_frame, task.cases)]}
        for entry in players:
            kept = [_keep(task, each) for each in (entry if isinstance(entry, Sequence) else [entry])]
            first = entry[0] if isinstance(entry, Sequence) else entry
            runs = f", mean of {len(kept)} runs" if len(kept) > 1 else ""
            name = free_name(f"{first.name}{runs}", members)
            members[name] = [read_clips(chances, each, task.cases) for each in kept]
        rows = _summarise(members, grades, task.cases.groups, severe, seed)
        results = describe_comparison(dataset, "all", seed, task.cases.groups) | {
            "cases": len(grades),
            "label": label,
            "severe": severe,
            "folds": folds,
            "share": task.settings.share,
            "rows": rows,
        }
        cases = [
            {
                "case": task.cases.names[row],
                "group": task.cases.groups[row],
                "method": name,
                label: int(grades[row]),
            }
            | {"expected": float(np.mean([reading.expected[row] for reading in readings]))}
            for name, readings in members.items()
            for row in range(len(grades))
        ]
        _write(folder, results, cases)
    return results


def print_diagnosis(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the rows of `diagnose`: a line for each method."""
    title = f"{results['dataset']}: {results['label']} read from {results['share']:.0%} of the frames"
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method")
    names = {
        "auc": "AUC",
        "kappa": "kappa",
        "auc_minus_all": "AUC - all frames",
        "auc_minus_first": "AUC - first",
    }
    for head in names.values():
        table.add_column(f"{head} [95%]", justify="right")
    for row in results["rows"]:
        cells = (f"{row[n]:.3f} [{row[f'{n}_low']:.3f}, {row[f'{n}_high']:.3f}]" for n in names)
        table.add_row(escape(row["method"]), *cells)
    (console or Console()).print(table)


def read_grades(clips: Clips, label: str) -> NDArray[np.int64]:
    """Return the grade of each clip, (M,).

    Raises:
        UserError: If a clip lacks it, or all clips have the same grade.
    """
    missing = [name for name, own in zip(clips.names, clips.labels, strict=True) if label not in own]
    if missing or len(clips.labels) != len(clips):
        known = ", ".join(sorted({key for own in clips.labels for key in own})) or "no labels"
        raise UserError(f"--label: {len(missing) or len(clips)} clips have no {label!r}; they have {known}")
    grades = np.array([own[label] for own in clips.labels])
    if grades.min() < 0 or len(np.unique(grades)) < 2:
        raise UserError(
            f"--label: {label!r} must have at least two grades from 0 on, got {sorted(set(grades.tolist()))}"
        )
    return grades


def divide_patients(groups: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the part of each clip, from 0 to folds - 1, (M,). Clips of one patient are in one part."""
    names = np.unique(np.asarray(groups))
    if not 2 <= folds <= len(names):
        raise UserError(f"--folds must be from 2 to the number of patients, {len(names)}, got {folds}")
    order = np.random.default_rng(seed).permutation(len(names))
    part = {name: int(place) % folds for name, place in zip(names, order, strict=True)}
    return np.array([part[group] for group in groups])


def describe_frames(task: SummaryTask) -> Tensor:
    """Return what the classifier sees of each frame, float32, (N, P).

    These are the features of the three networks, the mean gray levels of 8 x 8 fields, and how much the gray
    levels vary within the pixels of 4 x 4 fields.
    """
    clips = task.cases
    gray = clips.frames[:, None].float() / 255
    fields = F.adaptive_avg_pool2d(gray, _GRID).flatten(1)
    mean = F.avg_pool2d(gray, 4)
    spread = (F.avg_pool2d(gray.square(), 4) - mean.square()).clamp_min(0).sqrt()
    vectors = clips.prepare(task.table).vectors.flatten(1)
    return torch.cat([vectors, fields, F.adaptive_avg_pool2d(spread, _COARSE).flatten(1)], dim=1)


def predict_frames(task: SummaryTask, grades: NDArray[np.int64], parts: NDArray[np.int64]) -> Tensor:
    """Return the probability of each grade by each frame, float32, (N, K).

    A frame is read by a linear classifier (softmax) of the parts that its clip is not in. All clips count the
    same in its loss, however many frames they have.
    """
    clips = task.cases
    seen = describe_frames(task)
    clip = torch.repeat_interleave(torch.arange(len(clips), device=seen.device), clips.lengths)
    target, part = (torch.from_numpy(each).to(seen.device)[clip] for each in (grades, parts))
    weight = 1 / clips.lengths[clip].float()
    chances = torch.zeros((len(seen), int(grades.max()) + 1), device=seen.device)
    for number in track(range(int(parts.max()) + 1), "Learning grades", int(parts.max()) + 1, "parts"):
        learned = part != number
        mean, spread = seen[learned].mean(dim=0), seen[learned].std(dim=0) + 1e-6
        scaled = (seen - mean) / spread
        read = _fit(scaled[learned], target[learned], weight[learned], chances.shape[1])
        chances[~learned] = read(scaled[~learned])
    return chances.cpu()


def read_clips(chances: Tensor, kept: Tensor, clips: Clips) -> Reading:
    """Return the grades of clips by the mean probabilities, (N, K), of their kept frames, bool (M, T)."""
    means = []
    for row, part in enumerate(chances.split(clips.lengths.tolist())):
        chosen = part[kept[row, : len(part)]]
        means.append((chosen if len(chosen) else part).mean(dim=0))
    mean = torch.stack(means).double().numpy()
    return Reading(mean @ np.arange(mean.shape[1]), mean.argmax(axis=1).astype(np.float64))


def _fit(seen: Tensor, target: Tensor, weight: Tensor, grades: int) -> Callable[[Tensor], Tensor]:
    """Return the classifier with the least weighted cross-entropy plus weight decay."""
    weights = torch.zeros((seen.shape[1] + 1, grades), device=seen.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def read(frames: Tensor) -> Tensor:
        return frames @ weights[:-1] + weights[-1]

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = F.cross_entropy(read(seen), target, reduction="none")
        total: Tensor = (weight * each).sum() / weight.sum() + _DECAY * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return lambda frames: torch.softmax(read(frames), dim=1).detach()


def _keep(task: SummaryTask, player: Player) -> Tensor:
    kept: Tensor = play(task, player, begin_evaluation(task)).states[-1].kept
    return kept.cpu()


def _summarise(
    members: Mapping[str, Sequence[Reading]],
    grades: NDArray[np.int64],
    groups: Sequence[str],
    severe: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row for each method; the figures of several runs are their means."""
    is_severe = grades >= severe
    if not 0 < is_severe.sum() < len(grades):
        raise UserError(
            f"--severe: grades from {severe} on are none or all of the clips; choose another grade"
        )

    def measure(rows: NDArray[np.int64]) -> dict[str, dict[str, float]]:
        return {
            name: {
                "auc": float(np.mean([area_under_roc(r.expected[rows], is_severe[rows]) for r in readings])),
                "kappa": float(np.mean([quadratic_kappa(grades[rows], r.grade[rows]) for r in readings])),
            }
            for name, readings in members.items()
        }

    first = list(members)[1]
    drawn = [_differ(measure(rows), first) for rows in _draw_patients(groups, is_severe, seed)]
    found = _differ(measure(np.arange(len(grades))), first)
    table = []
    for name, figures in found.items():
        row: dict[str, Any] = {"method": name, "n": len(grades), "runs": len(members[name])}
        for figure, value in figures.items():
            low, high = np.percentile([each[name][figure] for each in drawn], _PERCENTILES)
            row |= {figure: value, f"{figure}_low": float(low), f"{figure}_high": float(high)}
        table.append(row)
    return table


def _differ(found: dict[str, dict[str, float]], first: str) -> dict[str, dict[str, float]]:
    """Return figures with their differences from all frames and from the first player."""
    others = {"all": found[WHOLE], "first": found[first]}
    return {
        name: own
        | {f"{key}_minus_{other}": own[key] - theirs[key] for other, theirs in others.items() for key in own}
        for name, own in found.items()
    }


def _draw_patients(groups: Sequence[str], is_severe: NDArray[np.bool_], seed: int) -> list[NDArray[np.int64]]:
    """Return the clips of samples of patients, drawn with replacement, that have both kinds of clips."""
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    rng = np.random.default_rng(seed)
    samples: list[NDArray[np.int64]] = []
    while len(samples) < _RESAMPLES:
        rows = np.concatenate([members[each] for each in rng.integers(len(members), size=len(members))])
        if 0 < is_severe[rows].sum() < len(rows):
            samples.append(rows)
    return samples


def _write(folder: Path, results: Mapping[str, Any], cases: Sequence[dict[str, Any]]) -> None:
    content = {
        "cases.csv": format_csv(cases),
        "results.json": json.dumps(results, indent=2, allow_nan=False).encode(),
    }
    with writing_to(folder):
        for name, data in content.items():
            write_atomically(folder / name, data)

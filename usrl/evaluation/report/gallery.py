"""The pictures of the report: methods on images, and episodes of agents."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from usrl.evaluation.report.figures import encode_film
from usrl.evaluation.report.outlines import encode_image, frame_paths, trace_boxes, trace_mask
from usrl.evaluation.statistics.summary import Case, Comparison
from usrl.segmenter import Filmed

LEGEND = {"target": "target", "pred": "prediction", "proposal": "proposal", "box": "box"}
"""Name of each outline of `usrl.evaluation.report.overlay.STYLES`."""
_WORST = 4
_KINDS = ("box", "target", "proposal", "pred")
"""Outlines in the order in which they are drawn."""


class Shown(NamedTuple):
    """A picture with its caption."""

    uri: str  # a data URI
    alt: str  # what it shows
    label: str  # why it was chosen
    case: str  # name of the image
    text: str  # more about it


class View(NamedTuple):
    """A method's outlines on an image of `Plates`, with its caption."""

    case: int  # number of the image
    method: int
    label: str  # why it was chosen
    text: str  # more about it


class Plates:
    """What the pictures of a report are put together from: every image and every outline, once.

    Attributes:
        images: Name, size in px, data URI and the part to look at of each image, in order.
        paths: Path of each outline by its id: its kind, the number of the image and, of an answer, that of
            the method.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._cases = list(comparison.samples)
        self._methods = list(comparison.methods)
        self.images: list[dict[str, Any]] = []
        self.paths: dict[str, str] = {}
        for number, (name, sample) in enumerate(comparison.samples.items()):
            own = {f"target-{number}": trace_mask(sample.target)}
            if any(method.track == "prompted" for method in comparison.methods.values()):
                own[f"box-{number}"] = trace_boxes(comparison.prompts[name])
            for place, method in enumerate(self._methods):
                traced = comparison.traced.get((method, name), {})
                own |= {f"{kind}-{number}-{place}": path for kind, path in traced.items() if path}
            size = sample.image.shape[::-1]
            frame = frame_paths(list(own.values()), size)
            self.images.append(
                {"name": name, "size": size, "uri": encode_image(sample.image), "frame": frame}
            )
            self.paths |= own

    def parts(self, case: int, method: int) -> list[tuple[str, str]]:
        """Return kind and id of the outlines of a method's answer, in the order in which they are drawn."""
        name = self._methods[method]
        hidden = {"box"} if self._comparison.methods[name].track == "automatic" else set()
        ids = [(kind, own) for kind in _KINDS for own in (f"{kind}-{case}", f"{kind}-{case}-{method}")]
        return [(kind, own) for kind, own in ids if own in self.paths and kind not in hidden]

    def show_shared(self) -> dict[str, list[View]]:
        """Return views of the same images for every method."""
        scores = [self._comparison.scores(method) for method in self._methods]
        table = np.array([[own[name] for name in self._cases] for own in scores])  # (methods, images)
        picks = pick(table.mean(axis=0), ("easiest", "median", "hardest"))
        disputed = (int(index) for index in table.std(axis=0).argsort()[::-1] if index not in picks.values())
        if len(scores) > 1 and (first := next(disputed, None)) is not None:
            picks["most disputed"] = first
        return {
            method: [self._view(case, method, label) for label, case in picks.items()]
            for method in self._methods
        }

    def show_own(self) -> dict[str, list[View]]:
        """Return views of each method's best, median and worst image."""
        views = {}
        for method in self._methods:
            picks = _pick_own(self._comparison, method)
            views[method] = [self._view(self._cases.index(name), method, why) for why, name in picks.items()]
        return views

    def show_failures(self) -> dict[str, list[View]]:
        """Return views of the images where each method is worst, the worst first."""
        views = {}
        for method in self._methods:
            scores = self._comparison.scores(method)
            worst = sorted(range(len(self._cases)), key=lambda case: scores[self._cases[case]])[:_WORST]
            views[method] = [self._view(case, method, f"{place}.") for place, case in enumerate(worst, 1)]
        return views

    def _view(self, case: int, method: str, label: str) -> View:
        row = self._comparison.row(method, self._cases[case])
        return View(case, self._methods.index(method), label, describe_row(row))


def describe_row(row: Case) -> str:
    """Return what a caption says of a method on an image."""
    text = f"Dice {row['dice']:.3f}"
    if "initial_dice" in row:
        text += f" from {row['initial_dice']:.3f}"
    text += "".join(f", HD95 {row[key]:.1f} {key[5:]}" for key in ("hd95_px", "hd95_mm") if key in row)
    return text + (", nothing found" if row["missed"] else "")


def show_films(comparison: Comparison) -> list[Shown]:
    """Return an animated episode of each agent, on its median image."""
    films = []
    for method, segmenter in comparison.methods.items():
        if isinstance(segmenter, Filmed):
            name = _pick_own(comparison, method)["median"]
            sample, prompt = comparison.samples[name], comparison.prompt(method, name)
            frames = segmenter.film(sample.image, prompt, sample.target, comparison.answer(method, name))
            if frames:  # the proposal may be empty
                text = f"its median case, {len(frames) - 1} steps"
                films.append(Shown(encode_film(frames), f"episode of {method}", method, name, text))
    return films


def pick(scores: ArrayLike, labels: Sequence[str]) -> dict[str, int]:
    """Return the places of the highest, the median and the lowest score, by three labels."""
    order = np.argsort(scores, kind="stable")[::-1]
    return {label: int(order[at]) for label, at in zip(labels, (0, len(order) // 2, -1), strict=True)}


def _pick_own(comparison: Comparison, method: str) -> dict[str, str]:
    scores = comparison.scores(method)
    picks = pick(list(scores.values()), ("best", "median", "worst"))
    return {label: list(scores)[place] for label, place in picks.items()}

"""The pictures of the report: methods on images, and episodes of agents."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.evaluation.figures import encode_film, encode_picture
from usrl.evaluation.overlay import Picture, fit_scale, overlay
from usrl.evaluation.summary import Comparison
from usrl.metrics.overlap import dice
from usrl.segmenter import Filmed

LEGEND = {"target": "target", "pred": "prediction", "proposal": "proposal", "box": "box"}
"""Name of each outline of `usrl.evaluation.overlay.STYLES`."""
_PICTURE_PX = 480


class Shown(NamedTuple):
    """A picture with its caption."""

    uri: str  # a data URI
    alt: str  # what it shows
    label: str  # why it was chosen
    case: str  # name of the image
    text: str  # more about it


def show_shared_cases(comparison: Comparison) -> dict[str, list[Shown]]:
    """Return pictures of the same images for every method."""
    names = list(comparison.samples)
    scores = [comparison.scores(method) for method in comparison.methods]
    table = np.array([[own[name] for name in names] for own in scores])  # (methods, images)
    picks = pick(table.mean(axis=0), ("easiest", "median", "hardest"))
    disputed = (int(index) for index in table.std(axis=0).argsort()[::-1] if index not in picks.values())
    if len(scores) > 1 and (first := next(disputed, None)) is not None:
        picks["most disputed"] = first
    return {
        method: [_show(comparison, method, names[index], label) for label, index in picks.items()]
        for method in comparison.methods
    }


def show_own_cases(comparison: Comparison) -> dict[str, list[Shown]]:
    """Return pictures of each method's best, median and worst image."""
    return {
        method: [_show(comparison, method, name, why) for why, name in _pick_own(comparison, method).items()]
        for method in comparison.methods
    }


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


def _show(comparison: Comparison, method: str, name: str, label: str) -> Shown:
    sample, answer = comparison.samples[name], comparison.answer(method, name)
    masks = {"target": sample.target}
    text = f"Dice {dice(answer.mask, sample.target):.3f}"
    if answer.proposal is not None:
        masks["proposal"] = answer.proposal
        text += f" from {dice(answer.proposal, sample.target):.3f}"
    masks["pred"] = answer.mask
    text += "" if answer.mask.any() else ", nothing found"
    picture = encode_picture(_crop_overlay(sample.image, masks, comparison.prompt(method, name)))
    return Shown(picture, f"{method}, {name}", label, name, text)


def _crop_overlay(image: GrayImage, masks: Mapping[str, BoolMask], prompt: Prompt | None) -> Picture:
    """Return the overlay of the part of an image that holds every mask and box, with surroundings."""
    boxes = [*(prompt or ()), *(bounding_box(mask) for mask in masks.values() if mask.any())]
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    size = np.array(image.shape[::-1])
    half = np.maximum(0.8 * (high - low).max(), 0.2 * size.max())
    x0, y0 = np.maximum(np.floor((low + high) / 2 - half), 0).astype(int)
    x1, y1 = np.minimum(np.ceil((low + high) / 2 + half), size).astype(int)
    cut = (slice(y0, y1), slice(x0, x1))
    moved = tuple((a - x0, b - y0, c - x0, d - y0) for a, b, c, d in prompt or ())
    part = {name: mask[cut] for name, mask in masks.items()}
    return overlay(image[cut], part, moved, fit_scale(image[cut], _PICTURE_PX))

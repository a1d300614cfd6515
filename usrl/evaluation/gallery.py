"""The pictures of the report: methods on images, and episodes of agents."""

from collections.abc import Mapping
from html import escape

import numpy as np

from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.evaluation.figures import encode_film, encode_picture
from usrl.evaluation.overlay import STYLES, Picture, fit_scale, overlay
from usrl.evaluation.summary import Comparison
from usrl.metrics.overlap import dice
from usrl.segmenter import Filmed

_PICTURE_PX = 480


def show_shared_cases(comparison: Comparison) -> str:
    """Return the section of images that every method is shown on."""
    by_method = [comparison.scores(name) for name in comparison.methods]
    names = list(comparison.samples)
    table = np.array([[scores[name] for name in names] for scores in by_method])  # (methods, images)
    order = np.argsort(table.mean(axis=0), kind="stable")[::-1]
    picks = {"easiest": order[0], "median": order[len(order) // 2], "hardest": order[-1]}
    disputed = (index for index in table.std(axis=0).argsort()[::-1] if index not in picks.values())
    if len(by_method) > 1 and (first := next(disputed, None)) is not None:
        picks["most disputed"] = first
    rows = "".join(
        _row(comparison, method, {label: names[index] for label, index in picks.items()})
        for method in comparison.methods
    )
    return (
        "<h2>The same images for every method</h2><p>Chosen by the mean Dice over methods, and of the others "
        f"where the methods differ most; cut to what is outlined.</p>{_legend()}{rows}"
    )


def show_own_cases(comparison: Comparison) -> str:
    """Return the section of each method's best, median and worst image."""
    rows = []
    for method in comparison.methods:
        scores = comparison.scores(method)
        order = sorted(scores, key=scores.__getitem__, reverse=True)
        picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        rows.append(_row(comparison, method, picks, "three"))
    return f"<h2>Best, median and worst of each method</h2>{_legend()}{''.join(rows)}"


def _row(comparison: Comparison, method: str, picks: Mapping[str, str], style: str = "") -> str:
    cells = "".join(_case(comparison, method, name, label) for label, name in picks.items())
    return f'<div class=row><h3>{escape(method)}</h3><div class="cells {style}">{cells}</div></div>'


def _case(comparison: Comparison, method: str, name: str, label: str) -> str:
    sample, answer = comparison.samples[name], comparison.answer(method, name)
    masks = {"target": sample.target}
    text = f"Dice {dice(answer.mask, sample.target):.3f}"
    if answer.proposal is not None:
        masks["proposal"] = answer.proposal
        text += f" from {dice(answer.proposal, sample.target):.3f}"
    masks["pred"] = answer.mask
    text += "" if answer.mask.any() else ", nothing found"
    return _figure(
        encode_picture(_crop_overlay(sample.image, masks, comparison.prompt(method, name))),
        f"<b>{label}</b>: {escape(name)}<br>{text}",
        f"{method}, {name}",
    )


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


def _figure(uri: str, caption: str, alt: str) -> str:
    return f'<figure><img alt="{escape(alt)}" src="{uri}"><figcaption>{caption}</figcaption></figure>'


def _legend() -> str:
    names = {"target": "target", "pred": "prediction", "proposal": "proposal", "box": "box"}
    items = "".join(
        f'<li><span><i style="border-top: 3px {"dashed" if STYLES[key].is_dashed else "solid"} '
        f'rgb{STYLES[key].color}"></i></span>{text}</li>'
        for key, text in names.items()
    )
    return f"<ul class=legend>{items}</ul>"


def show_films(comparison: Comparison) -> str:
    """Return the section of one animated episode per agent; empty if there is none."""
    figures = []
    for method, segmenter in comparison.methods.items():
        if isinstance(segmenter, Filmed):
            scores = comparison.scores(method)
            name = sorted(scores, key=scores.__getitem__, reverse=True)[len(scores) // 2]
            sample, prompt = comparison.samples[name], comparison.prompt(method, name)
            frames = segmenter.film(sample.image, prompt, sample.target, comparison.answer(method, name))
            if not frames:  # the proposal may be empty
                continue
            caption = f"<b>{escape(method)}</b>: {escape(name)}, its median case, {len(frames) - 1} steps"
            figures.append(_figure(encode_film(frames), caption, f"episode of {method}"))
    if not figures:
        return ""
    return f'<h2>An episode of each agent</h2><div class="cells three film">{"".join(figures)}</div>'

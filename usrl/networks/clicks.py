"""Networks that a user corrects: by clicks, or by landmarks on the border.

Such a network sees the crop of a box (`usrl.networks.prompted`), discs where the user has marked something,
and its own last prediction. ``prompt: clicks`` has a channel for clicks inside the lesion and one for clicks
outside. ``prompt: landmarks`` has one channel for points on the border.

Training is iterative: without gradients, the network predicts, a user marks the largest error, and the
network predicts again with the mark and its last prediction. The step of the optimizer sees the last of these
inputs.

Sources:
    Sofiiuk, Petrov, Konushin (2022), Reviving iterative training with mask guidance for interactive
    segmentation, ICIP, arXiv:2102.06583 (RITM).
    Girum, Lalande, Hussain, Créhange (2020), A deep learning method for real-time intraoperative US image
    segmentation in prostate brachytherapy, Int J CARS 15:1467-1476, doi:10.1007/s11548-020-02231-x (points of
    the border as a prior); Girum, Créhange, Lalande (2021), Learning with context feedback loop for robust
    medical image segmentation, IEEE Trans Med Imaging, doi:10.1109/TMI.2021.3060497 (feedback).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from usrl.compute.rng import mix, step_keys
from usrl.data.components import split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask, GrayImage, Prompt, Sample
from usrl.errors import UserError
from usrl.geometry.area import signed_distances
from usrl.geometry.boxes import grow, return_samples
from usrl.metrics.overlap import dice
from usrl.networks.models import build_network, infer
from usrl.networks.prompted import cut_masks, show_boxes, shrink
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.run import Run
from usrl.runs.tensors import load_weights
from usrl.segmenter import Answer
from usrl.session import Asks, Marks
from usrl.users.users import User, look

MARKED = ("clicks", "landmarks")
"""Prompts that take corrections."""
_TRAINER = User("trainer", jitter=0.015, second=0.2)
"""Who corrects in training: someone less exact than the centre, so that the network bears people's marks."""
_SCORED = 3
"""Epochs are compared by the mean Dice after 0 to so many corrections."""


def draw_marks(
    recipe: NetworkRecipe, network: nn.Module, inputs: Tensor, masks: Tensor, rng: torch.Generator
) -> Tensor:
    """Return inputs (B, C, s, s) after a drawn number of corrections towards masks, bool, (B, s, s)."""
    rounds = int(torch.randint(recipe.mark_rounds + 1, (1,), generator=rng, device=rng.device))
    keys = torch.randint(2**62, (len(inputs),), generator=rng, device=rng.device)
    border = signed_distances(masks)
    # Without a border there is nothing to mark.
    for count in range(rounds):
        found = infer(network, inputs, recipe)  # (B, 1, s, s)
        inputs = _correct(
            recipe, inputs, found, border, step_keys(keys, torch.full_like(keys, count)), _TRAINER
        )
    for _ in range(recipe.feedback):
        found = infer(network, inputs, recipe.model_copy(update={"feedback": 0}))
        inputs = torch.cat([inputs[:, :-1], found], dim=1)
    network.train()
    return inputs


def score_marks(
    network: nn.Module,
    recipe: NetworkRecipe,
    letterboxes: Sequence[Letterbox],
    working: Tensor,
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
) -> float:
    """Return the mean Dice after 0 to 3 corrections of a user who marks the centre of the largest error.

    Each box is corrected on its own, in its crop.
    """
    parts = []
    for letterbox, image, prompt, sample in zip(letterboxes, working, prompts, samples, strict=True):
        boxes = torch.from_numpy(letterbox.boxes_to_working(prompt)).to(working.device)
        target = torch.from_numpy(letterbox.target(sample.target)).to(working.device)
        wanted = cut_masks(recipe, target.expand(len(boxes), -1, -1), boxes)
        inputs = show_boxes(recipe, image.float().expand(len(boxes), -1, -1) / 255, boxes)
        parts.append((inputs, wanted))
    inputs, masks = (torch.cat(each) for each in zip(*parts, strict=True))
    scores, border, user = [], signed_distances(masks), User("centre")
    keys = mix(torch.arange(len(inputs), device=inputs.device))
    for count in range(_SCORED + 1):
        found = torch.cat([infer(network, part, recipe) for part in inputs.split(32)])
        pred = found[:, 0] > 0.5
        scores += [dice(one, two) for one, two in zip(pred.cpu().numpy(), masks.cpu().numpy(), strict=True)]
        inputs = _correct(recipe, inputs, found, border, keys + count, user)
    return float(np.mean(scores))


def _correct(
    recipe: NetworkRecipe, inputs: Tensor, found: Tensor, border: Tensor, keys: Tensor, user: User
) -> Tensor:
    """Return inputs with a user's next mark and the probabilities that were found, (B, 1, s, s)."""
    seen = look(user, signed_distances(found[:, 0] > 0.5), border, keys)
    points, channel = seen.border, torch.zeros_like(seen.is_missing, dtype=torch.int64)
    if recipe.prompt == "clicks":
        points, channel = seen.centre, (~seen.is_missing).to(torch.int64)
    discs = paint_discs(points, inputs.shape[-1], recipe.mark_px)  # (B, s, s)
    discs = discs & seen.sees_error[:, None, None]
    marked = inputs.clone()
    rows = torch.arange(len(inputs), device=inputs.device)
    marked[rows, 1 + channel] = torch.maximum(marked[rows, 1 + channel], discs.float())
    marked[:, -1] = found[:, 0]
    return marked


def paint_discs(points: Tensor, size: int, radius: float) -> Tensor:
    """Return discs around points (B, 2), bool, (B, S, S)."""
    place = torch.arange(size, device=points.device)
    x, y = (place - points[:, axis, None] for axis in (0, 1))  # (B, S)
    return x.square()[:, None] + y.square()[..., None] <= radius**2


@dataclass(frozen=True, eq=False)
class Clicked:
    """What a network sees and says of the boxes of one image.

    Attributes:
        letterbox: From native to working pixels.
        regions: What each crop shows, working px, (B, 4).
        inputs: What the network sees next, (B, C, s, s), but for the last prediction.
        found: Its probabilities, (B, 1, s, s).
        start: The mask of the start until there is a mark; None if it began from boxes.
    """

    letterbox: Letterbox
    regions: Tensor
    inputs: Tensor
    found: Tensor
    start: BoolMask | None


class ClickedNetwork:
    """A trained network with ``prompt: clicks`` or ``landmarks``; see `usrl.session.Interactive`.

    A mark counts in every crop that shows it. Lesions of a mask to start from get crops around them.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self._recipe, self._device, self.name = run.recipe_as(NetworkRecipe), device, run.name
        if self._recipe.prompt not in MARKED:
            raise UserError(
                f"{run.path}: a network with prompt: {self._recipe.prompt} takes no corrections; train one "
                f"with prompt: {' or '.join(MARKED)}"
            )
        self.asks: Asks = "clicks" if self._recipe.prompt == "clicks" else "border"
        network = build_network(self._recipe)
        load_weights(run.weights_path, network)
        self._network = network.to(device).eval()

    def begin(self, image: GrayImage, marks: Marks) -> Clicked:
        """Return what the network says without marks; see `usrl.session.Interactive`."""
        recipe = self._recipe
        boxes = marks.boxes
        if marks.mask is not None:
            boxes = tuple(map(bounding_box, split_components(marks.mask)))
        (letterbox,), working = shrink([image], recipe.data.size, self._device)
        sides = torch.from_numpy(letterbox.boxes_to_working(boxes)).to(self._device)  # (B, 4)
        shown = show_boxes(recipe, working.float().expand(len(sides), -1, -1) / 255, sides)
        regions = grow(sides, recipe.crop_margin)
        if marks.mask is None:
            return Clicked(letterbox, regions, shown, infer(self._network, shown, recipe), None)
        known = torch.from_numpy(letterbox.target(marks.mask)).to(self._device)
        crops = cut_masks(recipe, known.expand(len(sides), -1, -1), sides)[:, None].float()
        return Clicked(letterbox, regions, shown, crops, marks.mask)

    def correct(self, state: Clicked, marks: Marks) -> Clicked:
        """Return what the network says with more marks; see `usrl.session.Interactive`."""
        if not len(state.regions):
            raise UserError("there is no lesion to correct; begin with a box around it")
        inputs, size = state.inputs.clone(), state.inputs.shape[-1]
        lists = (marks.border,) if self.asks == "border" else (marks.inside, marks.outside)
        low, extent = state.regions[:, :2], state.regions[:, 2:] - state.regions[:, :2]  # (B, 2)
        for channel, points in enumerate(lists, start=1):
            placed = state.letterbox.points_to_working(np.reshape(points, (-1, 2)))
            for point in torch.from_numpy(placed).to(self._device):
                place = (point - low) / extent * size - 0.5  # (B, 2)
                discs = paint_discs(place, size, self._recipe.mark_px)
                inputs[:, channel] = torch.maximum(inputs[:, channel], discs.float())
        seen = torch.cat([inputs[:, :-1], state.found], dim=1)
        return replace(state, inputs=inputs, found=infer(self._network, seen, self._recipe), start=None)

    def answer(self, state: Clicked) -> Answer:
        """Return the union of what was found; see `usrl.session.Interactive`."""
        if state.start is not None:
            return Answer(state.start)
        size = self._recipe.data.size
        maps = return_samples(state.found, state.regions, (size, size))[:, 0].cpu().numpy()
        native = np.maximum.reduce([state.letterbox.to_native(each) for each in maps])
        return Answer(native > 0.5, probability=native)


def open_clicked_network(run: Run, device: torch.device) -> ClickedNetwork:
    """Return a network's run as a method that takes corrections: see `usrl.learners.open_run_interactive`."""
    return ClickedNetwork(run, device)

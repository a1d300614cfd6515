"""A trained contour agent as a segmenter, prompted by boxes or started from a network's masks.

It may start several times on an image: from the given boxes (or the outlines of the masks), and from others
whose sides have moved, every second time on the mirrored image. All starts are one batch, and the masks that
they end with vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.agents.algorithms import load_policy
from usrl.agents.players import play
from usrl.agents.recipe import AgentRecipe
from usrl.compute.devices import one_thread
from usrl.data.bank import MIN_AREA_PX, Bank
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, check_prompt, start_boxes
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.envs.contour.task import ContourState, ContourTask
from usrl.envs.rendering import draw_contour_step
from usrl.envs.task import follow_oracle
from usrl.errors import UserError
from usrl.geometry.area import rasterise
from usrl.geometry.boxes import follow_boxes
from usrl.geometry.polygon import ellipse_in_box, mirror_polygons, polygon_of_mask
from usrl.learners import load_object
from usrl.metrics.uncertainty import measure_spread, vote
from usrl.registry import build_task, find_row
from usrl.runs.run import Run
from usrl.segmenter import Segmenter, name_method


@dataclass(frozen=True)
class _Start:
    """What an image's episodes start from.

    Attributes:
        letterbox: From native to working pixels.
        image: Working image, uint8, (S, S).
        boxes: Of the contours, native pixels.
        vertices: One contour per box or component, (B, N, 2), working pixels.
        masks: The same as native masks, each (H, W).
        untouched: What is too small for a contour, native, (H, W); it stays as it is.
    """

    letterbox: Letterbox
    image: GrayImage
    boxes: Prompt
    vertices: Tensor
    masks: list[BoolMask]
    untouched: BoolMask


class ContourSegmenter:
    """Refines one contour per box, or per component of another segmenter's mask.

    Args:
        run: A run of an agent's recipe with weights.
        device: Where environment and policy compute.
        proposer: An automatic segmenter whose masks are refined; boxes are needed if None.
        starts: How often to start on an image.

    Raises:
        UserError: If the recipe is not of a contour agent, or its weights are unusable.
    """

    def __init__(
        self, run: Run, device: torch.device, proposer: Segmenter | None = None, starts: int = 1
    ) -> None:
        self._recipe = run.recipe_as(AgentRecipe)
        self._device = device
        self._proposer = proposer
        self._starts = starts
        self.name = name_method(run.name, starts, proposer)
        self.track: Track = "prompted" if proposer is None else "automatic"
        # The spaces depend on the recipe alone: a blank image stands in for a bank.
        blank = np.zeros((self._recipe.data.size,) * 2, np.uint8)
        task = self._task([blank], [blank.astype(bool)])
        self._vertices = task.settings.vertices
        self._policy = load_policy(run.weights_path, self._recipe, task, device)

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the refined mask, bool, (H, W); see `usrl.segmenter.Segmenter`."""
        return self.segment_with_uncertainty(image, prompt)[0]

    def segment_with_uncertainty(
        self, image: GrayImage, prompt: Prompt | None
    ) -> tuple[BoolMask, float | None]:
        """Return the refined mask, bool, (H, W), and the spread of the starts; None where there is one."""
        start = self._start(image, prompt)
        masks = [start.untouched]
        if start.masks:
            views = self._views(start)  # (E, B, N, 2)
            ends = self._play(start, views)[-1].vertices.view(views.shape)
            masks = [self._native_mask(start, vertices) for vertices in self._mirror_odd(ends)]
        united = vote(masks)
        return united, None if self._starts == 1 else measure_spread(masks, united)

    def segment_each(self, image: GrayImage, prompt: Prompt | None) -> list[BoolMask]:
        """Return the refined mask of each box or component from its first start, bool, (H, W)."""
        start = self._start(image, prompt)
        if not start.masks:
            return []
        return self._native_masks(start.letterbox, self._play(start, start.vertices[None])[-1].vertices)

    def propose(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the mask that the refinement starts from, bool, (H, W)."""
        start = self._start(image, prompt)
        return np.logical_or.reduce([start.untouched, *start.masks])

    def oracle(self, image: GrayImage, prompt: Prompt | None, target: BoolMask) -> BoolMask:
        """Return the mask that the teacher reaches from the same proposal, bool, (H, W).

        Each contour is taught the target's component that it overlaps most; one that overlaps none
        stays as it is: moves along normals do not make a contour vanish.
        """
        start = self._start(image, prompt)
        components = [best_overlap(target, mask) for mask in start.masks]
        taught = [row for row, component in enumerate(components) if component is not None]
        vertices = start.vertices.clone()
        if taught:
            targets = [start.letterbox.target(c) for c in components if c is not None]
            task = self._task([start.image] * len(targets), targets)
            state = task.begin(torch.arange(len(taught), device=self._device), start.vertices[taught])
            vertices[taught] = follow_oracle(task, state).vertices
        return self._native_mask(start, vertices) if start.masks else start.untouched

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the first start, uint8, (h, w, 3), proposal first.

        Empty where the proposal is.
        """
        start = self._start(image, prompt)
        if not start.masks:
            return []
        working = None if target is None else start.letterbox.target(target)
        proposal = start.vertices.cpu().numpy()
        states = self._play(start, start.vertices[None])
        return [
            draw_contour_step(
                start.image, working, proposal, state.vertices.cpu().numpy(), f"step {step}/{len(states) - 1}"
            )
            for step, state in enumerate(states)
        ]

    def _start(self, image: GrayImage, prompt: Prompt | None) -> _Start:
        letterbox = Letterbox.fit(image.shape, self._recipe.data.size)
        if self._proposer is None:
            boxes, untouched = check_prompt(prompt, image.shape), np.zeros(image.shape, bool)
            corners = torch.from_numpy(letterbox.boxes_to_working(boxes))
            contours = ellipse_in_box(corners, self._vertices)
        else:
            contours, boxes, untouched = self._outlines(letterbox, self._proposer.segment(image, prompt))
        vertices = contours.to(self._device)
        masks = self._native_masks(letterbox, vertices)
        return _Start(letterbox, letterbox.image(image), boxes, vertices, masks, untouched)

    def _outlines(self, letterbox: Letterbox, mask: BoolMask) -> tuple[Tensor, Prompt, BoolMask]:
        """Return contours of a native mask's components, (B, N, 2), their boxes, and what is too small."""
        outlines, boxes, untouched = [], [], np.zeros(mask.shape, bool)
        for component in split_components(mask):
            working = letterbox.target(component)
            if working.sum() < MIN_AREA_PX:
                untouched |= component
            else:
                outlines.append(polygon_of_mask(working, self._vertices))
                boxes.append(bounding_box(component))
        contours = np.stack(outlines) if outlines else np.zeros((0, self._vertices, 2), np.float32)
        return torch.from_numpy(contours), tuple(boxes), untouched

    def _views(self, start: _Start) -> Tensor:
        """Return the contours of every start, (E, B, N, 2), those of odd number on the mirrored image."""
        prompts = start_boxes(start.boxes, self._starts, start.letterbox.native_shape)
        corners = torch.from_numpy(np.stack([start.letterbox.boxes_to_working(p) for p in prompts]))
        first, *others = corners.to(self._device)  # (B, 4) each
        moved = [follow_boxes(start.vertices, first, boxes) for boxes in others]
        return self._mirror_odd(torch.stack([start.vertices, *moved]))

    def _mirror_odd(self, contours: Tensor) -> Tensor:
        """Return contours (E, B, N, 2), every second start mirrored: there and back."""
        size = self._recipe.data.size
        return torch.stack([mirror_polygons(c, size) if e % 2 else c for e, c in enumerate(contours)])

    def _play(self, start: _Start, views: Tensor) -> Sequence[ContourState]:
        """Return the states of one batch of episodes from contours (E, B, N, 2) as `_views` gives them."""
        images = [start.image, start.image[:, ::-1]][: len(views)]
        task = self._task(images, [np.zeros(start.image.shape, bool)] * len(images))
        image = torch.arange(len(views), device=self._device) % 2
        index = image.repeat_interleave(views.shape[1])
        with one_thread():
            return play(task, self._policy, task.begin(index, views.flatten(0, 1)))

    def _task(self, images: list[GrayImage], targets: list[BoolMask]) -> ContourTask:
        """Return a task over images with a target each; blank ones where only the policy acts."""
        stacked = torch.from_numpy(np.stack(images))
        names = ("image",) * len(images)
        bank = Bank(stacked, torch.from_numpy(np.stack(targets)), None, names)
        # The segmenter brings its own contours, so that the recipe's proposals are not asked for.
        settings = self._recipe.env.kwargs | {"proposal": "box"}
        horizon = self._recipe.env.max_episode_steps
        task = build_task(self._recipe.env.id, bank.to(self._device), settings, horizon)
        if not isinstance(task, ContourTask):
            raise UserError(
                f"env.id: {self._recipe.env.id} is not a contour environment; segment with another run"
            )
        return task

    def _native_masks(self, letterbox: Letterbox, vertices: Tensor) -> list[BoolMask]:
        native = torch.from_numpy(letterbox.points_to_native(vertices.cpu().numpy()))
        height, width = letterbox.native_shape
        return list(rasterise(native, height, width).numpy())

    def _native_mask(self, start: _Start, vertices: Tensor) -> BoolMask:
        return np.logical_or.reduce([start.untouched, *self._native_masks(start.letterbox, vertices)])


def open_agent(
    run: Run, device: torch.device, *, proposer: Segmenter | None = None, starts: int = 1
) -> Segmenter:
    """Return the segmenter of an agent's run, which its environment names: see `usrl.learners`."""
    row = find_row(run.recipe_as(AgentRecipe).env.id)
    segmenter: Segmenter = load_object(row.segmenter)(run, device, proposer=proposer, starts=starts)
    return segmenter

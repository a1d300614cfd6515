"""A trained contour agent as a segmenter, prompted by boxes or started from a network's masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.agents.algorithms import load_policy
from usrl.agents.rollout import play
from usrl.data.bank import MIN_AREA_PX, Bank
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import check_prompt
from usrl.data.sample import BoolMask, GrayImage, Prompt, Track
from usrl.envs.contour import ContourState, ContourTask
from usrl.envs.rendering import draw_contour_step
from usrl.errors import UserError
from usrl.geometry.area import rasterise
from usrl.geometry.polygon import ellipse_in_box, polygon_of_mask
from usrl.recipes import AgentRecipe
from usrl.registry import build_task
from usrl.runs import Run


@dataclass(frozen=True)
class _Start:
    """What an image's episodes start from.

    Attributes:
        letterbox: From native to working pixels.
        image: Working image, uint8, (S, S).
        vertices: One contour per box or component, (B, N, 2), working pixels.
        masks: The same as native masks, each (H, W).
        untouched: What is too small for a contour, native, (H, W); it stays as it is.
    """

    letterbox: Letterbox
    image: GrayImage
    vertices: Tensor
    masks: list[BoolMask]
    untouched: BoolMask


class ContourSegmenter:
    """Refines one contour per box, or per component of another segmenter's mask.

    Args:
        run: A run of an agent's recipe with weights.
        device: Where environment and policy compute.
        proposer: An automatic segmenter whose masks are refined; boxes are needed if None.

    Raises:
        UserError: If the recipe is not of a contour agent, or its weights are unusable.
    """

    def __init__(self, run: Run, device: torch.device, proposer: Any = None) -> None:
        self._recipe = run.recipe_as(AgentRecipe)
        self._device = device
        self._proposer = proposer
        own = run.path.resolve().name
        self.name = own if proposer is None else f"{proposer.name}+{own}"
        self.track: Track = "prompted" if proposer is None else "automatic"
        # The spaces depend on the recipe alone: a blank image stands in for a bank.
        blank = np.zeros((self._recipe.data.size,) * 2, np.uint8)
        task = self._task(blank, [blank.astype(bool)])
        self._vertices = task.settings.vertices
        self._policy = load_policy(run.weights_path, self._recipe, task, device)

    def segment(self, image: GrayImage, prompt: Prompt | None) -> BoolMask:
        """Return the refined mask, bool, (H, W); see `usrl.evaluation.segmenter.Segmenter`."""
        start = self._start(image, prompt)
        return self._native_mask(start, self._play(start)[-1].vertices) if start.masks else start.untouched

    def segment_each(self, image: GrayImage, prompt: Prompt | None) -> list[BoolMask]:
        """Return the refined mask of each box or component, bool, (H, W); see `segment`."""
        start = self._start(image, prompt)
        if not start.masks:
            return []
        return self._native_masks(start.letterbox, self._play(start)[-1].vertices)

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
            task = self._task(start.image, targets)
            state = task.begin(torch.arange(len(taught), device=self._device), start.vertices[taught])
            for _ in range(task.horizon):
                state, _ = task.step(state, task.oracle_action(state))
            vertices[taught] = state.vertices
        return self._native_mask(start, vertices) if start.masks else start.untouched

    def film(
        self, image: GrayImage, prompt: Prompt | None, target: BoolMask | None
    ) -> list[NDArray[np.uint8]]:
        """Return one picture per step of the refinement, uint8, (h, w, 3), proposal first."""
        start = self._start(image, prompt)
        if not start.masks:
            raise UserError("there is no contour to film: the proposal is empty; choose another image")
        working = None if target is None else start.letterbox.target(target)
        proposal = start.vertices.cpu().numpy()
        states = self._play(start)
        return [
            draw_contour_step(
                start.image, working, proposal, state.vertices.cpu().numpy(), f"step {step}/{len(states) - 1}"
            )
            for step, state in enumerate(states)
        ]

    def _start(self, image: GrayImage, prompt: Prompt | None) -> _Start:
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), self._recipe.data.size)
        if self._proposer is None:
            boxes = np.array(check_prompt(prompt, image.shape), np.float32).reshape(-1, 2, 2)
            corners = torch.from_numpy(letterbox.points_to_working(boxes)).reshape(-1, 4)
            contours, untouched = ellipse_in_box(corners, self._vertices), np.zeros(image.shape, bool)
        else:
            contours, untouched = self._outlines(letterbox, self._proposer.segment(image, prompt))
        vertices = contours.to(self._device)
        masks = self._native_masks(letterbox, vertices)
        return _Start(letterbox, letterbox.image(image), vertices, masks, untouched)

    def _outlines(self, letterbox: Letterbox, mask: BoolMask) -> tuple[Tensor, BoolMask]:
        """Return contours of a native mask's components, (B, N, 2), and what is too small for one."""
        outlines, untouched = [], np.zeros(mask.shape, bool)
        for component in split_components(mask):
            working = letterbox.target(component)
            if working.sum() < MIN_AREA_PX:
                untouched |= component
            else:
                outlines.append(polygon_of_mask(working, self._vertices))
        contours = np.stack(outlines) if outlines else np.zeros((0, self._vertices, 2), np.float32)
        return torch.from_numpy(contours), untouched

    def _play(self, start: _Start) -> Sequence[ContourState]:
        targets = [np.zeros(start.image.shape, bool)]
        task = self._task(start.image, targets)
        index = torch.zeros(len(start.masks), dtype=torch.int64, device=self._device)
        return play(task, self._policy, task.begin(index, start.vertices))

    def _task(self, image: GrayImage, targets: list[BoolMask]) -> ContourTask:
        """Return a task over one image with some targets; blank ones where only the policy acts."""
        images = torch.from_numpy(np.stack([image] * len(targets)))
        names = ("image",) * len(targets)
        bank = Bank(images, torch.from_numpy(np.stack(targets)), None, names, tuple(range(len(targets))))
        # The segmenter brings its own contours, so that the recipe's proposals are not asked for.
        settings = dict(self._recipe.env.kwargs) | {"proposal": "box"}
        horizon = self._recipe.env.max_episode_steps
        task = build_task(self._recipe.env.id, bank.to(self._device), settings, horizon)
        if not isinstance(task, ContourTask):
            raise UserError(
                f"env.id: {self._recipe.env.id} is no contour environment; segment with another run"
            )
        return task

    def _native_masks(self, letterbox: Letterbox, vertices: Tensor) -> list[BoolMask]:
        native = torch.from_numpy(letterbox.points_to_native(vertices.cpu().numpy()))
        height, width = letterbox.native_shape
        return list(rasterise(native, height, width).numpy())

    def _native_mask(self, start: _Start, vertices: Tensor) -> BoolMask:
        return np.logical_or.reduce([start.untouched, *self._native_masks(start.letterbox, vertices)])

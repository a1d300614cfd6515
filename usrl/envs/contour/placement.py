"""Contours on native images, from boxes or from the components of a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.data.bank import MIN_AREA_PX, Bank
from usrl.data.components import best_overlap, split_components
from usrl.data.letterbox import Letterbox
from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.sample import BoolMask, GrayImage, Prompt
from usrl.envs.contour.drawing import draw_contour_step
from usrl.envs.contour.settings import ContourSettings
from usrl.envs.contour.task import ContourState, ContourTask
from usrl.envs.placement import Place
from usrl.envs.task import follow_teacher
from usrl.geometry.area import rasterise
from usrl.geometry.boxes import follow_boxes
from usrl.geometry.polygon import ellipse_in_box, mirror_polygons, polygon_of_mask


@dataclass(frozen=True)
class ContourPlacement:
    """Begins one contour per box, or per component of a found mask; see `usrl.envs.placement.Placement`."""

    settings: ContourSettings
    horizon: int
    size: int
    device: torch.device
    takes_boxes: bool = True

    def begin(self, place: Place) -> "ContourEpisodes":
        """Return the contours of an image. Every second start is on the mirrored image."""
        letterbox = Letterbox.fit(place.image.shape, self.size)
        kept = np.zeros(place.image.shape, np.bool_)
        if place.found is None:
            boxes = place.boxes or ()
            corners = torch.from_numpy(letterbox.boxes_to_working(boxes))
            contours = ellipse_in_box(corners, self.settings.vertices)
        else:
            contours, boxes, kept = self._outline(letterbox, place.found)
        return ContourEpisodes(self, place, letterbox, boxes, contours.to(self.device), kept)

    def build_task(self, images: Sequence[GrayImage], targets: Sequence[BoolMask]) -> ContourTask:
        """Return a task over working images with a target each, (S, S); blank ones if only a policy acts."""
        stacked, masks = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets))
        bank = Bank(stacked, masks, None, ("image",) * len(images)).to(self.device)
        # The contours are given, so that the proposals of the settings are not asked for.
        return self._over(bank, self.settings.model_copy(update={"proposal": "box"}))

    def _over(self, bank: Bank, settings: ContourSettings) -> ContourTask:
        return ContourTask(bank, settings, self.horizon)

    def _outline(self, letterbox: Letterbox, mask: BoolMask) -> tuple[Tensor, Prompt, BoolMask]:
        """Return contours of a native mask's components, (B, N, 2), their boxes, and what is too small."""
        outlines, boxes, kept = [], [], np.zeros(mask.shape, np.bool_)
        for component in split_components(mask):
            working = letterbox.target(component)
            if working.sum() < MIN_AREA_PX:
                kept |= component
            else:
                outlines.append(polygon_of_mask(working, self.settings.vertices))
                boxes.append(bounding_box(component))
        contours = np.stack(outlines) if outlines else np.zeros((0, self.settings.vertices, 2), np.float32)
        return torch.from_numpy(contours), tuple(boxes), kept


@dataclass(frozen=True, eq=False)
class ContourEpisodes:
    """Contours on one image; see `usrl.envs.placement.Episodes`.

    Attributes:
        placement: What began them.
        place: Where they begin.
        letterbox: From native to working pixels.
        boxes: Around the contours of the first start, native px.
        vertices: Contours of the first start, (B, N, 2), working px.
        kept: Components that are too small for a contour, bool, (H, W).
    """

    placement: ContourPlacement
    place: Place
    letterbox: Letterbox
    boxes: Prompt
    vertices: Tensor
    kept: BoolMask

    @cached_property
    def task(self) -> ContourTask:
        """The image and, for further starts, its mirror image; both with blank targets."""
        image = self._image
        images = [image, image[:, ::-1]][: self.place.starts]
        return self.placement.build_task(images, [np.zeros(image.shape, np.bool_)] * len(images))

    @cached_property
    def state(self) -> ContourState | None:
        """Contours of every start, one start after the other; None without a box."""
        if not self.boxes:
            return None
        prompts = start_boxes(self.boxes, self.place.starts, self.letterbox.native_shape)
        corners = torch.from_numpy(np.stack([self.letterbox.boxes_to_working(p) for p in prompts]))
        first, *others = corners.to(self.placement.device)  # (B, 4) each
        moved = [follow_boxes(self.vertices, first, boxes) for boxes in others]
        starts = self._mirror_odd(torch.stack([self.vertices, *moved]))  # (E, B, N, 2)
        image = torch.arange(len(starts), device=starts.device) % 2
        return self.task.begin(image.repeat_interleave(starts.shape[1]), starts.flatten(0, 1))

    @cached_property
    def proposal(self) -> BoolMask:
        """The first contours and what is kept, bool, (H, W)."""
        return np.logical_or.reduce([self.kept, *self._first_masks])

    def masks(self, state: ContourState) -> list[BoolMask]:
        """Return the mask of every contour, bool, (H, W)."""
        starts = state.vertices.view(-1, *self.vertices.shape)  # (E, B, N, 2)
        return self._native(self._mirror_odd(starts).flatten(0, 1))

    def draw(self, state: ContourState) -> NDArray[np.uint8]:
        """Return a picture of the first start's contours."""
        target, count = self.place.target, len(self.vertices)
        return draw_contour_step(
            self._image,
            None if target is None else self.letterbox.target(target),
            self.vertices.cpu().numpy(),
            state.vertices[:count].cpu().numpy(),
            f"step {int(state.elapsed[0])}/{self.placement.horizon}",
        )

    def reach(self) -> BoolMask:
        """Return the mask that the teacher reaches from the first contours, bool, (H, W).

        Each contour is taught the target's component that it overlaps most. One that overlaps none stays
        as it is: moves along normals do not make a contour vanish.
        """
        assert self.place.target is not None
        found = [best_overlap(self.place.target, mask) for mask in self._first_masks]
        targets = {row: self.letterbox.target(c) for row, c in enumerate(found) if c is not None}
        vertices = self.vertices.clone()
        if targets:
            rows = list(targets)
            task = self.placement.build_task([self._image] * len(rows), list(targets.values()))
            state = task.begin(torch.arange(len(rows), device=vertices.device), vertices[rows])
            vertices[rows] = follow_teacher(task, state).vertices
        return np.logical_or.reduce([self.kept, *self._native(vertices)])

    @cached_property
    def _image(self) -> GrayImage:
        return self.letterbox.image(self.place.image)

    @cached_property
    def _first_masks(self) -> list[BoolMask]:
        return self._native(self.vertices)

    def _mirror_odd(self, contours: Tensor) -> Tensor:
        """Return contours (E, B, N, 2), every second start mirrored: there and back."""
        size = self.letterbox.size
        return torch.stack([mirror_polygons(c, size) if e % 2 else c for e, c in enumerate(contours)])

    def _native(self, vertices: Tensor) -> list[BoolMask]:
        """Return the native masks of contours, (B, N, 2)."""
        if not len(vertices):
            return []
        points = torch.from_numpy(self.letterbox.points_to_native(vertices.cpu().numpy()))
        return list(rasterise(points, *self.letterbox.native_shape).numpy())

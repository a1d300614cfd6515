"""Contours as methods of a session, moved by an agent, by points alone, or by edges between points."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.segmentation import active_contour
from torch import Tensor

from usrl.compute.devices import one_thread
from usrl.compute.trees import map_tree
from usrl.data.sample import FloatArray, GrayImage
from usrl.envs.contour.placement import ContourEpisodes
from usrl.envs.correct.placement import CorrectPlacement
from usrl.envs.correct.settings import CorrectSettings
from usrl.envs.correct.task import CorrectState, CorrectTask
from usrl.envs.placement import Place
from usrl.envs.task import merge_states
from usrl.errors import UserError
from usrl.geometry.guides import find_feet
from usrl.geometry.polygon import is_valid
from usrl.segmenter import Answer
from usrl.session import Asks, Marks

Act = Callable[[CorrectTask, CorrectState], Tensor]
"""Maps contours of a task to actions, (B, A)."""
SIZE = 256
"""Side of the working image of methods that learn nothing, in px."""
PULL_WIDTH = 0.065
"""Width of the Gaussian by which a point pulls vertices, as a share of the contour."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ContourAnswer(Answer):
    """An answer that shows how the contours have come there.

    Attributes:
        contours: After each move since the last correction, the first before it, float32, (T, B, N, 2), px of
            the native image.
    """

    contours: FloatArray


@dataclass(frozen=True, eq=False)
class Corrected:
    """Contours on one image between corrections.

    Attributes:
        episodes: Of the image.
        state: Of the contours; None if there are none.
        moved: The contours after each move since the last correction, (B, N, 2) each, working px.
    """

    episodes: ContourEpisodes
    state: CorrectState | None
    moved: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class ContourMethod:
    """Contours that move after each point of a user; see `usrl.session.Interactive`.

    A point belongs to the contour that is nearest to it, and only that contour moves.

    Attributes:
        name: Row label in tables.
        placement: What begins contours on an image.
        act: What moves them.
    """

    name: str
    placement: CorrectPlacement
    act: Act
    asks: Asks = "border"

    def begin(self, image: GrayImage, marks: Marks) -> Corrected:
        """Return the contours after their opening; see `usrl.session.Interactive`."""
        boxes = marks.boxes if marks.mask is None else None
        episodes = self.placement.begin(Place(image, boxes, marks.mask))
        if episodes.state is None:
            return Corrected(episodes, None, ())
        state = cast(CorrectState, episodes.state)
        return self._play(episodes, state, torch.arange(len(state.index)), episodes.placement.horizon)

    def correct(self, state: Corrected, marks: Marks) -> Corrected:
        """Return the contours after their moves; see `usrl.session.Interactive`."""
        if state.state is None:
            raise UserError("there is no contour to correct; begin with a box around the lesion")
        letterbox, contours = state.episodes.letterbox, state.state
        task = cast(CorrectTask, state.episodes.task)
        touched = []
        for point in torch.from_numpy(letterbox.points_to_working(marks.border)).to(contours.key.device):
            near = (contours.vertices - point).square().sum(dim=2).amin(dim=1)  # (B,)
            rows = near.argmin()[None]
            contours = task.place(contours, rows, point.clamp(0, letterbox.size - 1)[None])
            touched.append(rows)
        rows = torch.cat(touched).unique()
        return self._play(state.episodes, contours, rows, self.placement.settings.moves)

    def answer(self, state: Corrected) -> ContourAnswer:
        """Return the union of the contours; see `usrl.session.Interactive`."""
        episodes = state.episodes
        masks = [] if state.state is None else episodes.masks(state.state)
        steps = [episodes.letterbox.points_to_native(step.cpu().numpy()) for step in state.moved]
        none = np.zeros((1, 0, self.placement.settings.vertices, 2), np.float32)
        return ContourAnswer(
            np.logical_or.reduce([episodes.kept, *masks]),
            proposal=episodes.proposal,
            contours=np.stack(steps) if steps else none,
        )

    def _play(self, episodes: ContourEpisodes, state: CorrectState, rows: Tensor, moves: int) -> Corrected:
        """Return the contours after some moves of those in rows."""
        task, steps = cast(CorrectTask, episodes.task), [state.vertices]
        rows = rows.to(state.index.device)
        with one_thread():
            for _ in range(moves):
                part = map_tree(lambda tensor: tensor[rows], state)
                state = merge_states(state, rows, task.move(part, self.act(task, part)))
                steps.append(state.vertices)
        return Corrected(episodes, state, tuple(steps))


@dataclass(frozen=True, eq=False)
class SnapMethod(ContourMethod):
    """An active contour between the user's points.

    After a point has pulled the contour, the parts between points slide to edges near them, with their ends
    fixed at the points. Before the first point the whole contour does.

    Attributes:
        tension: How much a part resists to be long, alpha of scikit-image.
        stiffness: How much it resists to bend, beta of scikit-image.
        iterations: Most iterations of a part.

    Source:
        Kass, Witkin, Terzopoulos (1988), Snakes: active contour models, Int J Comput Vis 1(4):321-331,
        doi:10.1007/BF00133570, by skimage.segmentation.active_contour.
    """

    tension: float = 0.0
    stiffness: float = 0.1
    iterations: int = 60

    def _play(self, episodes: ContourEpisodes, state: CorrectState, rows: Tensor, moves: int) -> Corrected:
        pulled = super()._play(episodes, state, rows, moves)
        assert pulled.state is not None
        vertices = pulled.state.vertices.clone()
        size = episodes.letterbox.size
        smooth = gaussian(episodes.letterbox.image(episodes.place.image), size / 128, preserve_range=False)
        feet = find_feet(vertices, pulled.state.points)
        for row in rows.tolist():
            given = feet[row, : int(pulled.state.corrections[row])].unique().tolist()
            slid = self._snap(smooth, vertices[row].numpy(), given).clip(0, size - 1)
            snapped = torch.from_numpy(slid.astype(np.float32))
            if bool(is_valid(snapped[None])[0]):
                vertices[row] = snapped
        moved = pulled.state.replace(vertices=vertices)
        return replace(pulled, state=moved, moved=(*pulled.moved, vertices))

    def _snap(self, image: FloatArray, contour: FloatArray, fixed: list[int]) -> FloatArray:
        """Return a contour (N, 2) whose parts between fixed vertices have slid to edges."""
        slide = partial(
            active_contour,
            image,
            alpha=self.tension,
            beta=self.stiffness,
            w_edge=1.0,
            max_num_iter=self.iterations,
        )
        if not fixed:
            return slide(contour[:, ::-1], boundary_condition="periodic")[:, ::-1]
        snapped, count = contour.copy(), len(contour)
        for start, end in zip(fixed, [*fixed[1:], fixed[0] + count], strict=True):
            places = np.arange(start, end + 1) % count
            if len(places) > 4:
                part = slide(contour[places, ::-1], boundary_condition="fixed")[:, ::-1]
                snapped[places[1:-1]] = part[1:-1]
        return snapped


def _stay(task: CorrectTask, state: CorrectState) -> Tensor:
    """Move nothing: only the points do."""
    return torch.zeros(len(state.index), *(task.action_space.shape or ()), device=state.index.device)


def _place(hold_width: float, device: torch.device) -> CorrectPlacement:
    settings = CorrectSettings(opening=0, hold_width=hold_width)
    return CorrectPlacement(settings, 0, SIZE, device)


def pull(device: torch.device) -> ContourMethod:
    """Return the method that moves vertices near a point only, by a Gaussian along the contour."""
    return ContourMethod("pull", _place(PULL_WIDTH, device), _stay)


def snap(device: torch.device) -> SnapMethod:
    """Return the active contour between a user's points."""
    return SnapMethod("snap", _place(PULL_WIDTH, device), _stay)

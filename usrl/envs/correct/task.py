"""Contour correction: a contour is moved between the corrections of a user."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.rng import mix, step_keys, uniform
from usrl.data.bank import Bank
from usrl.envs import rendering
from usrl.envs.contour.task import ContourState, ContourTask, boxes_of_targets, distances_of_targets
from usrl.envs.correct.drawing import draw_points
from usrl.envs.correct.settings import CorrectSettings
from usrl.errors import UserError
from usrl.geometry.area import rasterise, signed_distances
from usrl.geometry.guides import Guides, falloff, find_guides
from usrl.geometry.polygon import is_valid
from usrl.users.users import Look, draw_border, find_user, look

MOST_COUNTED = 10
"""Dice is kept after each of so many corrections."""
SHOWN = (0, 1, 2, 3, 5, 10)
"""Numbers of corrections whose Dice is a figure."""
_START, _KIND = 0x57A7, 0x3A5C
"""Keep the draws of a start apart from others."""
POINT_PX = 2
"""Radius of a point in the image observation, in working pixels."""


@dataclass(frozen=True)
class CorrectState(ContourState):
    """State of a batch of contours and their users.

    Attributes:
        points: The user's points in the order given, float32, (B, R, 2), working pixels; the first
            ``corrections`` of them count.
        corrections: Points that the user has placed, int64, (B,).
        left: Moves until the user looks, int64, (B,).
        is_done: Whether the user has stopped, bool, (B,).
        after: Dice after 0, 1, ... `MOST_COUNTED` corrections, float32, (B, 11); those that are still to
            come hold the present Dice.
    """

    points: Tensor
    corrections: Tensor
    left: Tensor
    is_done: Tensor
    after: Tensor


class CorrectTask(ContourTask):
    """Move a contour between the corrections of a user, until the user is satisfied or tired.

    Description:
        An episode begins from a box or a mask. From a box the agent first has some moves of its own. Then a
        simulated user looks at the contour, finds the largest error and places one point on the true border,
        where it is nearest to the error's centre. The agent moves the whole contour, not just what is near
        the point, and after a few moves the user looks again. Geometry, profiles and actions are those of
        `usrl.envs.contour.task.ContourTask`.

        Points hold the contour. The move of a vertex at a point is a mean: the way to the point with the
        weight ``hold``, and its action with the rest. The weight falls off along the contour with the width
        ``hold_width``.

        When a point is placed, the contour is traced anew from its mask, so that its vertices are evenly
        spaced. Otherwise the contour would stay stretched where it has grown, and crowded in narrow parts.

    Action Space:
        That of contour refinement: ``Box(-1, 1, (N,))`` or Fourier coefficients, float32, in units of
        ``step_px`` pixels.

    Observation Space:
        | observation | space (uint8) | channels | unit |
        | --- | --- | --- | --- |
        | `profile+start` | `Box(0, 255, (7, N, K))` | contour refinement's, then the user's | see below |
        | `profile` | `Box(0, 255, (6, N, K))` | the same without the distance from the start | see below |
        | `image` | `Box(0, 255, (4, S, S))` | image, mask, time left, the user's points | gray level |

        Three channels are the user's. The first says how far each place lies outside the border that the
        nearest point marks, from 0 at K / 2 inside to 255 at K / 2 outside; it fades to 127 where the point
        is not sure. The second says how sure the point is: 255 at the point, falling to 0 as a Gaussian of
        ``sure_width`` along the contour. The third has the rounds that are left, from 255 to 0.

    Rewards:
        The change of a score as in contour refinement, less ``cost`` when the user places a point.

    Starting State:
        As in contour refinement. A share ``masks`` of the episodes starts instead from a mask that is wrong,
        as existing masks may be: the target's outline, moved by waves of up to ``mask_error`` radii. Episodes
        that start from a mask, also from a network's, have no opening: the user places a point at once.

    Episode End:
        Termination when the user looks and sees an overlap of at least ``satisfied``, sees no error, or has
        placed ``rounds`` points. The user decides by a border of the user's own (`usrl.users`). Truncation at
        the step limit, 36 by default: an opening of 6 moves and 10 rounds of 3.

    Info:
        `score` and `dice`, now; `initial_dice`; `corrections`; `dice_0`, `dice_1`, `dice_2`, `dice_3`,
        `dice_5` and `dice_10`, after so many corrections, or now if there were fewer; and `dice_auc`, the
        area under the Dice over 0 to 10 corrections, from 0 to 1. Unitless.

    Arguments:
        See `CorrectSettings`; ``usrl envs usrl/ContourCorrect-v0`` prints them with their defaults.

    Version History:
        v0: first version.

    References:
        Wang, Lekadir, Lee, Merrifield and Yang (2013), IEEE Trans Med Imaging 32(5):943-956,
        doi:10.1109/TMI.2013.2252431, adapt a segmentation to a user's corrections by reinforcement; Girum et
        al. (2020), doi:10.1007/s11548-020-02231-x, segment with points of the border as a prior; Sofiiuk,
        Petrov and Konushin (2022), arXiv:2102.06583, whose user clicks the centre of the largest error.
    """

    settings: CorrectSettings

    def __init__(self, bank: Bank, settings: CorrectSettings, horizon: int) -> None:
        """Prepare a bank; see `ContourTask`."""
        super().__init__(bank, settings, horizon)
        channels, *places = self.observation_space.shape or ()
        more = 1 if settings.observation == "image" else 3
        seen = gym.spaces.Box(0, 255, (channels + more, *places), np.uint8)
        self.observation_space: gym.Space[Any] = seen
        self._user = find_user(settings.user)
        self._held = falloff(settings.hold_width, settings.vertices, bank.device)  # (N + 1,)
        self._sure = falloff(settings.sure_width, settings.vertices, bank.device)

    def reset(self, index: Tensor, keys: Tensor) -> CorrectState:
        """Begin episodes; see `Task.reset`."""
        settings, vertices = self.settings, self._propose(index, keys)
        is_wavy = uniform(mix(keys + _KIND), 1)[:, 0] < settings.masks  # (B,)
        if settings.masks:
            waves = mix(keys + _START)
            wavy = self._wave(self._target_outlines[index], index, waves, settings.mask_error)
            vertices = torch.where(is_wavy[:, None, None], wavy, vertices)
        opening = torch.where(is_wavy | (settings.proposal != "box"), 0, settings.opening)
        state = self.begin(index, vertices, keys).replace(left=opening)
        return self._ask(state, is_first=True)

    def begin(self, index: Tensor, vertices: Tensor, keys: Tensor | None = None) -> CorrectState:
        """Begin episodes on rows (B,) of the bank from valid polygons (B, N, 2), and do not ask the user.

        The moves that are left are those of the opening.
        """
        start = super().begin(index, vertices, keys)
        none = torch.zeros_like(index)
        return CorrectState(
            **vars(start),
            points=vertices.new_zeros(len(index), self.settings.rounds, 2),
            corrections=none,
            left=none + self.settings.opening,
            is_done=none > 0,
            after=start.dice[:, None].repeat(1, MOST_COUNTED + 1),
        )

    def step(self, state: CorrectState, action: Tensor) -> tuple[CorrectState, Tensor]:  # type: ignore[override]
        """Move the contours, and let users look whose turn it is; see `Task.step`."""
        moved = self._ask(self.move(state, action))
        paid = moved.score - state.score
        if self.settings.cost:
            paid = paid - self.settings.cost * (moved.corrections - state.corrections)
        return moved, paid

    def credit(self, state: CorrectState, action: Tensor) -> Tensor:  # type: ignore[override]
        """Return what each vertex adds to the Dice, as far as points let it, float32, (B, N).

        See `ContourTask.credit`.

        Raises:
            UserError: Also if a correction has a cost, which is no vertex's own.
        """
        if self.settings.cost:
            raise UserError(
                f"the cost of a correction is no vertex's own, got cost={self.settings.cost}; set cost=0, or "
                "use credit: shared"
            )
        return super().credit(state, action)

    def move(self, state: CorrectState, action: Tensor) -> CorrectState:
        """Return the state after a move of the contours, before the user looks."""
        moved = self._move(state, self._decode(state, action))
        order = torch.arange(MOST_COUNTED + 1, device=moved.dice.device)
        is_later = order >= moved.corrections[:, None]  # (B, 11)
        after = torch.where(is_later, moved.dice[:, None], moved.after)
        return moved.replace(after=after, left=moved.left - 1)

    def place(self, state: CorrectState, rows: Tensor, points: Tensor) -> CorrectState:
        """Return the state after users have placed points, (R, 2), on contours of rows, int64, (R,).

        Each row occurs once. There is room for any number of points. The contours are traced anew.
        """
        placed, counts = state.points, state.corrections
        if int(counts[rows].max()) >= placed.shape[1]:
            placed = torch.cat([placed, torch.zeros_like(placed)], dim=1)
        placed = placed.index_put((rows, counts[rows]), points)
        return state.replace(
            vertices=state.vertices.index_copy(0, rows, self._space_evenly(state.vertices[rows])),
            points=placed,
            corrections=counts.index_add(0, rows, torch.ones_like(rows)),
            left=state.left.index_fill(0, rows, self.settings.moves),
        )

    def observe(self, state: CorrectState) -> Tensor:  # type: ignore[override]
        """Return profiles or images, and what the user has told; see `Task.observe`."""
        seen = super().observe(state)
        if self.settings.observation == "image":
            return torch.cat([seen, self._paint_points(state)[:, None]], dim=1)
        guides = self._guide(state)
        sure = self._sure[guides.gap]  # (B, N)
        outside = (self._offsets - (guides.offset / state.unit)[..., None]) / (len(self._offsets) / 2)
        told = 127.5 * (1 + sure[..., None] * outside.clamp(-1, 1))  # (B, N, K)
        left = (1 - state.corrections / self.settings.rounds).clamp_min(0)  # (B,)
        flat = torch.stack([255 * sure, (255 * left)[:, None].expand_as(sure)], dim=1)  # (B, 2, N)
        own = torch.cat([told[:, None], flat[..., None].expand(-1, -1, -1, told.shape[-1])], dim=1)
        return torch.cat([seen, own.to(torch.uint8)], dim=1)

    def figures(self, state: CorrectState) -> dict[str, Tensor]:  # type: ignore[override]
        """Return Dice now and after some corrections, and their number; see `Task.figures`."""
        after = state.after
        area = (after[:, 1:] + after[:, :-1]).sum(dim=1) / (2 * MOST_COUNTED)
        counted = {f"dice_{count}": after[:, count] for count in SHOWN}
        corrections = state.corrections.to(torch.float32)
        return super().figures(state) | {"corrections": corrections, **counted, "dice_auc": area}

    def terminated(self, state: CorrectState) -> Tensor:  # type: ignore[override]
        """Return whose user has stopped, bool, (B,)."""
        return state.is_done

    def render(self, state: CorrectState, row: int) -> NDArray[np.uint8]:  # type: ignore[override]
        """Return a picture of one contour and its user's points; see `Task.render`."""
        frame = super().render(state, row)
        points = state.points[row, : int(state.corrections[row])].cpu().numpy()
        return draw_points(frame, points, rendering.SIDE_PX / self.cases.size)

    def _decode(self, state: CorrectState, action: Tensor) -> Tensor:  # type: ignore[override]
        """Return the outward moves of actions in working pixels as points hold them, (B, N)."""
        wanted = super()._decode(state, action)
        if not self.settings.hold:
            return wanted
        guides = self._guide(state)
        reach = self.settings.step_px * state.unit  # (B, 1)
        held = self.settings.hold * self._held[guides.gap]  # (B, N)
        towards = torch.minimum(torch.maximum(guides.offset, -reach), reach)
        return wanted + held * (towards - wanted)

    def _ask(self, state: CorrectState, *, is_first: bool = False) -> CorrectState:
        """Return the state after the users have looked who have no moves left to wait for.

        They look on the host. At the start they place a point in any case: an episode without a step could
        not end.
        """
        rows = ((state.left <= 0) & ~state.is_done).nonzero()[:, 0]  # (R,)
        if not len(rows):
            return state
        seen = [self._look(state, row) for row in rows.tolist()]
        stops = torch.tensor(
            [not one.sees_error or float(one.iou) >= self.settings.satisfied for one in seen],
            device=rows.device,
        )
        stops |= state.corrections[rows] >= self.settings.rounds
        if is_first:
            stops = torch.zeros_like(stops)
        going = rows[~stops]
        stopped = state.replace(is_done=state.is_done.index_fill(0, rows[stops], True))
        points = torch.cat([one.border for one in seen]).to(rows.device)  # (R, 2)
        return self.place(stopped, going, points[~stops]) if len(going) else stopped

    def _look(self, state: CorrectState, row: int) -> Look:
        """Return what the user of a row sees, in the part of the image that holds contour and target."""
        index, vertices = int(state.index[row]), state.vertices[row].cpu()
        box, size = self.cases.prepare(boxes_of_targets)[index].cpu(), self.cases.size
        # A border of the user's own reaches further than the target.
        margin = 2 + 10 * self._user.border * math.sqrt(float(self._targets.area[index]) / math.pi)
        low = torch.minimum(box[:2], vertices.amin(dim=0)) - margin
        high = torch.maximum(box[2:], vertices.amax(dim=0)) + margin
        x0, y0 = low.floor().clamp_min(0).long().tolist()
        x1, y1 = (high.ceil() + 1).clamp_max(size).long().tolist()
        origin = vertices.new_tensor([x0, y0])
        mask = rasterise((vertices - origin)[None], y1 - y0, x1 - x0)
        target = self.cases.prepare(distances_of_targets)[index, y0:y1, x0:x1].cpu()
        key, elapsed = state.key[row : row + 1].cpu(), state.elapsed[row : row + 1].cpu()
        border = draw_border(self._user, target[None], key)
        seen = look(self._user, signed_distances(mask), border, step_keys(key, elapsed), side=size)
        marks = {name: (getattr(seen, name) + origin).clamp(0, size - 1) for name in ("border", "centre")}
        return replace(seen, **marks)

    def _space_evenly(self, vertices: Tensor) -> Tensor:
        """Return polygons (R, N, 2), traced anew from their masks; if that would break one, as it is."""
        masks = rasterise(vertices, self.cases.size, self.cases.size)
        is_there = masks.flatten(1).any(dim=1)  # (R,)
        # A polygon between pixel centres has no pixel to be traced from.
        traced = vertices.clone()
        if is_there.any():
            traced[is_there] = self._trace(masks[is_there])
        return torch.where(is_valid(traced)[:, None, None], traced, vertices)

    def _guide(self, state: CorrectState) -> Guides:
        return find_guides(state.vertices, state.points, state.corrections)

    def _paint_points(self, state: CorrectState) -> Tensor:
        """Return discs at the users' points, uint8, (B, S, S)."""
        place = torch.arange(self.cases.size, device=state.points.device)
        painted = torch.zeros(len(state.index), len(place), len(place), device=place.device, dtype=torch.bool)
        for number in range(state.points.shape[1]):
            x, y = state.points[:, number].unbind(dim=1)  # (B,)
            squared = (place - x[:, None]).square()[:, None] + (place - y[:, None]).square()[..., None]
            painted |= (squared <= POINT_PX**2) & (number < state.corrections)[:, None, None]
        return painted.to(torch.uint8) * 255

    @cached_property
    def _target_outlines(self) -> Tensor:
        return self._trace(self.cases.targets)  # (M, N, 2)

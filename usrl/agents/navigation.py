"""Scripted players of probe navigation, which see the target through a U-Net for slices.

They use what the probe shows and their own moves, never the body's labels or the pose of the standard plane.
"""

import torch
from torch import Tensor

from usrl.compute.devices import one_thread
from usrl.compute.trees import Tree
from usrl.data.bodies.poses import DEGREES
from usrl.envs.probe.task import ProbeState, ProbeTask
from usrl.errors import UserError
from usrl.networks.models import as_input, build_network, infer
from usrl.networks.recipe import NetworkRecipe
from usrl.runs.run import open_run
from usrl.runs.shipped import locate
from usrl.runs.tensors import load_weights

NETWORK = "unet-slices"
"""The shipped U-Net that finds the lesion in slices."""
VISIBLE_PX = 15
"""A mask of fewer pixels counts as nothing, at 64 px a side; it grows with the area of a slice."""
_LATERAL, _ELEVATIONAL, _YAW, _TILT, _ROLL = range(5)
_TRIALS = [(_ELEVATIONAL, 1), (_ELEVATIONAL, -1), (_YAW, 1), (_YAW, -1), (_TILT, 1), (_TILT, -1)]
_LEVEL = 0.75
"""A mask counts as centred and level within this part of a step; half a step would go to and fro."""
_BETTER = 1.02
"""A trial counts if the area grows at least by this factor; masks of a network flicker."""


class _Eye:
    """Finds the target in slices: its area, how far it is from the middle, and its slope."""

    def __init__(self, task: ProbeTask) -> None:
        settings = task.settings
        if settings.geometry != "linear" or settings.shrink:
            raise UserError(
                "sweep and servo play with geometry='linear' and shrink=False, got "
                f"geometry={settings.geometry!r} and shrink={settings.shrink}; leave these players out"
            )
        self._task = task
        run = open_run(locate(NETWORK))
        self._recipe = run.recipe_as(NetworkRecipe)
        network = build_network(self._recipe)
        load_weights(run.weights_path, network)
        self._network = network.to(task.cases.device)
        self._columns = torch.arange(task.settings.side, device=task.cases.device).float() + 0.5
        self._least = VISIBLE_PX * (task.settings.side / 64) ** 2

    def look(self, state: ProbeState) -> tuple[Tensor, Tensor, Tensor]:
        """Return area (px), offset from the middle (mm) and slope (radians) of the targets, (B,) each.

        All three are 0 where the target is out of view.
        """
        settings = self._task.settings
        gray = self._task.slices(state)
        parts = [infer(self._network, as_input(part.float() / 255), self._recipe) for part in gray.split(256)]
        masks = (torch.cat(parts)[:, 0] > 0.5).float()
        area = masks.sum(dim=(1, 2))
        area = area * (area >= self._least)
        total = area.clamp_min(1)[:, None, None]
        x, y = self._columns[None, None, :], self._columns[None, :, None]
        mx, my = ((masks * axis).sum(dim=(1, 2), keepdim=True) / total for axis in (x, y))
        dx, dy = x - mx, y - my
        xx, yy, xy = ((masks * product).sum(dim=(1, 2)) for product in (dx * dx, dy * dy, dx * dy))
        # A round mask has no slope: its axes must differ by the root of two.
        spread = torch.hypot((xx - yy) / 2, xy)
        is_long = spread > (xx + yy) / 6
        slope = 0.5 * torch.atan2(2 * xy, xx - yy) * is_long
        px_mm = settings.view_mm / settings.side
        offset = (mx[:, 0, 0] - settings.side / 2) * px_mm
        seen = area > 0
        return area, offset * seen, slope * seen


class SweepPlayer:
    """Sweeps along the elevational axis, and returns to where most of the target was seen.

    It goes ``start_mm`` to one side and as far to the other, then back to the slice with the largest mask,
    moved so that the mask is in the middle, and stops there. It never turns the probe.
    """

    name = "sweep"

    def __init__(self, task: ProbeTask) -> None:
        self._task, self._eye = task, _Eye(task)
        settings = task.settings
        self._reach = round(settings.start_mm / settings.step_mm)
        self._unit_mm = settings.step_mm
        self.begin(0)

    def begin(self, count: int) -> None:
        """Forget everything; see `Player.begin`."""
        device = self._task.cases.device
        self._step = 0
        self._place = torch.zeros(count, 2, device=device)  # from the start, in steps: lateral, elevational
        self._best = torch.zeros(count, device=device)
        self._goal = torch.zeros(count, 2, device=device)

    def act(self, seen: Tree, state: ProbeState) -> Tree:
        """Return moves of the sweep, or back to the best slice; see `Player.act`."""
        with one_thread():
            area, offset, _ = self._eye.look(state)
        is_better = area > self._best
        goal = self._place + torch.stack([offset / self._unit_mm, torch.zeros_like(offset)], dim=1)
        self._best = torch.where(is_better, area, self._best)
        self._goal = torch.where(is_better[:, None], goal, self._goal)
        moves = torch.zeros(len(area), 5, device=area.device)
        stops = torch.zeros_like(is_better)
        if self._step < 3 * self._reach:
            moves[:, _ELEVATIONAL] = 1.0 if self._step < self._reach else -1.0
        else:
            left = self._goal - self._place
            moves[:, :2] = left.clamp(-1, 1)
            stops = (left.abs() <= 0.5).all(dim=1)
        self._step += 1
        action = self._task.encode(moves, stops)
        self._place = self._place + self._task.decode(action)[0][:, :2]
        return action


class ServoPlayer:
    """Follows the mask: centres and levels it, then tries moves and keeps those that make it larger.

    Where no target is in view it sweeps as `SweepPlayer` does. It stops when no trial helps.
    """

    name = "servo"

    def __init__(self, task: ProbeTask) -> None:
        self._task, self._eye = task, _Eye(task)
        settings = task.settings
        self._reach = round(settings.start_mm / settings.step_mm)
        self._turn = DEGREES * settings.step_deg
        device = task.cases.device
        trials = torch.zeros(len(_TRIALS), 5, device=device)
        for row, (degree, sign) in enumerate(_TRIALS):
            trials[row, degree] = sign
        self._trials = trials
        self.begin(0)

    def begin(self, count: int) -> None:
        """Forget everything; see `Player.begin`."""
        device = self._task.cases.device
        self._searched = torch.zeros(count, dtype=torch.int64, device=device)  # steps of the sweep so far
        self._trial = torch.zeros(count, dtype=torch.int64, device=device)  # place in _TRIALS
        self._failed = torch.zeros(
            count, dtype=torch.int64, device=device
        )  # trials in a row that did not help
        self._is_trying = torch.zeros(count, dtype=torch.bool, device=device)
        self._area = torch.zeros(count, device=device)  # before the trial

    def act(self, seen: Tree, state: ProbeState) -> Tree:
        """Return moves that centre, level or enlarge the mask; see `Player.act`."""
        with one_thread():
            area, offset, slope = self._eye.look(state)
        trial = self._trials[self._trial]  # (B, 5)
        is_lost = (area == 0) & ~self._is_trying
        helped = self._is_trying & (area > _BETTER * self._area)
        is_undone = self._is_trying & ~helped
        self._failed = torch.where(helped, 0, self._failed + is_undone)
        self._trial = (self._trial + is_undone) % len(_TRIALS)
        level = torch.zeros_like(trial)
        level[:, _LATERAL], level[:, _ROLL] = offset / self._task.settings.step_mm, -slope / self._turn
        is_level = (level.abs() <= _LEVEL).all(dim=1)
        search = torch.zeros_like(trial)
        search[:, _ELEVATIONAL] = torch.where(self._searched < self._reach, 1.0, -1.0)
        is_trying = ~is_lost & ~is_undone & (is_level | helped)
        moves = torch.where(is_trying[:, None], self._trials[self._trial], level)
        moves = torch.where(is_undone[:, None], -trial, moves)
        moves = torch.where(is_lost[:, None], search, moves)
        self._searched = self._searched + is_lost
        self._area = torch.where(is_trying, area, self._area)
        self._is_trying = is_trying
        stops = is_trying & (self._failed >= len(_TRIALS))
        return self._task.encode(moves, stops)

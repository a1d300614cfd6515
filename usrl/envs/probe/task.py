"""Probe navigation: a probe moves over a body until its slice shows the standard plane."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.compute.rng import mix, uniform
from usrl.data.bodies.poses import DEGREES, angles_deg, distances_mm, turn
from usrl.data.bodies.scanner import Scanner
from usrl.data.bodies.tissues import LESION
from usrl.data.bodies.volumes import SKIN_MM, Volumes
from usrl.envs.probe import kernels
from usrl.envs.probe.actions import ContinuousMoves, Moves, StepMoves
from usrl.envs.probe.drawing import draw_navigation
from usrl.envs.probe.scene import SCENE_PX, draw_scenes
from usrl.envs.probe.settings import ProbeSettings
from usrl.envs.task import State
from usrl.errors import UserError

SUCCESS_MM, SUCCESS_DEG = 5.0, 10.0
"""An episode succeeds if it ends at most this far from the standard plane."""
SLICES = 4
"""Slices that an observation holds, the newest last."""
LABEL_GRAY = 25
"""Gray levels between two labels in the observation `labels`."""
STEEPEST = 45 * DEGREES
"""Tilt and roll stay within this angle."""
CENTRING = 0.3
"""Weight of centring in the view quality."""
LIGHT_N, FIRM_N, MAX_N = 4.0, 6.0, 10.0
"""Below the first force the probe's ends lose contact; above the second it deforms the body."""
MAX_STEPS = 10_000
"""Longest episode."""
_CHANCE = 0x2545F491
"""Keeps the draws of breath apart from those of the start."""


@dataclass(frozen=True)
class ProbeState(State):
    """State of a batch of probes.

    Attributes:
        pose: Pose of each probe, float32, (B, 5); see `usrl.data.bodies.poses`.
        force: Force on the skin, N, float32, (B,).
        seen: The last slices, or the labels in them, uint8, (B, 4, S, S), the newest last.
        quality: View quality, float32, (B,).
        area: Visible share of the target's area in the standard plane, float32, (B,).
        centring: 1 if the target is in the middle, 0 at the edge or out of view, float32, (B,).
        path: Where each probe was at each step so far, later ones as now, float32, (B, horizon + 1, 2), mm.
        path_mm: Length of the path so far, float32, (B,).
        start: Distance (mm) and angle (degrees) of the start from the standard plane, float32, (B, 2).
        trail: The last poses, float32, (B, 4, 5), the newest last.
        scale: Length of steps as a share of the longest, float32, (B,).
        is_stopped: Whether the agent has stopped, bool, (B,).
    """

    pose: Tensor
    force: Tensor
    seen: Tensor
    quality: Tensor
    area: Tensor
    centring: Tensor
    path: Tensor
    path_mm: Tensor
    start: Tensor
    trail: Tensor
    scale: Tensor
    is_stopped: Tensor


class ProbeTask:
    """Move an ultrasound probe over a body until it shows the standard plane, and stop there.

    Description:
        A body of skin, fat, muscle, ribs, an organ, vessels and one lesion lies under a probe. Each step
        computes the slice that the probe sees at its pose: echoes and speckle of the tissue, less what the
        tissue above takes away, and shadows. The standard plane goes through the lesion's centre, along its
        longest and its second axis. The agent sees slices but not its pose. Where the lesion is out of view,
        layers, ribs, vessels and the edge of the organ tell the direction.

    Action Space:
        | action | space | meaning |
        | --- | --- | --- |
        | `steps` | `Discrete(11)` | 2 i for more and 2 i + 1 for less of degree i; 10 stops |
        | `continuous` | `Box(-1, 1, (6,))` | all degrees at once; stops if the last is above 0.5 |

        The degrees are the move along the probe's lateral axis and along its elevational axis on the skin,
        yaw, tilt and roll. With `contact`, force is a sixth degree, in steps of 1 N from 0 to 10 N. Both
        spaces then have this degree too, and action 12 stops. The probe stays on the skin, and its tilt and
        roll within 45 degrees. A step that stops moves neither probe nor body.

    Observation Space:
        | observation | space (uint8) | content | unit |
        | --- | --- | --- | --- |
        | `image` | `Box(0, 255, (4, S, S))` | the last four slices, the newest last | gray level |
        | `labels` | `Box(0, 255, (4, S, S))` | the labels in them, times 25 | tissue |
        | `scene` | `Box(0, 255, (3, 96, 96))` | the body from above with the probe, force and slice | RGB |

        `labels` is what a segmentation network without faults would give, as in VesNet-RL. `scene` follows
        the description of Ning et al.: one picture of the scene in which force and ultrasound are encoded.

    Rewards:
        | reward | paid for a step |
        | --- | --- |
        | `quality` | the change of the view quality |
        | `distance` | how much nearer it comes: (mm + degrees) / 40 |
        | `sign` | 0.05 if it comes nearer, -0.1 if not, or at the border of the skin (Hase et al.) |
        | `area` | the change of 0.7 visible area + 0.3 centring, less 0.01 (VesNet-RL) |

        The view quality is 0.7 D + 0.3 c, and 0 if the target is out of view. D is the Dice of the target's
        cross-sections in the slice and in the standard plane. c is 1 - |u| / (S / 2), where u is the distance
        of the cross-section's centre from the middle of the slice in px. A stop pays `right_stop` within 5 mm
        and 10 degrees of the standard plane and `wrong_stop` elsewhere (1 and -0.25 as in Hase et al.). With
        `contact`, each step costs 0.02 for each newton above 6.

    Starting State:
        A body, uniformly at random. The distance from the standard plane is uniform from 0 to `start_mm` in
        any direction, and the angle from 0 to `start_deg` about any axis. With `contact` the force is from 2
        to 8 N, and 5 N without.

    Episode End:
        Termination by stop. Truncation at the step limit, 60 by default.

    Info:
        `score` and `quality` are the view quality; `distance_mm` and `angle_deg` are the distance from the
        standard plane; `success` is 1 within 5 mm and 10 degrees; `path_mm` is the length of the path on the
        skin; `start_mm` and `start_deg` say how far away the episode began; `stopped` is 1 after a stop.

    Arguments:
        See `ProbeSettings`; ``usrl envs usrl/ProbeNavigate-v0`` prints them with their defaults.

        `breathing` moves the body along y by a sine of that height; period (8 to 16 steps) and phase differ
        by episode. The standard plane moves with the body. `contact`: below 4 N the ends of the probe see
        nothing, and above 6 N the body is pressed flat by 5% for each newton. `shrink`: steps halve, down to
        a quarter, if a pose is that of two steps ago, as in Alansary et al.

    Version History:
        v0: first version.

    References:
        Ning, Zhang, Liao (2021), Autonomic robotic ultrasound imaging system based on reinforcement learning,
        IEEE Transactions on Biomedical Engineering 68(9):2787-2797, doi:10.1109/TBME.2021.3054413 (the
        system, the RGB scene). Hase et al. (2020), Ultrasound-guided robotic navigation with deep
        reinforcement learning, IROS, arXiv:2003.13321 (stop, its pay, signs). Li et al. (2021), Autonomous
        navigation of an ultrasound probe towards standard scan planes with deep reinforcement learning, ICRA,
        arXiv:2103.00718 (degrees of freedom). Alansary et al. (2018), Automatic view planning with
        multi-scale deep reinforcement learning agents, MICCAI, arXiv:1806.03228 (shrinking steps). Bi et al.
        (2022), VesNet-RL: simulation-based reinforcement learning for real-world US probe navigation, IEEE
        RA-L, arXiv:2205.06676 (area, labels). Bodies, view quality, limits of success and costs of force are
        ours.
    """

    def __init__(self, volumes: Volumes, settings: ProbeSettings, horizon: int) -> None:
        """Prepare slices of the standard planes.

        Raises:
            UserError: If a target is too deep to be seen, or the step limit is beyond `MAX_STEPS`.
        """
        if horizon > MAX_STEPS:
            raise UserError(
                f"the step limit must be at most {MAX_STEPS}, as a state holds the whole path, got {horizon}"
            )
        self.cases = volumes
        self.settings = settings
        self.horizon = horizon
        self._scanner = Scanner(volumes, settings.side, settings.view_mm, settings.geometry)
        degrees = 6 if settings.contact else 5
        self._moves: Moves = StepMoves(degrees) if settings.action == "steps" else ContinuousMoves(degrees)
        self.action_space: gym.Space[Any] = self._moves.space
        side = settings.side
        shape = (3, SCENE_PX, SCENE_PX) if settings.observation == "scene" else (SLICES, side, side)
        self.observation_space: gym.Space[Any] = gym.spaces.Box(0, 255, shape, np.uint8)
        unit = [settings.step_mm] * 2 + [settings.step_deg * DEGREES] * 3
        self._unit = torch.tensor(unit, device=volumes.device)
        self._steps = torch.arange(horizon + 1, device=volumes.device)
        every = torch.arange(len(volumes), device=volumes.device)
        # In parts, because the tensor formulas of a scan take a kilobyte for each of its pixels.
        parts = [self._scanner.scan(rows, volumes.standard[rows]) for rows in every.split(64)]
        self.standard_slices = torch.cat([gray for gray, _ in parts])
        self.standard_masks = torch.cat([labels for _, labels in parts]) == LESION  # (M, S, S)
        hidden = (~self.standard_masks.flatten(1).any(dim=1)).nonzero().flatten().tolist()
        if hidden:
            raise UserError(
                f"view_mm: the targets of {len(hidden)} bodies, such as {volumes.names[hidden[0]]!r}, are "
                f"out of view at {settings.view_mm:g} mm; set it higher, up to 60, or leave the bodies out"
            )

    def reset(self, index: Tensor, keys: Tensor) -> ProbeState:
        """Begin episodes; see `Task.reset`."""
        draw = uniform(keys, 8)  # (B, 8)
        standard = self._standard_at(index, keys, torch.zeros_like(index))
        heading = 2 * torch.pi * draw[:, 0]
        away = self.settings.start_mm * draw[:, 1:2]
        moved = away * torch.stack([heading.cos(), heading.sin()], dim=1)
        pose = turn(standard, draw[:, 2:5] * 2 - 1, self.settings.start_deg * DEGREES * draw[:, 5])
        pose = _limit(torch.cat([standard[:, :2] + moved, pose[:, 2:]], dim=1))
        zero = torch.zeros_like(heading)
        force = 2 + 6 * draw[:, 6] if self.settings.contact else zero + 5
        side = self.settings.side
        state = ProbeState(
            index=index,
            elapsed=torch.zeros_like(index),
            key=keys,
            pose=pose,
            force=force,
            seen=torch.zeros((len(index), SLICES, side, side), dtype=torch.uint8, device=index.device),
            quality=zero,
            area=zero,
            centring=zero,
            path=pose[:, None, :2].repeat(1, self.horizon + 1, 1),
            path_mm=zero,
            start=torch.stack([zero, zero], dim=1),
            trail=pose[:, None].repeat(1, SLICES, 1),
            scale=zero + 1,
            is_stopped=torch.zeros_like(index, dtype=torch.bool),
        )
        state = self._look(state)
        # An episode begins as if its first slice had been seen all along.
        seen = state.seen[:, -1:].repeat(1, SLICES, 1, 1)
        return state.replace(seen=seen, start=torch.stack(self._errors(state), dim=1))

    def step(self, state: ProbeState, action: Tensor) -> tuple[ProbeState, Tensor]:
        """Move the probes; see `Task.step`."""
        moves, stops = self._moves.decode(action)
        wanted = self._move(state, moves)
        pose = _limit(wanted)
        force = state.force
        if self.settings.contact:
            force = (force + moves[:, 5]).clamp(0, MAX_N)
        trail = torch.cat([state.trail[:, 1:], pose[:, None]], dim=1)
        scale = state.scale
        if self.settings.shrink:
            # There and back: the pose of two steps ago, and not that of the last step.
            is_back = _is_same(trail[:, 3], trail[:, 1]) & ~_is_same(trail[:, 3], trail[:, 2])
            scale = torch.where(is_back, scale / 2, scale).clamp_min(0.25)
        is_ahead = self._steps > state.elapsed[:, None]  # (B, horizon + 1)
        moved = state.replace(
            elapsed=state.elapsed + 1,
            pose=pose,
            force=force,
            path=torch.where(is_ahead[..., None], pose[:, None, :2], state.path),
            path_mm=state.path_mm + distances_mm(pose, state.pose),
            trail=trail,
            scale=scale,
            is_stopped=state.is_stopped | stops,
        )
        moved = self._look(moved)
        reward = self._reward(state, moved, is_at_border=(wanted != pose).any(dim=1))
        return moved, reward + self._pay_stop(moved, stops) - self._cost(moved)

    def observe(self, state: ProbeState) -> Tensor:
        """Return slices, labels or scenes; see `Task.observe`."""
        if self.settings.observation == "scene":
            return draw_scenes(state.pose, state.force, state.seen[:, -1])
        return state.seen

    def figures(self, state: ProbeState) -> dict[str, Tensor]:
        """Return the view quality, errors and the path; see `Task.figures`."""
        distance, angle = self._errors(state)
        return {
            "score": state.quality,
            "quality": state.quality,
            "distance_mm": distance,
            "angle_deg": angle,
            "success": self.is_success(state).float(),
            "path_mm": state.path_mm,
            "start_mm": state.start[:, 0],
            "start_deg": state.start[:, 1],
            "stopped": state.is_stopped.float(),
        }

    def terminated(self, state: ProbeState) -> Tensor:
        """Return which agents have stopped; see `Task.terminated`."""
        return state.is_stopped

    def is_success(self, state: ProbeState) -> Tensor:
        """Return which probes are at the standard plane, bool, (B,)."""
        distance, angle = self._errors(state)
        return (distance <= SUCCESS_MM) & (angle <= SUCCESS_DEG)

    def oracle_action(self, state: ProbeState) -> Tensor:
        """Return a move along the degree that is farthest off, or a stop if none is off by half a step.

        With `steps` the half steps must fit into the limits of success: up to 7 mm and 11 degrees a step.
        """
        moves = self.moves_left(state) / state.scale[:, None]
        if self.settings.contact:
            comfortable = (LIGHT_N + FIRM_N) / 2
            moves = torch.cat([moves, comfortable - state.force[:, None]], dim=1)
        is_near = (moves.abs() <= 0.5).all(dim=1)
        if self.settings.action == "continuous":  # which can go the rest of the way exactly
            is_near = is_near & self.is_success(state)
        return self._moves.encode(moves, is_near)

    def moves_left(self, state: ProbeState) -> Tensor:
        """Return the way to the standard plane in the longest steps of each degree, float32, (B, 5)."""
        left = self._standard(state) - state.pose
        left[:, 2] = torch.atan2(left[:, 2].sin(), left[:, 2].cos())  # the shorter way round
        yaw = state.pose[:, 2]
        along = left[:, 0] * yaw.cos() + left[:, 1] * yaw.sin()
        across = left[:, 1] * yaw.cos() - left[:, 0] * yaw.sin()
        return torch.cat([torch.stack([along, across], dim=1), left[:, 2:]], dim=1) / self._unit

    def encode(self, moves: Tensor, stops: Tensor) -> Tensor:
        """Return the actions of moves (B, 5), in the longest steps, and stops, bool (B,)."""
        if self.settings.contact:
            moves = torch.cat([moves, torch.zeros_like(moves[:, :1])], dim=1)
        return self._moves.encode(moves, stops)

    def decode(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moves, in the longest steps, and the stops of actions."""
        return self._moves.decode(action)

    def render(self, state: ProbeState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one probe of the batch; see `Task.render`."""
        body = int(state.index[row])
        return draw_navigation(
            self.cases.voxels[body].cpu().numpy(),
            state.path[row].cpu().numpy(),
            state.pose[row].cpu().numpy(),
            self._standard(state)[row].cpu().numpy(),
            self.slices(state)[row].cpu().numpy(),
            self.standard_slices[body].cpu().numpy(),
            self.standard_masks[body].cpu().numpy(),
            self.settings.view_mm,
            float((self._standard(state) - self.cases.standard[state.index])[row, 1]),
            self._caption(state, row),
        )

    def slices(self, state: ProbeState) -> Tensor:
        """Return the current B-mode slices, uint8, (B, S, S)."""
        return self._scan(state)[0]

    def _caption(self, state: ProbeState, row: int) -> str:
        figures = {name: float(values[row]) for name, values in self.figures(state).items()}
        ending = " stopped" if figures["stopped"] else ""
        return (
            f"step {int(state.elapsed[row])}/{self.horizon}{ending}   quality {figures['score']:.2f}   "
            f"{figures['distance_mm']:.1f} mm   {figures['angle_deg']:.0f} deg"
        )

    def _move(self, state: ProbeState, moves: Tensor) -> Tensor:
        """Return poses after moves in units of a step, wherever they lead, (B, 5)."""
        change = moves[:, :5] * self._unit * state.scale[:, None]
        yaw = state.pose[:, 2]
        x = change[:, 0] * yaw.cos() - change[:, 1] * yaw.sin()
        y = change[:, 0] * yaw.sin() + change[:, 1] * yaw.cos()
        return state.pose + torch.cat([torch.stack([x, y], dim=1), change[:, 2:]], dim=1)

    def _scan(self, state: ProbeState) -> tuple[Tensor, Tensor]:
        """Return the current slices and the labels in them, (B, S, S) each."""
        pose = state.pose - (self._standard(state) - self.cases.standard[state.index])
        if not self.settings.contact:
            return self._scanner.scan(state.index, pose)
        squeeze = 1 + 0.05 * (state.force - FIRM_N).clamp_min(0)
        return self._scanner.scan(state.index, pose, squeeze, (state.force / LIGHT_N).clamp_max(1))

    def _look(self, state: ProbeState) -> ProbeState:
        """Return the state with what the probe now sees."""
        gray, labels = self._scan(state)
        shown = labels * LABEL_GRAY if self.settings.observation == "labels" else gray
        seen = torch.cat([state.seen[:, 1:], shown[:, None]], dim=1)
        counts = _count_target(labels, self.standard_masks, state.index)
        area, full, hit, columns = counts.unbind(dim=1)
        half = self.settings.side / 2
        middle = columns / area.clamp_min(1) + 0.5
        centring = (1 - (middle / half - 1).abs()) * (area > 0)
        dice = 2 * hit / (area + full).clamp_min(1)
        quality = ((1 - CENTRING) * dice + CENTRING * centring) * (area > 0)
        share = (area / full.clamp_min(1)).clamp_max(1)
        return state.replace(seen=seen, quality=quality, area=share, centring=centring)

    def _standard(self, state: ProbeState) -> Tensor:
        """Return the poses of the standard planes now, (B, 5).

        A probe that stops keeps the view that it stopped on: no breath passes in that step.
        """
        return self._standard_at(state.index, state.key, state.elapsed - state.is_stopped.long())

    def _standard_at(self, index: Tensor, keys: Tensor, elapsed: Tensor) -> Tensor:
        """Return the poses of the standard planes after some steps, (B, 5): breath moves them along y."""
        standard = self.cases.standard[index]
        if not self.settings.breathing:
            return standard
        draw = uniform(mix(keys + _CHANCE), 2)
        turns = elapsed / (8 + 8 * draw[:, 0]) + draw[:, 1]
        moved = standard.clone()
        moved[:, 1] += self.settings.breathing * (2 * torch.pi * turns).sin()
        return moved

    def _errors(self, state: ProbeState) -> tuple[Tensor, Tensor]:
        """Return distance (mm) and angle (degrees) from the standard plane, (B,) each."""
        standard = self._standard(state)
        return distances_mm(state.pose, standard), angles_deg(state.pose, standard)

    def _reward(self, before: ProbeState, after: ProbeState, is_at_border: Tensor) -> Tensor:
        if self.settings.reward == "quality":
            return after.quality - before.quality
        if self.settings.reward == "area":
            change = 0.7 * (after.area - before.area) + 0.3 * (after.centring - before.centring)
            return change - 0.01
        far, near = (torch.stack(self._errors(state)).sum(dim=0) for state in (before, after))
        nearer = (far - near) / 40
        if self.settings.reward == "distance":
            return nearer
        return torch.where((nearer > 0) & ~is_at_border, 0.05, -0.1) * ~after.is_stopped

    def _pay_stop(self, state: ProbeState, stops: Tensor) -> Tensor:
        return torch.where(self.is_success(state), self.settings.right_stop, self.settings.wrong_stop) * stops

    def _cost(self, state: ProbeState) -> Tensor:
        return 0.02 * (state.force - FIRM_N).clamp_min(0)


def _count_target(labels: Tensor, standard: Tensor, body: Tensor) -> Tensor:
    """Return counts of the target in slices, int64, (B, 4).

    They are its pixels in the slice, in the standard plane (M, S, S) of the body, in both, and the sum of the
    columns of those in the slice.
    """
    if is_compiled_for(labels):
        numbers = labels.numpy(), LESION, standard.numpy(), body.numpy()
        return torch.from_numpy(kernels.count_target(*numbers))
    return count_target_tensors(labels, standard, body)


def count_target_tensors(labels: Tensor, standard: Tensor, body: Tensor) -> Tensor:
    """Return what `_count_target` does, from tensors of any device."""
    mask, there = labels == LESION, standard[body]
    columns = torch.arange(mask.shape[2], device=mask.device)
    parts = (mask, there, mask & there, mask * columns)
    return torch.stack([part.sum(dim=(1, 2)) for part in parts], dim=1)


def _limit(pose: Tensor) -> Tensor:
    """Return poses on the skin, and not steeper than a probe can be held."""
    angles = pose[:, 3:].clamp(-STEEPEST, STEEPEST)
    return torch.cat([pose[:, :2].clamp(-SKIN_MM, SKIN_MM), pose[:, 2:3], angles], dim=1)


def _is_same(pose: Tensor, other: Tensor) -> Tensor:
    """Return which poses are equal up to rounding, bool, (B,)."""
    return (pose - other).abs().amax(dim=1) < 1e-3

"""Contour refinement: a closed polygon is moved until it fits the lesion."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usrl.compute.rng import uniform
from usrl.data.bank import Bank
from usrl.envs.contour.actions import build_moves
from usrl.envs.contour.drawing import draw_contour_step
from usrl.envs.contour.settings import ContourSettings
from usrl.envs.task import State
from usrl.errors import UserError
from usrl.geometry.area import RowSums, measure_dice, rasterise, read_distances, signed_distances
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.moves import combine, fourier_basis, keep_inside, move_simply, smoothing_matrices
from usrl.geometry.polygon import (
    edge_lengths,
    ellipse_in_box,
    outward_normals,
    polygon_of_mask,
    signed_area,
)
from usrl.geometry.sampling import ProfileAtlas, sample_profiles

AnyContourState = TypeVar("AnyContourState", bound="ContourState")
RADIUS_UNITS = 20
"""Pixels in the equivalent radius of a proposal under ``scale="proposal"``."""


@dataclass(frozen=True)
class ContourState(State):
    """State of a batch of contours.

    Attributes:
        dice: Dice of the current contour and the target, float32, (B,).
        initial_dice: Dice at the reset, float32, (B,).
        vertices: Current contours, float32, (B, N, 2), pixels of the working image.
        proposal: Contours at the reset, float32, (B, N, 2).
        score: The reward is its change, float32, (B,).
        unit: Size of a pixel of moves and profiles in working pixels, float32, (B, 1).
    """

    dice: Tensor
    initial_dice: Tensor
    vertices: Tensor
    proposal: Tensor
    score: Tensor
    unit: Tensor


class ContourTask:
    """Move the vertices of a closed polygon along their normals until it fits the lesion.

    Description:
        A closed polygon of N vertices, the proposal, lies roughly on a lesion. The agent sees the ultrasound
        image along the polygon. In each step every vertex moves along its outward normal. The polygon never
        crosses itself or turns inside out. A move that would do so is smoothed along the contour, as little
        as helps. If no smoothing helps, the polygon does not move. If vertices have bunched, they are spaced
        evenly again.

    Action Space:
        | parametrization | space (float32) | meaning | unit |
        | --- | --- | --- | --- |
        | `vertices` | `Box(-1, 1, (N,))` | outward move of each vertex | `step_px` px |
        | `fourier` | `Box(-1, 1, (coefficients,))` | weights of 1, cos t, sin t, cos 2t, ... | `step_px` px |

        t runs once around the contour. Moves are clipped to one step. The zero action changes neither the
        contour nor its Dice. Under `scale="proposal"` a pixel of `step_px` and of the profiles is 1/20 of
        the equivalent radius of the proposal, so contours of all sizes look and move alike.

    Observation Space:
        | observation | space (uint8) | channels | unit |
        | --- | --- | --- | --- |
        | `profile` | `Box(0, 255, (3, N, K))` | image, blur, edge strength along the normals | gray level |
        | `profile+start` | `Box(0, 255, (4, N, K))` | these, and the distance from the proposal | see below |
        | `image` | `Box(0, 255, (3, S, S))` | image, current mask, time left from 255 to 0 | gray level |

        Profiles have K = `samples` places, one pixel apart, from inside to outside, centred on the
        contour. The distance from the proposal rises from 0 at K / 2 pixels inside it to 255 at K / 2
        outside. Without this channel the agent would forget the reader's box with the first step.

    Rewards:
        The change of a score: `dice` (default), `iou`, or `dice+boundary` (Dice minus the mean
        distance of the vertices from the boundary, in equivalent radii of the target). Undiscounted,
        the rewards of an episode sum to its final minus its initial score.

    Starting State:
        A row of the bank, uniformly at random, and a proposal: `box` is the ellipse inscribed in the
        target's bounding box after each side has moved by up to `jitter` times the box's extent;
        `target` is the target's outline, each vertex moved by a smooth random wave of up to `jitter`
        times its equivalent radius; `network` is the outline of the bank's proposal mask.

    Episode End:
        Truncation at the step limit, 10 by default. The episode never terminates, because a stop that
        depends on the target would leak the target.

    Info:
        `dice` and `initial_dice`, unitless; `score` is `dice`.

    Arguments:
        See `ContourSettings`; ``usrl envs usrl/ContourRefine-v1`` prints them with their defaults.

    Version History:
        v1: other defaults (`SmoothContourSettings`), the same rules. The first moves of a stock algorithm
        are noise of deviation 1. Five short, smooth moves lose little Dice to this noise, and fewer actions
        are learned in fewer steps. 36 vertices make the observation small.
        v0: first version.

    References:
        Wang et al. (2013) and Sahba et al. (2008) frame ultrasound segmentation as decisions; Peng et
        al. (2020), Deep Snake, doi:10.1109/CVPR42600.2020.00856, move contours by circular convolution.
    """

    def __init__(self, bank: Bank, settings: ContourSettings, horizon: int) -> None:
        """Prepare a bank; raise a `UserError` if it lacks the network proposals that the settings need."""
        if settings.proposal == "network":
            bank.require_proposals("proposal='network'")
        self.cases = bank
        self.settings = settings
        self.horizon = horizon
        n, k, size = settings.vertices, settings.samples, bank.size
        self._moves = build_moves(settings, bank.device)
        self.action_space: gym.Space[Any] = self._moves.space
        shapes = {"profile": (3, n, k), "profile+start": (4, n, k), "image": (3, size, size)}
        seen = gym.spaces.Box(0, 255, shapes[settings.observation], np.uint8)
        self.observation_space: gym.Space[Any] = seen
        self._offsets = torch.arange(k, device=bank.device) - (k - 1) / 2  # (K,)
        self._smoothings = smoothing_matrices(n, bank.device)

    def reset(self, index: Tensor, keys: Tensor) -> ContourState:
        """Begin episodes; see `Task.reset`."""
        return self.begin(index, self._propose(index, keys), keys)

    def begin(self, index: Tensor, vertices: Tensor, keys: Tensor | None = None) -> ContourState:
        """Begin episodes on rows (B,) of the bank from valid polygons (B, N, 2) in working pixels.

        Keys are optional, because nothing is drawn after the start.
        """
        vertices = keep_inside(vertices, self.cases.size - 1)
        dice = measure_dice(vertices, self._targets, index)
        score, unit = self._score(vertices, index, dice), self._unit(vertices)
        elapsed = torch.zeros_like(index)
        keys = elapsed if keys is None else keys
        return ContourState(index, elapsed, keys, dice, dice, vertices, vertices, score, unit)

    def step(self, state: ContourState, action: Tensor) -> tuple[ContourState, Tensor]:
        """Move the contours; see `Task.step`."""
        moved = self._move(state, self._decode(state, action))
        return moved, moved.score - state.score

    def credit(self, state: ContourState, action: Tensor) -> Tensor:
        """Return what each vertex adds to the Dice, float32, (B, N); see `usrl.envs.task.Credited`.

        This is to first order. A vertex sweeps a strip as wide as half of its two edges. The strip lies in
        the target where the signed distance, taken as linear along the move, is negative. The geometry may
        smooth the move that is asked for, or space the contour again: that is credited to no vertex.

        Raises:
            UserError: If an action is not a move of each vertex, or the reward is not the change of Dice.
        """
        settings, vertices = self.settings, state.vertices
        if settings.parametrization != "vertices" or settings.reward != "dice":
            raise UserError(
                "only moves of vertices are credited with parts of a change of Dice, got parametrization="
                f"{settings.parametrization!r} and reward={settings.reward!r}; set 'vertices' and 'dice'"
            )
        normals = outward_normals(vertices)  # (B, N, 2)
        wanted = vertices + self._decode(state, action)[..., None] * normals
        moved = wanted.clamp(0, self.cases.size - 1)  # at the image's border a vertex stops
        move = ((moved - vertices) * normals).sum(dim=2)  # (B, N)
        ends = torch.stack([self._distance(each, state.index) for each in (vertices, moved)])  # (2, B, N)
        inside = (-ends).clamp_min(0).sum(dim=0) / ends.abs().sum(dim=0).clamp_min(1e-6)  # share of the strip
        edges = edge_lengths(vertices)
        width = (edges + edges.roll(1, dims=1)) / 2
        total = signed_area(vertices) + self._targets.area[state.index]
        return move * width * (2 * inside - state.dice[:, None]) / total[:, None]

    def observe(self, state: ContourState) -> Tensor:
        """Return profiles or images; see `Task.observe`."""
        if self.settings.observation != "image":
            atlas, size = self.cases.prepare(_profile_atlas), self.cases.size
            start = state.proposal if self.settings.observation == "profile+start" else None
            return sample_profiles(atlas, state.index, state.vertices, self._offsets, state.unit, size, start)
        image = self.cases.image(state.index)  # (B, S, S)
        left = (255 * (1 - state.elapsed / self.horizon)).clamp(0, 255).to(torch.uint8)
        time = left[:, None, None].expand_as(image)
        return torch.stack([image, self.mask(state).to(torch.uint8) * 255, time], dim=1)

    def mask(self, state: ContourState) -> Tensor:
        """Return the contours' masks, bool, (B, S, S)."""
        return rasterise(state.vertices, self.cases.size, self.cases.size)

    def figures(self, state: ContourState) -> dict[str, Tensor]:
        """Return the Dice now and at the start; see `Task.figures`."""
        return {"score": state.dice, "dice": state.dice, "initial_dice": state.initial_dice}

    def terminated(self, state: ContourState) -> None:
        """Return None: only the step limit ends an episode, because other stops would leak the target."""

    def oracle_action(self, state: ContourState) -> Tensor:
        """Return the teacher's move: each vertex towards the target's boundary, within the step."""
        step = self.settings.step_px * state.unit
        return self._moves.encode(-self._distance(state.vertices, state.index) / step)

    def render(self, state: ContourState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one contour of the batch; see `Task.render`."""
        index = state.index[row]
        return draw_contour_step(
            self.cases.image(index).cpu().numpy(),
            self.cases.targets[index].cpu().numpy(),
            state.proposal[row : row + 1].cpu().numpy(),
            state.vertices[row : row + 1].cpu().numpy(),
            f"step {int(state.elapsed[row])}/{self.horizon}   Dice {float(state.dice[row]):.3f}"
            f"   start {float(state.initial_dice[row]):.3f}",
        )

    def _decode(self, state: ContourState, action: Tensor) -> Tensor:
        """Return the outward moves that actions ask for in working pixels, (B, N)."""
        return self._moves.decode(action) * self.settings.step_px * state.unit

    def _move(self, state: AnyContourState, wanted: Tensor) -> AnyContourState:
        """Return the state after moves of the vertices, (B, N), as far as the contours stay valid."""
        vertices = move_simply(state.vertices, wanted, self._smoothings, self.cases.size - 1)
        dice = measure_dice(vertices, self._targets, state.index)
        score = self._score(vertices, state.index, dice)
        return state.replace(vertices=vertices, dice=dice, score=score, elapsed=state.elapsed + 1)

    def _propose(self, index: Tensor, keys: Tensor) -> Tensor:
        """Return the contours that episodes start from, valid polygons (B, N, 2) in working pixels."""
        settings = self.settings
        if settings.proposal == "network":
            return self._outlines[index]
        if settings.proposal == "box":
            shares = (2 * uniform(keys, 4) - 1) * settings.jitter  # (B, 4)
            return ellipse_in_box(
                move_sides(self.cases.prepare(boxes_of_targets)[index], shares), settings.vertices
            )
        return self._wave(self._outlines[index], index, keys, settings.jitter)

    def _wave(self, outlines: Tensor, index: Tensor, keys: Tensor, height: float) -> Tensor:
        """Return targets' outlines (B, N, 2) in waves of up to a height, a share of the radius."""
        waves = 2 * uniform(keys, 7) - 1  # (B, 7), up to the third harmonic
        basis = fourier_basis(7, self.settings.vertices, index.device)
        radius = torch.sqrt(self._targets.area[index] / torch.pi)  # (B,)
        wave = (combine(waves, basis) / 7) * (height * radius)[:, None]  # (B, N)
        return move_simply(outlines, wave, self._smoothings, self.cases.size - 1)

    @cached_property
    def _outlines(self) -> Tensor:
        """Outlines of the masks that episodes start from, (M, N, 2)."""
        bank, network = self.cases, self.settings.proposal == "network"
        masks = bank.proposals if network and bank.proposals is not None else bank.targets
        return self._trace(masks)

    def _trace(self, masks: Tensor) -> Tensor:
        """Return the outlines of masks, bool, (M, S, S), as polygons (M, N, 2)."""
        outlines = np.stack([polygon_of_mask(mask, self.settings.vertices) for mask in masks.cpu().numpy()])
        return torch.from_numpy(outlines).to(masks.device)

    @property
    def _targets(self) -> RowSums:
        return self.cases.prepare(_row_sums)

    def _unit(self, proposal: Tensor) -> Tensor:
        if self.settings.scale == "pixel":
            return proposal.new_ones(len(proposal), 1)
        return torch.sqrt(signed_area(proposal).clamp_min(1) / torch.pi)[:, None] / RADIUS_UNITS

    def _score(self, vertices: Tensor, index: Tensor, dice: Tensor) -> Tensor:
        """Return the score whose change is the reward, (B,)."""
        if self.settings.reward == "dice+boundary":
            # A boundary that is off by d costs a disc of radius r about d / r of Dice, so both terms match.
            distance = self._distance(vertices, index).abs().mean(dim=1)
            return dice - distance / torch.sqrt(self._targets.area[index] / torch.pi)
        return dice if self.settings.reward == "dice" else dice / (2 - dice)

    def _distance(self, vertices: Tensor, index: Tensor) -> Tensor:
        """Return the vertices' signed distance from the target's boundary in pixels, (B, N)."""
        return read_distances(self.cases.prepare(distances_of_targets), index, vertices)


# What tasks of one bank share. It is prepared on first use, because an episode needs only some of it.


def boxes_of_targets(bank: Bank) -> Tensor:
    """Return the boxes around the targets, float32, (M, 4)."""
    return boxes_of_masks(bank.targets)  # (M, 4)


def _row_sums(bank: Bank) -> RowSums:
    return RowSums.of(bank.targets)


def _profile_atlas(bank: Bank) -> ProfileAtlas:
    return ProfileAtlas.of(bank.images, bank.image_of_row)


def distances_of_targets(bank: Bank) -> Tensor:
    """Return the signed distances from the targets' borders, float32, (M, S, S)."""
    return signed_distances(bank.targets)

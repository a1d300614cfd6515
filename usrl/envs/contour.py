"""Contour refinement: a closed polygon is moved until it fits the lesion."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import cv2
import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from usrl.compiled import is_compiled_for
from usrl.data.bank import Bank
from usrl.envs.rendering import draw_contour_step
from usrl.envs.rewards import SCORES, Fit
from usrl.envs.rng import uniform
from usrl.envs.task import State, require_proposals
from usrl.geometry.area import RowSums, measure_dice, rasterise, signed_area
from usrl.geometry.boxes import boxes_of_masks, move_sides
from usrl.geometry.fourier import fourier_basis
from usrl.geometry.polygon import displace, ellipse_in_box, is_simple, polygon_of_mask
from usrl.geometry.sampling import profile_atlas, sample_profiles
from usrl.geometry.start import start_profiles
from usrl.strict import Strict

RADIUS_UNITS = 20
"""Pixels that the equivalent radius of a proposal counts under ``scale="proposal"``."""
SMOOTHING_VERTICES = (2.0, 4.0)
"""Standard deviations, in vertices, of the smoothing that is tried when a move would cross itself."""


class ContourSettings(Strict):
    """Arguments of the environment; the class docstring of `ContourTask` describes them."""

    vertices: Annotated[int, Field(ge=8, le=1024)] = 64
    samples: Annotated[int, Field(ge=36, le=256)] = 40
    step_px: Annotated[float, Field(gt=0)] = 4.0
    scale: Literal["pixel", "proposal"] = "pixel"
    observation: Literal["profile", "profile+start", "image"] = "profile"
    parametrization: Literal["vertices", "fourier"] = "vertices"
    coefficients: Annotated[int, Field(ge=1, le=64)] = 15
    reward: Literal["dice", "iou", "dice+boundary"] = "dice"
    proposal: Literal["box", "target", "network"] = "box"
    jitter: Annotated[float, Field(ge=0, le=0.45)] = 0.2


@dataclass(frozen=True)
class ContourState(State):
    """State of a batch of contours.

    Attributes:
        vertices: Current contours, float32, (B, N, 2), pixels of the working image.
        proposal: Contours at the reset, float32, (B, N, 2).
        score: What the reward is the change of, float32, (B,).
        unit: What a pixel of moves and profiles is in working pixels, float32, (B, 1).
    """

    vertices: Tensor
    proposal: Tensor
    score: Tensor
    unit: Tensor


class ContourTask:
    """Move the vertices of a closed polygon along their normals until it fits the lesion.

    Description:
        An ultrasound image is shown with a closed polygon of N vertices, the proposal, that lies
        roughly on a lesion. In each step every vertex moves along its outward normal. The polygon
        never crosses itself: a move that would is smoothed along the contour, as little as helps, and
        otherwise not made. A contour whose vertices have bunched is spaced evenly again.

    Action Space:
        | parametrization | space (float32) | meaning | unit |
        | --- | --- | --- | --- |
        | `vertices` | `Box(-1, 1, (N,))` | outward move of each vertex | `step_px` pixels |
        | `fourier` | `Box(-1, 1, (coefficients,))` | of 1, cos t, sin t, cos 2t, ... | `step_px` pixels |

        t runs once around the contour. Moves are clipped to one step. The zero action leaves the
        contour and its Dice exactly as they are. Under `scale="proposal"` a pixel of `step_px` and of the
        profiles is 1/20 of the equivalent radius of the proposal: contours of all sizes look and move alike.

    Observation Space:
        | observation | space (uint8) | channels | unit |
        | --- | --- | --- | --- |
        | `profile` | `Box(0, 255, (3, N, K))` | image, blur, edge strength along the normals | gray level |
        | `profile+start` | `Box(0, 255, (4, N, K))` | these, and the distance from the proposal | see below |
        | `image` | `Box(0, 255, (3, S, S))` | image, current mask, time left from 255 to 0 | gray level |

        Profiles have K = `samples` places, one pixel apart, inside to outside, centred on the contour.
        The distance from the proposal rises from 0 at K / 2 pixels within it to 255 at K / 2 outside: where
        an episode began, which is where a reader put the box, is else forgotten with the first step.

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
        Truncation at the step limit, 10 by default. The episode never terminates: to stop on the
        ground truth would leak it.

    Info:
        `initial_dice` and `dice`, unitless.

    Arguments:
        | name | default | meaning | unit |
        | --- | --- | --- | --- |
        | `vertices` | 64 | N | |
        | `samples` | 40 | K, places of a profile | |
        | `step_px` | 4.0 | longest move of a vertex in a step | working pixels |
        | `scale` | `"pixel"` | see above | |
        | `observation` | `"profile"` | see above | |
        | `parametrization` | `"vertices"` | see above | |
        | `coefficients` | 15 | size of a `fourier` action | |
        | `reward` | `"dice"` | see above | |
        | `proposal` | `"box"` | see above | |
        | `jitter` | 0.2 | see above | fraction |

    Version History:
        v0: first version.

    References:
        Wang et al. (2013) and Sahba et al. (2008) frame ultrasound segmentation as decisions; Peng et
        al. (2020), Deep Snake, doi:10.1109/CVPR42600.2020.00856, move contours by circular convolution.
    """

    def __init__(self, bank: Bank, settings: ContourSettings, horizon: int) -> None:
        """Prepare a bank for refinement; see the class docstring for the settings.

        Raises:
            UserError: If network proposals are asked for and the bank has none.
        """
        if settings.proposal == "network":
            require_proposals(bank, "proposal='network'")
        self.bank = bank
        self.settings = settings
        self.horizon = horizon
        n, k, size = settings.vertices, settings.samples, bank.size
        fourier = settings.parametrization == "fourier"
        self.action_space: gym.Space[Any] = gym.spaces.Box(
            -1.0, 1.0, (settings.coefficients if fourier else n,), np.float32
        )
        shape = {"profile": (3, n, k), "profile+start": (4, n, k), "image": (3, size, size)}[
            settings.observation
        ]
        self.observation_space: gym.spaces.Box = gym.spaces.Box(0, 255, shape, np.uint8)
        self._targets = bank.prepare(_row_sums)
        self._offsets = torch.arange(k, device=bank.device) - (k - 1) / 2  # (K,)
        self._basis = fourier_basis(settings.coefficients, n, bank.device) if fourier else None
        self._smoothing = [_circular_gaussian(n, sigma, bank.device) for sigma in SMOOTHING_VERTICES]

    # Prepared on first use: an episode needs some of these only. Tasks of one bank share them.

    @property
    def _atlas(self) -> Tensor:
        return self.bank.prepare(_profile_atlas)  # (M, F, F)

    @property
    def _signed_distance(self) -> Tensor:
        return self.bank.prepare(_signed_distances)  # (M, S, S)

    @property
    def _boxes(self) -> Tensor:
        return self.bank.prepare(_boxes)  # (M, 4)

    @cached_property
    def _outlines(self) -> Tensor:
        """Outlines of the masks that episodes start from, (M, N, 2)."""
        network = self.settings.proposal == "network"
        masks = self.bank.proposals if network and self.bank.proposals is not None else self.bank.targets
        outlines = np.stack([polygon_of_mask(mask, self.settings.vertices) for mask in masks.cpu().numpy()])
        return torch.from_numpy(outlines).to(self.bank.device)

    def reset(self, index: Tensor, keys: Tensor) -> ContourState:
        """Begin episodes; see `Task.reset`."""
        return self.begin(index, self._propose(index, keys))

    def begin(self, index: Tensor, vertices: Tensor) -> ContourState:
        """Begin episodes from given contours.

        Args:
            index: Rows of the bank, int64, (B,).
            vertices: Simple polygons in positive orientation, (B, N, 2), pixels of the working image.
        """
        vertices = vertices.clamp(0, self.bank.size - 1)
        dice = measure_dice(vertices, self._targets, index)
        elapsed = torch.zeros_like(index)
        return ContourState(
            index,
            elapsed,
            dice,
            dice,
            vertices,
            vertices,
            self._score(vertices, index, dice),
            self._unit(vertices),
        )

    def step(self, state: ContourState, action: Tensor) -> tuple[ContourState, Tensor]:
        """Move the contours; see `Task.step`."""
        vertices = self._move(state.vertices, self._displacement(action) * state.unit)
        dice = measure_dice(vertices, self._targets, state.index)
        score = self._score(vertices, state.index, dice)
        moved = replace(state, vertices=vertices, dice=dice, score=score, elapsed=state.elapsed + 1)
        return moved, score - state.score

    def observe(self, state: ContourState) -> Tensor:
        """Return profiles or images; see `Task.observe`."""
        if self.settings.observation != "image":
            profiles = sample_profiles(
                self._atlas, state.index, state.vertices, self._offsets, state.unit, self.bank.size
            )
            if self.settings.observation == "profile":
                return profiles
            ramp = start_profiles(state.vertices, state.proposal, state.unit, self._offsets)
            return torch.cat([profiles, ramp[:, None]], dim=1)
        image = self.bank.images[state.index]  # (B, S, S)
        left = (255 * (1 - state.elapsed / self.horizon)).clamp(0, 255).to(torch.uint8)
        time = left[:, None, None].expand_as(image)
        return torch.stack([image, self.mask(state).to(torch.uint8) * 255, time], dim=1)

    def mask(self, state: ContourState) -> Tensor:
        """Return the contours' masks; see `Task.mask`."""
        return rasterise(state.vertices, self.bank.size, self.bank.size)

    def oracle_action(self, state: ContourState) -> Tensor:
        """Return the teacher's move: each vertex towards the target's boundary, clipped to the step.

        A `fourier` task gets the least-squares projection of that move.
        """
        step = self.settings.step_px * state.unit
        wanted = -self._distance(state.vertices, state.index) / step  # (B, N)
        if self._basis is not None:
            wanted = wanted @ torch.linalg.pinv(self._basis)
        return wanted.clamp(-1, 1)

    def render(self, state: ContourState, row: int) -> NDArray[np.uint8]:
        """Return a picture of one contour of the batch; see `Task.render`."""
        image = int(state.index[row])
        return draw_contour_step(
            self.bank.images[image].cpu().numpy(),
            self.bank.targets[image].cpu().numpy(),
            state.proposal[row : row + 1].cpu().numpy(),
            state.vertices[row : row + 1].cpu().numpy(),
            f"step {int(state.elapsed[row])}/{self.horizon}   Dice {float(state.dice[row]):.3f}"
            f"   start {float(state.initial_dice[row]):.3f}",
        )

    def _propose(self, index: Tensor, keys: Tensor) -> Tensor:
        """Return the contours that episodes start from, (B, N, 2)."""
        settings = self.settings
        if settings.proposal == "network":
            return self._outlines[index]
        if settings.proposal == "box":
            shares = (2 * uniform(keys, 4) - 1) * settings.jitter  # (B, 4)
            return ellipse_in_box(move_sides(self._boxes[index], shares), settings.vertices)
        waves = 2 * uniform(keys, 7) - 1  # (B, 7), up to the third harmonic
        basis = fourier_basis(7, settings.vertices, index.device)
        radius = torch.sqrt(self._targets.area[index] / torch.pi)  # (B,)
        wave = (waves @ basis / 7) * (settings.jitter * radius)[:, None]  # (B, N)
        return self._move(self._outlines[index], wave)

    def _unit(self, proposal: Tensor) -> Tensor:
        if self.settings.scale == "pixel":
            return proposal.new_ones(len(proposal), 1)
        return torch.sqrt(signed_area(proposal).clamp_min(1) / torch.pi)[:, None] / RADIUS_UNITS

    def _displacement(self, action: Tensor) -> Tensor:
        """Return the outward moves that actions ask for, (B, N), in pixels."""
        wanted = action if self._basis is None else action @ self._basis
        return wanted.clamp(-1, 1) * self.settings.step_px

    def _move(self, vertices: Tensor, displacement: Tensor) -> Tensor:
        """Return the contours after a move, simple and with no vertices bunched, (B, N, 2).

        Of several moves, from the one asked for to none at all, the first that keeps a contour simple
        is made.
        """
        limit = self.bank.size - 1
        moved = displace(vertices, displacement, limit)
        settled = is_simple(moved)  # (B,)
        for smoothing in self._smoothing:
            if _all_known(settled):
                return moved
            # The matrix stands on the right, so that the batch is one product and not B of them.
            smooth = (vertices.mT @ smoothing).mT.contiguous()  # (B, N, 2)
            gentler = displace(smooth, displacement @ smoothing, limit)
            moved = torch.where(settled[:, None, None], moved, gentler)
            settled = settled | is_simple(gentler)
        return torch.where(settled[:, None, None], moved, vertices)

    def _score(self, vertices: Tensor, index: Tensor, dice: Tensor) -> Tensor:
        """Return what the reward is the change of, (B,)."""
        if self.settings.reward == "dice":
            return dice
        distance = self._distance(vertices, index).abs().mean(dim=1)
        return SCORES[self.settings.reward](Fit(dice, distance, self._targets.area[index]))

    def _distance(self, vertices: Tensor, index: Tensor) -> Tensor:
        """Return the vertices' signed distance from the target's boundary in pixels, (B, N)."""
        size = self.bank.size
        maps = self._signed_distance.view(-1)
        low = vertices.clamp(0, size - 1.001)
        cell = low.to(torch.int64)  # (B, N, 2)
        part = low - cell
        first = index[:, None] * (size * size) + cell[..., 1] * size + cell[..., 0]
        top = torch.lerp(maps[first], maps[first + 1], part[..., 0])
        bottom = torch.lerp(maps[first + size], maps[first + size + 1], part[..., 0])
        return torch.lerp(top, bottom, part[..., 1])


def _all_known(settled: Tensor) -> bool:
    """Return whether nothing is left to try.

    A GPU is not asked: to wait for its answer costs more than to try in vain.
    """
    return is_compiled_for(settled) and bool(settled.all())


def _circular_gaussian(count: int, sigma: float, device: torch.device) -> Tensor:
    """Return the matrix (N, N) that smooths a closed sequence of N numbers."""
    place = torch.arange(count, device=device)
    gap = (place[:, None] - place[None, :]).abs()
    weight = torch.exp(-0.5 * (torch.minimum(gap, count - gap) / sigma) ** 2)
    return weight / weight.sum(dim=1, keepdim=True)


def _row_sums(bank: Bank) -> RowSums:
    return RowSums.of(bank.targets)


def _profile_atlas(bank: Bank) -> Tensor:
    return profile_atlas(bank.images)


def _boxes(bank: Bank) -> Tensor:
    return boxes_of_masks(bank.targets)


def _signed_distances(bank: Bank) -> Tensor:
    """Return the distance from each target's boundary in pixels, negative inside, (M, S, S)."""
    maps = np.stack([_signed_distance(target) for target in bank.targets.cpu().numpy()])
    return torch.from_numpy(maps).to(bank.device)


def _signed_distance(target: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of pixel centres from a mask's boundary, negative inside, (S, S)."""
    inside, outside = (
        cv2.distanceTransform(np.pad(side, 1, constant_values=edge).astype(np.uint8), cv2.DIST_L2, 5)[
            1:-1, 1:-1
        ]
        for side, edge in ((target, False), (~target, True))
    )
    # Both count to the nearest pixel centre of the other side; the boundary lies half a pixel before it.
    return np.where(target, 0.5 - inside, outside - 0.5).astype(np.float32)

"""Contour refinement as one would write it first: what the benchmarks compare with."""

from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from usrl.data.bank import Bank

HORIZON = 10
VERTICES, SAMPLES, STEP_PX = 64, 40, 4.0


class PlainContourEnv(gym.Env[Any, Any]):
    """One image, NumPy, and masks drawn by OpenCV.

    The same action, observation and reward, without the guarantees: vertices may cross and bunch.
    """

    def __init__(self, bank: Bank) -> None:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (VERTICES,), np.float32)
        self.observation_space = gym.spaces.Box(0, 255, (3, VERTICES, SAMPLES), np.uint8)
        self._targets = bank.targets.numpy().astype(np.uint8)
        self._channels = [_channels(image) for image in bank.image(torch.arange(len(bank))).numpy()]
        self._offsets = np.arange(SAMPLES, dtype=np.float32) - (SAMPLES - 1) / 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin with the ellipse in a jittered box."""
        super().reset(seed=seed)
        self._row = int(self.np_random.integers(len(self._targets)))
        x, y, width, height = cv2.boundingRect(self._targets[self._row])
        low, high = np.array([x, y], np.float32), np.array([x + width, y + height], np.float32)
        low += self.np_random.uniform(-0.2, 0.2, 2) * (width, height)
        high += self.np_random.uniform(-0.2, 0.2, 2) * (width, height)
        angle = np.arange(VERTICES) * (2 * np.pi / VERTICES)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self._vertices = ((low + high) / 2 + circle * (high - low) / 2).astype(np.float32)
        self._dice, self._elapsed = self._score(), 0
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the vertices, draw the mask and pay the change of Dice."""
        moved = self._vertices + self._normals() * (action * STEP_PX)[:, None]
        self._vertices = np.clip(moved, 0, self._targets.shape[1] - 1)
        before, self._dice = self._dice, self._score()
        self._elapsed += 1
        return self._observe(), self._dice - before, False, self._elapsed >= HORIZON, {}

    def _normals(self) -> NDArray[np.float32]:
        chord = np.roll(self._vertices, -2, axis=0) - np.roll(self._vertices, 2, axis=0)
        normal = np.stack([chord[:, 1], -chord[:, 0]], axis=1)
        return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)

    def _score(self) -> float:
        target = self._targets[self._row]
        mask = np.zeros_like(target)
        cv2.fillPoly(mask, [self._vertices.round().astype(np.int32)], 1)
        return 2 * float((mask & target).sum()) / float(mask.sum() + target.sum())

    def _observe(self) -> NDArray[np.uint8]:
        places = self._vertices[:, None] + self._normals()[:, None] * self._offsets[:, None]
        x, y = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
        profile = cv2.remap(
            self._channels[self._row], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.ascontiguousarray(profile.transpose(2, 0, 1))


def _channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    slope_y, slope_x = np.gradient(smooth)
    edge = np.minimum(4 * np.hypot(slope_x, slope_y), 255).astype(np.uint8)
    return np.stack([image, cv2.GaussianBlur(image, (0, 0), 2.0), edge], axis=-1)

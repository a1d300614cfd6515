"""Random changes of training images and their masks."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from usrl.networks.recipe import AugmentRecipe


@dataclass(frozen=True)
class Augmentation:
    """One drawn change for each image of a batch. Applying it again gives the same result."""

    flip: Tensor  # (B,), bool: is the image mirrored left to right?
    angle: Tensor  # (B,), radians, from the x towards the y axis
    scale: Tensor  # (B,), factor of magnification
    shift: Tensor  # (B, 2), along (x, y), as a share of the side
    gamma: Tensor  # (B,), exponent of the gray values

    @classmethod
    def draw(cls, recipe: AugmentRecipe, count: int, rng: torch.Generator) -> "Augmentation":
        """Draw the changes of ``count`` images, on the generator's device.

        The recipe gives the half-widths of uniform distributions.
        """

        def around_zero(half_width: float, *shape: int) -> Tensor:
            return (torch.rand(shape, generator=rng, device=rng.device) * 2 - 1) * half_width

        return cls(
            flip=(torch.rand(count, generator=rng, device=rng.device) < 0.5) & recipe.flip,
            angle=around_zero(math.radians(recipe.rotation_deg), count),
            scale=1 + around_zero(recipe.scale, count),
            shift=around_zero(recipe.translation, count, 2),
            gamma=torch.exp(around_zero(recipe.gamma, count)),
        )

    def repeat(self, times: int) -> "Augmentation":
        """Return each change so many times in a row: for the frames of a window, which move alike."""
        return Augmentation(*(getattr(self, own.name).repeat_interleave(times, 0) for own in fields(self)))

    def apply(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Change images, uint8, and masks, bool, alike, by one bilinear resampling; all are (B, S, S).

        The new images are float32 in [0, 1] and black outside the old ones. The new masks are bool: true
        where the resampled mask exceeds one half.
        """
        stack = torch.stack([images.float() / 255, masks.float()], dim=1)  # (B, 2, S, S)
        grid = F.affine_grid(self._inverse(), list(stack.shape), align_corners=False)  # (B, S, S, 2)
        moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        gray = moved[:, 0].clamp(0, 1) ** self.gamma.view(-1, 1, 1)
        return gray, moved[:, 1] > 0.5

    def _inverse(self) -> Tensor:
        """Return the map from new to old coordinates in [-1, 1], (B, 2, 3)."""
        cos, sin = torch.cos(self.angle) / self.scale, torch.sin(self.angle) / self.scale
        x, y = (2 * self.shift).unbind(-1)  # the side is 2 long in these coordinates
        sign = 1 - 2 * self.flip.float()
        first = torch.stack([sign * cos, sign * sin, -sign * (cos * x + sin * y)], dim=-1)  # (B, 3)
        second = torch.stack([-sin, cos, sin * x - cos * y], dim=-1)  # (B, 3)
        return torch.stack([first, second], dim=1)

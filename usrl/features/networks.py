"""Three small networks that give a frame features of three kinds.

Source:
    Mathews et al. (2021), Unsupervised multi-latent space reinforcement learning framework for video
    summarization in ultrasound imaging, arXiv:2109.01309, whose three latent spaces these are: of a
    classifier of frames, of a convolutional autoencoder, and of a segmentation network pooled over its mask.
    The networks here are much smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.features.recipe import FeatureRecipe

SIDE_PX = 64
"""Side of the frames that the networks see; others are brought to it."""
LATENTS = ("classifier", "autoencoder", "segmentation")
"""Kinds of features, in their order."""


@dataclass(frozen=True)
class Latents:
    """What the networks say of N frames.

    Attributes:
        vectors: Features of each kind, of length 1, float32, (N, 3, D).
        abnormality: Probability that a frame is not normal, float32, (N,).
        sharpness: Variance of the Laplacian of a frame, float32, (N,).
    """

    vectors: Tensor
    abnormality: Tensor
    sharpness: Tensor


class FeatureNetworks(nn.Module):
    """The classifier, the autoencoder and the segmentation U-Net of a recipe.

    They take frames from `as_frames`, (N, 1, 64, 64).
    """

    def __init__(self, recipe: FeatureRecipe) -> None:
        super().__init__()
        self.classifier = FrameClassifier(recipe.width)
        self.autoencoder = Autoencoder(recipe.width)
        self.segmentation = SmallUNet(recipe.width)

    def forward(self, frames: Tensor) -> Latents:
        """Return the features of frames."""
        networks = (self.classifier, self.autoencoder, self.segmentation)
        parts = [network.encode(frames) for network in networks]
        abnormality = torch.sigmoid(self.classifier.head(parts[0])[:, 0])
        vectors = torch.stack([F.normalize(part, dim=1) for part in parts], dim=1)  # (N, 3, D)
        return Latents(vectors, abnormality, measure_sharpness(frames[:, 0]))


def as_frames(frames: Tensor) -> Tensor:
    """Return frames, uint8, (N, S, S), as the networks take them: float32, (N, 1, 64, 64), about 0."""
    gray = frames[:, None].float()
    if gray.shape[-1] != SIDE_PX:
        gray = F.interpolate(gray, (SIDE_PX, SIDE_PX), mode="area")
    return ((gray - 64) / 64).contiguous(memory_format=torch.channels_last)


def measure_sharpness(frames: Tensor) -> Tensor:
    """Return the variance of the Laplacian of frames, float32, (N,), of gray levels (N, S, S).

    Source:
        Pech-Pacheco et al. (2000), Diatom autofocusing in brightfield microscopy, ICPR,
        doi:10.1109/ICPR.2000.903548.
    """
    inner = frames[:, 1:-1, 1:-1]
    across = frames[:, 1:-1, :-2] + frames[:, 1:-1, 2:]
    along = frames[:, :-2, 1:-1] + frames[:, 2:, 1:-1]
    return (across + along - 4 * inner).flatten(1).var(dim=1)


class FrameClassifier(nn.Module):
    """Convolutions, D features, and one logit: is the frame abnormal?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _shrink((1, 16, 32, 48, 64))
        self.latent = nn.Linear(64, width)
        self.head = nn.Linear(width, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """Return features (N, D)."""
        latent: Tensor = self.latent(self.body(frames).mean(dim=(2, 3)))
        return latent

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits (N,)."""
        logit: Tensor = self.head(self.encode(frames))[:, 0]
        return logit


class Autoencoder(nn.Module):
    """Convolutions to D features, and back to the frame at half its size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _shrink((1, 16, 32, 48, 48))
        self.latent = nn.Linear(48 * 16, width)
        self.grow = nn.Linear(width, 48 * 16)
        sizes = (48, 48, 32, 16)
        self.back = nn.Sequential()
        for ins, outs in pairwise(sizes):
            self.back.extend([nn.Upsample(scale_factor=2), *_block(ins, outs, 1)])
        self.back.append(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def encode(self, frames: Tensor) -> Tensor:
        """Return features (N, D)."""
        latent: Tensor = self.latent(self.body(frames).flatten(1))
        return latent

    def forward(self, frames: Tensor) -> Tensor:
        """Return the frames as the features remember them, at half their size, (N, 1, 32, 32)."""
        small = self.grow(self.encode(frames)).unflatten(1, (48, 4, 4))
        frame: Tensor = self.back(small)
        return frame


class SmallUNet(nn.Module):
    """A U-Net of three levels. Its features are those of the lowest level, pooled over the mask it finds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        low, middle = width // 4, width // 2
        self.first = nn.Sequential(*_block(1, low, 2))
        self.second = nn.Sequential(*_block(low, middle, 2))
        self.third = nn.Sequential(*_block(middle, width, 2), *_block(width, width, 1))
        self.up = nn.Sequential(*_block(width + middle, middle, 1))
        self.top = nn.Sequential(*_block(middle + low, low, 1))
        self.head = nn.Conv2d(low, 1, 1)

    def encode(self, frames: Tensor) -> Tensor:
        """Return features (N, D): the mean of the lowest level, weighted by the probability of the mask.

        Where nothing is found, every place has nearly the same small weight.
        """
        logits, deep = self._run(frames)
        weight = F.interpolate(torch.sigmoid(logits), deep.shape[2:], mode="area") + 1e-3
        return (deep * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits of the mask at half the size, (N, 1, 32, 32)."""
        return self._run(frames)[0]

    def _run(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(frames)  # (N, low, 32, 32)
        second = self.second(first)  # (N, middle, 16, 16)
        deep = self.third(second)  # (N, D, 8, 8)
        up = self.up(torch.cat([F.interpolate(deep, scale_factor=2), second], dim=1))
        top = self.top(torch.cat([F.interpolate(up, scale_factor=2), first], dim=1))
        return self.head(top), deep


def _shrink(channels: Sequence[int]) -> nn.Sequential:
    """Return convolutions that halve the sides each time."""
    layers = nn.Sequential()
    for ins, outs in pairwise(channels):
        layers.extend(_block(ins, outs, 2))
    return layers


def _block(ins: int, outs: int, stride: int) -> list[nn.Module]:
    kernel = 5 if ins == 1 else 3
    convolution = nn.Conv2d(ins, outs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.GroupNorm(1, outs), nn.ReLU()]

"""Policies for stacked slices: a small convolutional network, and actor and critic or Q-values on it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor, nn

from usrl.agents.restoring import Restorable
from usrl.errors import UserError


class SliceExtractor(BaseFeaturesExtractor):
    """Convolutions with stride 2 and normalised layers, then one dense layer.

    The convolutions of SB3's `CnnPolicy` begin with steps of four pixels, nearly the width of a vessel. These
    see finer things.
    """

    def __init__(self, observation_space: spaces.Box, channels: Sequence[int], features: int) -> None:
        if not channels or min(*channels, features) < 1:
            raise UserError(f"channels and features must be at least 1, got {channels} and {features}")
        super().__init__(observation_space, features_dim=features)
        sizes = [observation_space.shape[0], *channels]
        self.layers = nn.Sequential()
        for depth, (ins, outs) in enumerate(pairwise(sizes)):
            kernel = 3 if depth else 5
            layer = nn.Conv2d(ins, outs, kernel, stride=2, padding=kernel // 2, bias=False)
            self.layers.extend([layer, nn.GroupNorm(1, outs), nn.ReLU()])
        self.layers.append(nn.Flatten())
        with torch.no_grad():
            size = self.layers(torch.zeros(1, *observation_space.shape)).shape[1]
        self.layers.extend([nn.Linear(size, features), nn.ReLU()])

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (B, F) of gray levels (B, C, H, W)."""
        # A CPU convolves this layout half as fast again.
        images = observations.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.layers((images.float() - 127.5) / 64)
        return features


class SlicePolicy(Restorable, ActorCriticPolicy):
    """Actor and critic on the features of a `SliceExtractor`, for any observation of images.

    Args:
        observation_space: A Box of images, uint8, (C, H, W).
        action_space: Any that SB3's policies take.
        lr_schedule: Learning rate by remaining progress.
        channels: Of each convolution; each halves the image's sides.
        features: Width of the dense layer.
        log_std_init: Logarithm of the standard deviation that continuous actions start with.
        share_features_extractor: Whether actor and critic share the network.
        optimizer_class: Of all weights.
        optimizer_kwargs: Its arguments except the learning rate.
        use_sde: Whether the noise of continuous actions depends on the state.

    Raises:
        UserError: If the observations are not images, or a number is not positive.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        channels: Sequence[int] = (16, 32, 48, 64),
        features: int = 256,
        log_std_init: float = 0.0,
        share_features_extractor: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        super().__init__(
            _require_images(observation_space),
            action_space,
            lr_schedule,
            net_arch=[],
            log_std_init=log_std_init,
            features_extractor_class=SliceExtractor,
            features_extractor_kwargs={"channels": list(channels), "features": features},
            normalize_images=False,  # the extractor takes gray levels
            share_features_extractor=share_features_extractor,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            use_sde=use_sde,
        )


class SliceQPolicy(Restorable, DQNPolicy):
    """Q-values on the features of a `SliceExtractor`, for DQN.

    Args:
        observation_space: A Box of images, uint8, (C, H, W).
        action_space: Discrete actions.
        lr_schedule: Learning rate by remaining progress.
        channels: Of each convolution; each halves the image's sides.
        features: Width of the dense layer.
        optimizer_class: Of all weights.
        optimizer_kwargs: Its arguments except the learning rate.

    Raises:
        UserError: If the observations are not images, or a number is not positive.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        channels: Sequence[int] = (16, 32, 48, 64),
        features: int = 256,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            _require_images(observation_space),
            action_space,
            lr_schedule,
            net_arch=[],
            features_extractor_class=SliceExtractor,
            features_extractor_kwargs={"channels": list(channels), "features": features},
            normalize_images=False,  # the extractor takes gray levels
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )


def _require_images(space: spaces.Space[Any]) -> spaces.Box:
    """Return a space of images; refuse another."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise UserError(f"policies of slices take images (C, H, W), got {space}; choose MlpPolicy")
    return space

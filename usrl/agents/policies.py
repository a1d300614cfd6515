"""Policies that share one head among the vertices of a contour."""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn import functional as F

from usrl.agents.restoring import Restorable
from usrl.envs.contour.actions import FourierMoves
from usrl.errors import UserError, suggest

KERNEL = 5
"""Vertices that one layer sees."""
CRITICS = ("contour", "vertex")
"""What has a value: a contour as a whole, or each of its vertices."""


class ProfileExtractor(BaseFeaturesExtractor):
    """Convolutions along a closed contour: the features of a vertex depend on it and its neighbours.

    The channels and places of a vertex's profile (C, K) are its input, and each layer gives it ``width``
    features. The convolutions are circular, so that no vertex is the first. Their dilation grows, so that a
    few layers see far. The last layer must not reach around the contour more than once.
    """

    def __init__(self, observation_space: spaces.Box, width: int, layers: int) -> None:
        if width < 1 or layers < 1:
            raise UserError(f"width and layers must be at least 1, got width {width} and layers {layers}")
        channels, vertices, samples = observation_space.shape
        super().__init__(observation_space, features_dim=width * vertices)
        sizes = [channels * samples] + [width] * layers
        # It holds the weights. `forward` computes the same in a faster layout.
        self.convolutions = nn.Sequential()
        for depth, (ins, outs) in enumerate(pairwise(sizes)):
            # The first layer reads single profiles: it has most of the inputs, so a wider kernel costs most.
            kernel, dilation = (KERNEL, 2 ** (depth - 1)) if depth else (1, 1)
            padding = dilation * (kernel // 2)
            if padding > vertices:
                raise UserError(
                    f"layers: a contour of {vertices} vertices takes {depth} layers, got {layers}; set fewer"
                )
            layer = nn.Conv1d(ins, outs, kernel, dilation=dilation, padding=padding, padding_mode="circular")
            self.convolutions.extend([layer, nn.ReLU()])

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (B, N * width), vertex by vertex, of profiles (B, C, N, K) in gray levels."""
        batch, _, vertices, _ = observations.shape
        first, *others = (layer for layer in self.convolutions if isinstance(layer, nn.Conv1d))
        # Gray levels minus 127.5 are exact in bfloat16, but fractions of 255 would be rounded.
        is_mixed = torch.is_autocast_enabled(observations.device.type)
        dtype = torch.get_autocast_dtype(observations.device.type) if is_mixed else torch.float32
        profiles = observations.transpose(1, 2).reshape(batch, vertices, -1).to(dtype) - 127.5  # (B, N, C K)
        features = F.linear(profiles, first.weight.squeeze(2) / 255, first.bias).relu()  # (B, N, width)
        for layer in others:
            weight, bias = layer.weight.to(features.dtype), layer.bias.to(features.dtype)  # type: ignore[union-attr]
            features = circular_convolution(features, weight, bias, layer.dilation[0]).relu()
        return features.flatten(1)


class _VertexLatents(nn.Module):
    """Layers between features and heads, as SB3 wants them: a critic of contours pools over the contour."""

    def __init__(self, width: int, vertices: int, *, is_pooled: bool) -> None:
        super().__init__()
        self.width, self.is_pooled = width, is_pooled
        self.latent_dim_pi = width * vertices
        self.latent_dim_vf = 2 * width if is_pooled else width * vertices

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        return features

    def forward_critic(self, features: Tensor) -> Tensor:
        if not self.is_pooled:
            return features
        maps = features.unflatten(1, (-1, self.width))  # (B, N, width)
        return torch.cat([maps.mean(dim=1), maps.amax(dim=1)], dim=1)


class _VertexHead(nn.Module):
    """One move per vertex from its features, by shared weights; projected on Fourier coefficients if any."""

    projection: Tensor | None

    def __init__(self, width: int, vertices: int, actions: int) -> None:
        super().__init__()
        self.width = width
        self.head = nn.Conv1d(width, 1, 1)
        # It follows from the recipe, so the weights do not hold it.
        projection = None if actions == vertices else FourierMoves(actions, vertices).projection
        self.register_buffer("projection", projection, persistent=False)  # (N, C)

    def forward(self, features: Tensor) -> Tensor:
        maps = features.unflatten(1, (-1, self.width))  # (B, N, width)
        moves = F.linear(maps, self.head.weight.squeeze(2), self.head.bias).squeeze(2)  # (B, N)
        return moves if self.projection is None else moves @ self.projection


class _VertexValues(nn.Module):
    """The value of a contour as the mean of its vertices' values, which have shared weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.head = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return values, (B, 1)."""
        return self.list_values(features).mean(dim=1, keepdim=True)

    def list_values(self, features: Tensor) -> Tensor:
        """Return the values of the vertices, (B, N)."""
        values: Tensor = self.head(features.unflatten(1, (-1, self.width))).squeeze(2)
        return values


class ContourPolicy(Restorable, ActorCriticPolicy):
    """Actor and critic for profile observations and one action per vertex or Fourier coefficient.

    The actor is a circular convolutional network with one head for all vertices and one standard deviation
    for all actions. What it learns at one place of the contour, it knows at every other. PPO and A2C also
    train its critic. The algorithm gives the first three arguments, and the others go into
    ``policy_kwargs``::

        env = gym.make("usrl/ContourRefine-v0", observation="profile+start")
        agent = PPO(ContourPolicy, env, gamma=0.5, policy_kwargs={"layers": 5})

    Args:
        observation_space: uint8 Box (C, N, K), the profiles of a contour: ``observation="profile"`` or
            ``"profile+start"``. N must differ from K, which distinguishes profiles from images.
        action_space: Box (N,), one move per vertex, or Box (F,), Fourier coefficients of the moves.
        lr_schedule: Learning rate by remaining progress.
        width: Features of a vertex.
        layers: Number of convolutions.
        log_std_init: Logarithm of the initial standard deviation, in units of an action.
        critic: ``"contour"`` pools the features for one value; ``"vertex"`` has a value of each vertex, whose
            mean is that of the contour, as ``credit="own"`` of `usrl.agents.device_ppo.DevicePPO` needs it.
        share_features_extractor: Whether actor and critic share the convolutions.
        optimizer_class: Of all weights.
        optimizer_kwargs: Its arguments except the learning rate.
        use_sde: Must be False. Noise that depends on the state is not available.

    Raises:
        UserError: If the spaces are not those of a contour (images, normalised profiles), or an argument is
            out of range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        width: int = 64,
        layers: int = 3,
        log_std_init: float = -1.2,
        critic: str = "contour",
        share_features_extractor: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        if use_sde:
            raise UserError("use_sde: ContourPolicy has one deviation for all actions; leave it out")
        shape, actions = observation_space.shape or (), action_space.shape or ()
        if not isinstance(action_space, spaces.Box) or len(shape) != 3 or actions[0] > shape[1]:
            raise UserError(
                "ContourPolicy needs profiles (C, N, K) and a continuous action per vertex or Fourier "
                f"coefficient, got observations {shape} and actions {action_space}; use CnnPolicy"
            )
        if shape[1] == shape[2]:
            raise UserError(
                f"ContourPolicy sees profiles (C, N, K), got observations {shape}, square like images; use "
                "CnnPolicy for images, or give profiles another number of samples than of vertices"
            )
        if observation_space.dtype != np.uint8:
            raise UserError(
                f"ContourPolicy takes gray levels, uint8, got observations of {observation_space.dtype}; "
                "leave out what normalises them, such as VecNormalize without norm_obs=False"
            )
        if critic not in CRITICS:
            raise UserError(f"critic: unknown value {critic!r}; {suggest(critic, CRITICS)}")
        if critic == "vertex" and actions[0] != shape[1]:
            raise UserError(
                f"critic: vertex needs an action per vertex, got {actions[0]} for {shape[1]} vertices; set "
                "parametrization: vertices in the environment, or critic: contour"
            )
        self.critic = critic
        self.width, self.vertices, self.actions = width, shape[1], actions[0]
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            log_std_init=log_std_init,
            normalize_images=False,  # the extractor takes gray levels
            features_extractor_class=ProfileExtractor,
            features_extractor_kwargs={"width": width, "layers": layers},
            share_features_extractor=share_features_extractor,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build_mlp_extractor(self) -> None:
        latents = _VertexLatents(self.width, self.vertices, is_pooled=self.critic == "contour")
        self.mlp_extractor = latents  # type: ignore[assignment]

    def _build(self, lr_schedule: Schedule) -> None:
        """Build the heads. SB3 would make them dense, with 64 times the weights for 64 vertices."""
        self._build_mlp_extractor()
        self.action_net = _VertexHead(self.width, self.vertices, self.actions)
        is_whole = self.critic == "contour"
        self.value_net = nn.Linear(2 * self.width, 1) if is_whole else _VertexValues(self.width)  # type: ignore[assignment]
        self.log_std = nn.Parameter(torch.full((1,), float(self.log_std_init)))
        gains = {self.features_extractor: np.sqrt(2), self.action_net: 0.01, self.value_net: 1.0}
        for module, gain in gains.items():
            for layer in module.modules():
                if isinstance(layer, nn.Conv1d | nn.Linear):
                    nn.init.orthogonal_(layer.weight, gain=float(gain))
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]


def circular_convolution(features: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Return what a circular `torch.nn.Conv1d` of odd kernel gives for features with channels last.

    Features (B, N, I) and result (B, N, O) are contiguous; weight (O, I, kernel) and bias (O,) have the dtype
    of the features. N is at least ``dilation * (kernel // 2)``.
    """
    images = features.transpose(1, 2).unsqueeze(2)  # (B, I, 1, N) in channels-last memory
    output: Tensor = _CircularConvolution.apply(images, weight.unsqueeze(2), bias, dilation)  # type: ignore[no-untyped-call]
    return output.squeeze(2).transpose(1, 2)


class _CircularConvolution(torch.autograd.Function):
    """A convolution of images (B, I, 1, N) that continue at their other end.

    Autograd would add up the gradients of the padded ends in copies of the whole. The gradient of a circular
    convolution is itself one, with the kernel transposed and turned.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        padded = _pad(images, dilation * (weight.shape[3] // 2))
        ctx.save_for_backward(padded, weight)
        ctx.dilation = dilation
        return F.conv2d(padded, weight, bias, dilation=(1, dilation))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        padded, weight = ctx.saved_tensors
        outer, step = gradients[0], (1, ctx.dilation)
        turned = weight.transpose(0, 1).flip(3)
        inner = F.conv2d(_pad(outer, ctx.dilation * (weight.shape[3] // 2)), turned, dilation=step)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            outer, padded, weight, [len(weight)], [1, 1], [0, 0], step, False, [0, 0], 1, [False, True, True]
        )
        return inner, of_weight, of_bias, None


def _pad(images: Tensor, width: int) -> Tensor:
    """Return images (..., N) with their ends repeated on the other side, (..., N + 2 * width)."""
    start = images.shape[-1] - width
    return torch.cat([images[..., start:], images, images[..., :width]], dim=-1)

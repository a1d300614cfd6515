"""A policy for the frames of a clip: attention over kinds of features, a bidirectional LSTM, and a head."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from usrl.agents.restoring import Restorable
from usrl.envs.summary.task import COLUMNS
from usrl.errors import UserError

_NEVER = -20.0
"""Logit of padding: the probability of keeping it is far below one in a million."""


class ClipExtractor(BaseFeaturesExtractor):
    """Attention over the kinds of a frame's features, then a bidirectional LSTM over the frames.

    Each kind has a linear layer of its own. The attention weighs them frame by frame. In place of the
    attention, ``attention=False`` joins all features by one linear layer.

    Args:
        observation_space: Features of frames and three numbers, of which the last is 0 in padding,
            (T, F + 3).
        width: Units of the layers and of each direction of the LSTM.
        kinds: Number of kinds; F is a multiple of it.
        attention: Whether kinds are weighed frame by frame.
    """

    def __init__(self, observation_space: spaces.Box, width: int, kinds: int, attention: bool) -> None:
        places, columns = observation_space.shape
        features = columns - COLUMNS
        if width < 1 or kinds < 1 or features < 1 or features % kinds:
            raise UserError(
                f"width and kinds must be at least 1, and kinds must divide {features} features, got width "
                f"{width} and kinds {kinds}"
            )
        super().__init__(observation_space, features_dim=2 * width * places)
        self.kinds, self.width = kinds, width
        each = features // kinds
        self.project = nn.ModuleList([nn.Linear(each, width) for _ in range(kinds if attention else 0)])
        self.attend = nn.Linear(width, 1, bias=False) if attention else None
        self.join = None if attention else nn.Linear(features, width)
        self.recurrent = nn.LSTM(width + COLUMNS - 1, width, batch_first=True, bidirectional=True)

    def forward(self, observations: Tensor) -> Tensor:
        """Return features (B, T * 2 width), frame by frame; those of padding are 0."""
        return self.read(observations).flatten(1)

    def read(self, observations: Tensor) -> Tensor:
        """Return features (B, T, 2 width) of frames; T may differ from that of the space."""
        lengths = is_frame(observations).sum(dim=1).clamp_min(1)
        mixed = self._mix(observations[..., :-COLUMNS] * self.kinds**0.5)  # (B, T, width)
        mixed = torch.cat([mixed, 2 * observations[..., -COLUMNS:-1] - 1], dim=2)
        packed = pack_padded_sequence(mixed, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states: Tensor
        states, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=observations.shape[1]
        )
        return states

    def _mix(self, features: Tensor) -> Tensor:
        if self.join is not None:
            return torch.tanh(self.join(features))
        assert self.attend is not None
        parts = features.unflatten(2, (self.kinds, -1)).unbind(dim=2)
        values = torch.stack(
            [torch.tanh(layer(part)) for layer, part in zip(self.project, parts, strict=True)], dim=2
        )  # (B, T, kinds, width)
        return (self.attend(values).softmax(dim=2) * values).sum(dim=2)


def is_frame(observations: Tensor) -> Tensor:
    """Return which places of observations (B, T, F + 3) are frames and not padding, bool, (B, T)."""
    return observations[..., -1] > 0


class _ClipLatents(nn.Module):
    """Layers between features and heads, as SB3 wants them: the critic pools over the frames."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.width = width
        self.latent_dim_pi = width * places
        self.latent_dim_vf = 2 * width

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        return features

    def forward_critic(self, features: Tensor) -> Tensor:
        maps = features.unflatten(1, (-1, self.width))  # (B, T, width), 0 in padding
        count = (maps != 0).any(dim=2).sum(dim=1).clamp_min(1)
        return torch.cat([maps.sum(dim=1) / count[:, None], maps.amax(dim=1)], dim=1)


class _FrameHead(nn.Module):
    """One logit for each frame, by shared weights; padding is never kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.head = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.rate(features.unflatten(1, (-1, self.width)))

    def rate(self, maps: Tensor) -> Tensor:
        """Return logits (B, T) of features (B, T, width)."""
        return self.head(maps)[..., 0].masked_fill(~(maps != 0).any(dim=2), _NEVER)


class ClipPolicy(Restorable, ActorCriticPolicy):
    """Actor and critic for the features of a clip and one decision for each frame.

    The weights do not depend on the number of places: a policy that learned from clips of one length scores
    those of any other (`score`).

    Args:
        observation_space: float32 Box (T, F + 3): ``action="frames"`` of `usrl/VideoSummary-v0`.
        action_space: MultiBinary (T).
        lr_schedule: Learning rate by remaining progress.
        width: Units of the layers and of each direction of the LSTM.
        kinds: Kinds of features: 3, or 1 with ``latents`` of one network.
        attention: Whether kinds are weighed frame by frame, or joined by one layer.
        share_features_extractor: Whether actor and critic share the LSTM.
        optimizer_class: Of all weights.
        optimizer_kwargs: Its arguments except the learning rate.
        use_sde: Must be False. Decisions have no noise that could depend on the state.

    Raises:
        UserError: If the spaces are not those of a clip's frames, or an argument is out of range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        width: int = 64,
        kinds: int = 3,
        attention: bool = True,
        share_features_extractor: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        if use_sde:
            raise UserError("use_sde: ClipPolicy decides yes or no; leave it out")
        shape = observation_space.shape or ()
        if not isinstance(action_space, spaces.MultiBinary) or len(shape) != 2:
            raise UserError(
                "ClipPolicy takes features of frames (T, F + 3) and one decision for each frame, got "
                f"observations {shape} and actions {action_space}; set env.kwargs.action=frames and "
                "observation=features, or choose MlpPolicy"
            )
        self.width = width
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=ClipExtractor,
            features_extractor_kwargs={"width": width, "kinds": kinds, "attention": attention},
            share_features_extractor=share_features_extractor,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def rate(self, observations: Tensor) -> Tensor:
        """Return the logit of keeping each frame, float32, (B, T), of observations (B, T, F + 3)."""
        extractor = self.features_extractor if self.share_features_extractor else self.pi_features_extractor
        return self.action_net.rate(extractor.read(observations))  # type: ignore[operator]

    @torch.no_grad()
    def score(self, observations: Tensor) -> Tensor:
        """Return the probability of keeping each frame, float32, (B, T); padding has about 0."""
        return torch.sigmoid(self.rate(observations))

    def _build_mlp_extractor(self) -> None:
        places = self.observation_space.shape[0]  # type: ignore[index]
        self.mlp_extractor = _ClipLatents(2 * self.width, places)  # type: ignore[assignment]

    def _build(self, lr_schedule: Schedule) -> None:
        """Build the heads. SB3 would make them dense, with weights for each place of the clip."""
        self._build_mlp_extractor()
        self.action_net = _FrameHead(2 * self.width)
        self.value_net = nn.Linear(4 * self.width, 1)
        for layer in (self.action_net.head, self.value_net):
            nn.init.orthogonal_(layer.weight, gain=0.1)
            nn.init.zeros_(layer.bias)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

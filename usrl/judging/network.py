"""The judge: a network that sees a candidate mask and predicts its Dice."""

import numpy as np
import torch
from torch import Tensor, nn

from usrl.data.sample import FloatArray
from usrl.judging.evidence import FACTS, MAPS, Evidence

_BATCH = 128
_WIDTH = 32


class JudgeNetwork(nn.Module):
    """Expected Dice of a candidate, from a near view of it, a far view of the whole image, and facts.

    Each of the convolutions halves the side.
    """

    def __init__(self, channels: list[int], dropout: float) -> None:
        super().__init__()
        self.near, self.far = _tower(channels), _tower(channels)
        # The facts have units of their own: each is set to zero mean and unit variance first.
        self.facts = nn.Sequential(nn.BatchNorm1d(FACTS, affine=False), nn.Linear(FACTS, _WIDTH), nn.ReLU())
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * channels[-1] + _WIDTH, channels[-1]),
            nn.ReLU(),
            nn.Linear(channels[-1], 1),
        )

    def forward(self, evidence: Evidence) -> Tensor:
        """Return the logit of the expected Dice of B candidates, float32, (B,)."""
        seen = evidence.views.float() / 127.5 - 1
        features = [
            pooled
            for place, tower in enumerate((self.near, self.far))
            for maps in [tower(seen[:, place].contiguous(memory_format=torch.channels_last))]
            for pooled in (maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3)))
        ]
        logits: Tensor = self.head(torch.cat([*features, self.facts(evidence.facts)], dim=1))
        return logits[:, 0]


def _tower(channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for ins, outs in zip([MAPS, *channels], channels, strict=False):
        layers += [nn.Conv2d(ins, outs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]
    return nn.Sequential(*layers)


@torch.inference_mode()
def expect(network: nn.Module, evidence: Evidence, device: torch.device) -> FloatArray:
    """Return the expected Dice of C candidates, float32 in [0, 1], (C,)."""
    network.eval()
    parts = [
        torch.sigmoid(network(evidence.take(slice(first, first + _BATCH)).to(device))).cpu()
        for first in range(0, len(evidence), _BATCH)
    ]
    return np.asarray(torch.cat(parts).numpy() if parts else np.zeros(0), np.float32)

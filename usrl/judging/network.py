"""The judge: a network that looks at an image with a candidate mask and tells what Dice to expect."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usrl.data.letterbox import Letterbox
from usrl.data.sample import BoolMask, GrayImage
from usrl.geometry.boxes import boxes_of_masks, grow, sample_boxes

VIEW_PX = 64
"""Side of a view."""
MARGIN = 0.5
"""How much of the surroundings the near view shows on each side, as a share of the candidate's box."""
MAPS = 3
"""Maps of a view: the image, the probability of lesion, the candidate."""
_BATCH = 128


class JudgeNetwork(nn.Module):
    """Expected Dice of a candidate, from a near view of it and a far view of the whole image.

    Args:
        channels: Of the convolutions, each of which halves the side.
        dropout: Share of features that training leaves out.
    """

    def __init__(self, channels: list[int], dropout: float) -> None:
        super().__init__()
        self.near, self.far = _tower(channels), _tower(channels)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(4 * channels[-1], channels[-1]),
            nn.ReLU(),
            nn.Linear(channels[-1], 1),
        )

    def forward(self, views: Tensor) -> Tensor:
        """Return the logit of the expected Dice, (B,), of views uint8, (B, 2, 3, VIEW_PX, VIEW_PX)."""
        seen = views.float() / 127.5 - 1
        features = [
            pooled
            for place, tower in enumerate((self.near, self.far))
            for maps in [tower(seen[:, place].contiguous(memory_format=torch.channels_last))]
            for pooled in (maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3)))
        ]
        logits: Tensor = self.head(torch.cat(features, dim=1).float())
        return logits[:, 0]


def _tower(channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for ins, outs in zip([MAPS, *channels], channels, strict=False):
        layers += [nn.Conv2d(ins, outs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]
    return nn.Sequential(*layers)


def draw_views(
    image: GrayImage, probability: NDArray[np.float32], masks: list[BoolMask], size: int
) -> Tensor:
    """Return what the judge sees of candidates.

    Args:
        image: Native image, uint8, shape (H, W).
        probability: Probability of lesion, shape (H, W).
        masks: B candidates, bool, shape (H, W) each.
        size: Side S of the working image.

    Returns:
        uint8, (B, 2, 3, VIEW_PX, VIEW_PX): near and far; image, probability and candidate, 0 to 255.
    """
    if not masks:
        return torch.zeros((0, 2, MAPS, VIEW_PX, VIEW_PX), dtype=torch.uint8)
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), size)
    shared = [letterbox.image(image), letterbox.image(np.rint(255 * probability).astype(np.uint8))]
    working = torch.from_numpy(np.stack([letterbox.target(mask) for mask in masks]))  # (B, S, S)
    beneath = torch.from_numpy(np.stack(shared)).float().expand(len(masks), 2, size, size)
    maps = torch.cat([beneath, 255.0 * working[:, None]], dim=1)  # (B, 3, S, S)
    whole = torch.tensor([-0.5, -0.5, size - 0.5, size - 0.5]).expand(len(masks), 4)
    boxes = (grow(boxes_of_masks(working), MARGIN), whole)
    views = torch.stack([sample_boxes(maps, box, VIEW_PX) for box in boxes], dim=1)
    return views.round().to(torch.uint8)


@torch.inference_mode()
def expect(network: nn.Module, views: Tensor, device: torch.device) -> NDArray[np.float32]:
    """Return the expected Dice of views (B, 2, 3, VIEW_PX, VIEW_PX), float32 in [0, 1], (B,)."""
    network.eval()
    parts = [torch.sigmoid(network(part.to(device))).cpu() for part in views.split(_BATCH)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)

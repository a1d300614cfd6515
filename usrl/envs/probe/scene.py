"""The scene as one picture: the body from above, the probe on it, its force and its slice."""

import torch
from torch import Tensor
from torch.nn import functional as F

from usrl.data.bodies.volumes import HALF_MM

SCENE_PX = 96
"""Side of the picture."""
_SLICE_PX = 40
_FACE_MM = (24.0, 5.0)
"""Half the width and half the thickness of the probe from above."""
_SKIN, _PROBE, _BAR = (205.0, 160.0, 130.0), (40.0, 70.0, 160.0), (220.0, 40.0, 40.0)


def draw_scenes(pose: Tensor, force: Tensor, gray: Tensor) -> Tensor:
    """Return pictures of scenes, RGB, uint8, (B, 3, SCENE_PX, SCENE_PX).

    The skin fills the picture. The probe is a rectangle with a mark at one end, and its handle leans with
    tilt and roll. A bar on the left edge grows with the force. The slice is in the lower right corner.

    Args:
        pose: Poses, float32, (B, 5).
        force: Forces from 0 to 10 N, float32, (B,).
        gray: Slices, uint8, (B, S, S).
    """
    device = pose.device
    place = ((torch.arange(SCENE_PX, device=device) + 0.5) / SCENE_PX * 2 - 1) * HALF_MM
    # The top of a tilted probe is not above its face: 40 mm of handle lean over.
    lean = 40 * pose[:, 3:].sin()  # (B, 2): by tilt and roll
    cosine, sine = pose[:, 2].cos()[:, None, None], pose[:, 2].sin()[:, None, None]
    dx, dy = place - pose[:, 0, None, None], place[:, None] - pose[:, 1, None, None]  # (B, 1, W), (B, H, 1)
    across, along = cosine * dx + sine * dy, cosine * dy - sine * dx  # (B, H, W), in the probe's axes
    height = ((along * lean[:, :1, None] - across * lean[:, 1:, None]) / 400).clamp(-1, 1)
    is_probe = (across.abs() < _FACE_MM[0]) & (along.abs() < _FACE_MM[1])
    is_mark = is_probe & (across > _FACE_MM[0] - 8)
    handle = torch.hypot(across + lean[:, 1:, None], along - lean[:, :1, None]) < 6
    level = torch.arange(SCENE_PX, device=device).flip(0) < force[:, None] / 10 * SCENE_PX  # (B, H)
    channels = []  # each by itself: a tensor of colours would be copied to the device in every step
    for skin, probe, full in zip(_SKIN, _PROBE, _BAR, strict=True):
        channel = torch.where(is_probe, probe * (1 + height), skin)
        channel = torch.where(is_mark, 255.0, channel)
        channel = torch.where(handle, 20.0, channel)
        bar = torch.where(level[:, :, None], full, 60.0).expand(-1, -1, 4)
        channels.append(torch.cat([bar, channel[..., 4:]], dim=2))
    scene = torch.stack(channels, dim=1)
    small = F.interpolate(gray[:, None].float(), (_SLICE_PX, _SLICE_PX), mode="area").expand(-1, 3, -1, -1)
    kept = scene[:, :, :-_SLICE_PX], scene[:, :, -_SLICE_PX:, :-_SLICE_PX]
    low = torch.cat([kept[1], small], dim=3)
    return torch.cat([kept[0], low], dim=2).clamp(0, 255).to(torch.uint8)

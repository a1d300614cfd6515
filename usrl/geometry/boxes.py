"""Axis-aligned boxes (x0, y0, x1, y1) in pixels, with pixel centres at integers."""

import torch
from torch import Tensor


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the boxes around the pixels of masks (B, S, S), borders included, float32, (B, 4).

    An empty mask gives the whole image.
    """
    columns, rows = masks.any(dim=1).int(), masks.any(dim=2).int()  # (B, S)
    size = masks.shape[-1]
    low = torch.stack([columns.argmax(dim=1), rows.argmax(dim=1)], dim=1)
    high = torch.stack([columns.flip(1).argmax(dim=1), rows.flip(1).argmax(dim=1)], dim=1)
    return torch.cat([low - 0.5, size - 0.5 - high], dim=1).float()


def move_sides(boxes: Tensor, shares: Tensor) -> Tensor:
    """Return boxes whose sides have moved by shares (B, 4), below one half, of the box's width or height."""
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # (B, 4)
    return boxes + shares * extent


def follow_boxes(points: Tensor, boxes: Tensor, moved: Tensor) -> Tensor:
    """Return points (B, N, 2) that keep their places in boxes, with area, that have moved."""
    low, moved_low = boxes[:, None, :2], moved[:, None, :2]  # (B, 1, 2)
    return moved_low + (points - low) * (moved[:, None, 2:] - moved_low) / (boxes[:, None, 2:] - low)


def grow(boxes: Tensor, margin: float) -> Tensor:
    """Return boxes (B, 4) grown on every side by a share of their width or height."""
    outwards = torch.tensor([-margin, -margin, margin, margin], device=boxes.device)
    return move_sides(boxes, outwards.expand(len(boxes), 4))


def paint_boxes(boxes: Tensor, size: int) -> Tensor:
    """Return how much of each pixel lies inside each box, float32, (B, S, S)."""
    place = torch.arange(size, device=boxes.device)
    low = torch.maximum(place - 0.5, boxes[:, :2, None])  # (B, 2, S)
    high = torch.minimum(place + 0.5, boxes[:, 2:, None])
    covered = (high - low).clamp_min(0)
    return covered[:, 1, :, None] * covered[:, 0, None, :]


def sample_boxes(maps: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return what lies in the box of each map (B, C, H, W), stretched to a square.

    The samples (B, C, s, s) are bilinear and cover the box. They are zero outside the map.
    """
    height, width = maps.shape[-2:]
    extent = boxes.new_tensor([width, height])
    centre = (boxes[:, :2] + boxes[:, 2:] + 1) / extent - 1  # (B, 2), in [-1, 1] over the map
    half = (boxes[:, 2:] - boxes[:, :2]) / extent  # (B, 2)
    theta = torch.cat([torch.diag_embed(half), centre[..., None]], dim=2)  # (B, 2, 3)
    return _sample(maps, theta, (size, size))


def return_samples(samples: Tensor, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return samples of `sample_boxes` to where they came from, (B, C, H, W), zero outside the boxes."""
    extent = boxes.new_tensor([shape[1], shape[0]])
    scale = extent / (boxes[:, 2:] - boxes[:, :2])  # (B, 2)
    centre = (boxes[:, :2] + boxes[:, 2:] + 1) / extent - 1
    theta = torch.cat([torch.diag_embed(scale), (-centre * scale)[..., None]], dim=2)
    return _sample(samples, theta, shape)


def _sample(maps: Tensor, theta: Tensor, shape: tuple[int, int]) -> Tensor:
    batch, channels = maps.shape[:2]
    grid = torch.nn.functional.affine_grid(theta, [batch, channels, *shape], align_corners=False)
    return torch.nn.functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)

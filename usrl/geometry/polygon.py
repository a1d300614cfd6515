"""Closed polygons: normals, even spacing, validity, and polygons of masks and boxes.

Vertices are float tensors of shape (B, N, 2), (x, y) in pixels with pixel centres at integers, in
positive orientation: the shoelace area is positive.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import find_contours
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels

MAX_EDGE_RATIO = 2.0
"""A moved contour is respaced when its longest edge exceeds this many times the mean."""
MIN_EDGE_RATIO = 0.3
"""... or its shortest falls below this many times the mean."""


def neighbours(vertices: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return the vertices ``reach`` places before and after each one.

    Args:
        vertices: (B, N, 2).
        reach: Number of places, 1 to N.

    Returns:
        Previous and next vertices, both (B, N, 2); views of one tensor.
    """
    wrapped = torch.cat([vertices[:, -reach:], vertices, vertices[:, :reach]], dim=1)  # (B, N + 2 reach, 2)
    return wrapped[:, : -2 * reach], wrapped[:, 2 * reach :]


def outward_normals(vertices: Tensor) -> Tensor:
    """Return unit normals that point out of the polygon.

    The tangent is the chord between the second neighbours, so that one displaced vertex turns the normals
    beside it only a little.

    Args:
        vertices: (B, N, 2).

    Returns:
        Unit vectors (B, N, 2); zero where the chord has no length.
    """
    before, after = neighbours(vertices, kernels.NORMAL_REACH)
    chord = after - before  # (B, N, 2)
    normal = torch.stack([chord[..., 1], -chord[..., 0]], dim=-1)
    return normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True).clamp_min(1e-6)


def signed_area(vertices: Tensor) -> Tensor:
    """Return the shoelace area in square pixels, (B,), positive for positive orientation."""
    following = neighbours(vertices, 1)[1]
    cross = vertices[..., 0] * following[..., 1] - vertices[..., 1] * following[..., 0]
    return cross.sum(dim=1) / 2


def edge_lengths(vertices: Tensor) -> Tensor:
    """Return the length of the edge from each vertex to the next, (B, N), in pixels."""
    return torch.linalg.vector_norm(neighbours(vertices, 1)[1] - vertices, dim=-1)


def respace(vertices: Tensor) -> Tensor:
    """Return polygons with vertices at equal arc length, vertex 0 kept.

    Args:
        vertices: (B, N, 2).

    Returns:
        Polygons (B, N, 2) whose vertices lie on the edges of the given ones.
    """
    batch, count, _ = vertices.shape
    lengths = edge_lengths(vertices).clamp_min(1e-6)  # (B, N)
    ends = lengths.cumsum(dim=1)  # (B, N), arc length at the end of each edge
    steps = torch.arange(count, device=vertices.device) / count
    wanted = ends[:, -1:] * steps  # (B, N)
    edge = torch.searchsorted(ends, wanted, right=True).clamp_max(count - 1)  # (B, N)
    part = 1 - (ends.gather(1, edge) - wanted) / lengths.gather(1, edge)  # (B, N)
    index = edge[..., None].expand(batch, count, 2)
    start = vertices.gather(1, index)
    end = neighbours(vertices, 1)[1].gather(1, index)
    return torch.lerp(start, end, part[..., None])


def displace(vertices: Tensor, displacement: Tensor, limit: float) -> Tensor:
    """Return polygons whose vertices have moved along their outward normals.

    A polygon whose vertices have bunched is spaced evenly again; one that does not move stays exactly as
    it is.

    Args:
        vertices: (B, N, 2).
        displacement: Outward moves in pixels, (B, N).
        limit: Largest coordinate; the smallest is 0.

    Returns:
        Polygons (B, N, 2).
    """
    if is_compiled_for(vertices):
        moved = kernels.displace(
            vertices.numpy(), displacement.numpy(), np.float32(limit), MIN_EDGE_RATIO, MAX_EDGE_RATIO
        )
        return torch.from_numpy(moved)
    normals = outward_normals(vertices)
    placed = torch.addcmul(vertices, normals, displacement[..., None]).clamp_(0, limit)
    lengths = edge_lengths(placed)  # (B, N)
    mean = lengths.mean(dim=1)
    uneven = (lengths.amax(dim=1) > MAX_EDGE_RATIO * mean) | (lengths.amin(dim=1) < MIN_EDGE_RATIO * mean)
    placed = torch.where(uneven[:, None, None], respace(placed), placed)
    return torch.where(displacement.any(dim=1)[:, None, None], placed, vertices)


def is_valid(vertices: Tensor) -> Tensor:
    """Return whether each polygon is simple, no two edges crossing, and positively oriented.

    A move by more than half a contour's width can turn it inside out without a crossing.

    Args:
        vertices: (B, N, 2).

    Returns:
        bool, (B,).
    """
    if is_compiled_for(vertices):
        return torch.from_numpy(kernels.is_valid(vertices.numpy()))
    return (signed_area(vertices) > 0) & ~_has_crossing(vertices)


def _has_crossing(vertices: Tensor) -> Tensor:
    """Return whether some pair of edges crosses, bool, (B,).

    Two edges cross when each one's line separates the other's ends; the side of every vertex from
    every line is one batched product. For edges on one line the side is a matter of rounding, so their
    boxes must meet too.
    """
    following = neighbours(vertices, 1)[1]
    edge = following - vertices  # (B, N, 2)
    low, high = torch.minimum(vertices, following), torch.maximum(vertices, following)  # (B, N, 2)
    low_x, low_y = low[:, :, None].unbind(dim=-1)  # (B, N, 1)
    high_x, high_y = high[:, None].unbind(dim=-1)  # (B, 1, N)
    meets = (low_x <= high_x) & (low_y <= high_y)  # (B, edge, edge)
    across = torch.stack([-edge[..., 1], edge[..., 0]], dim=-1)  # (B, N, 2), normal to each edge
    offset = (across * vertices).sum(dim=-1, keepdim=True)  # (B, N, 1)
    side = torch.baddbmm(offset, across, vertices.transpose(1, 2), beta=-1) > 0  # (B, edge, vertex)
    separated = side ^ torch.cat([side[..., 1:], side[..., :1]], dim=-1)  # (B, edge, edge)
    cuts = separated & meets
    crossing = cuts & cuts.transpose(1, 2) & _apart(vertices.shape[1], vertices.device)
    return crossing.flatten(1).any(dim=1)


def _apart(count: int, device: torch.device) -> Tensor:
    """Return which edges share no vertex, (N, N): those that do touch and never cross."""
    place = torch.arange(count, device=device)
    gap = (place[:, None] - place[None, :]) % count
    return (gap > 1) & (gap < count - 1)


def ellipse_in_box(boxes: Tensor, count: int) -> Tensor:
    """Return the ellipses inscribed in boxes.

    Args:
        boxes: (B, 4), (x0, y0, x1, y1) in pixels.
        count: Number of vertices N.

    Returns:
        Polygons (B, N, 2); vertex 0 is the rightmost point.
    """
    angle = torch.arange(count, device=boxes.device) * (2 * math.pi / count)  # (N,)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (N, 2)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (B, 1, 2)
    return (low + high) / 2 + circle * (high - low) / 2


def mirror_polygons(vertices: Tensor, width: int) -> Tensor:
    """Return the polygons as an image that is mirrored left to right shows them.

    Args:
        vertices: (B, N, 2).
        width: Of the image, px.

    Returns:
        Polygons (B, N, 2) in positive orientation; vertex 0 is the rightmost point.
    """
    mirrored = vertices.flip(1) * vertices.new_tensor([-1, 1]) + vertices.new_tensor([width - 1, 0])
    count = vertices.shape[1]
    first = mirrored[..., 0].argmax(dim=1, keepdim=True)  # (B, 1)
    order = (first + torch.arange(count, device=vertices.device)) % count  # (B, N)
    return mirrored.gather(1, order[..., None].expand_as(mirrored))


def polygon_of_mask(mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """Return the longest outline of a mask as an evenly spaced polygon.

    Args:
        mask: bool, (H, W), not empty.
        count: Number of vertices N.

    Returns:
        Vertices float32 (N, 2) in positive orientation; vertex 0 is the rightmost point.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    outline = max(find_contours(padded, 0.5), key=len)[:-1, ::-1] - 1.0  # (P, 2), (x, y), open
    outline = np.roll(outline, -int(outline[:, 0].argmax()), axis=0)
    x, y = outline.T
    if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0:
        outline = np.roll(outline[::-1], 1, axis=0)
    closed = np.concatenate([outline, outline[:1]])
    arc = np.concatenate([[0.0], np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()])
    wanted = np.arange(count) * arc[-1] / count
    return np.stack([np.interp(wanted, arc, closed[:, i]) for i in (0, 1)], axis=1).astype(np.float32)

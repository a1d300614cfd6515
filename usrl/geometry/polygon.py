"""Closed polygons: normals, even spacing, validity, and polygons of masks and boxes.

Vertices are float tensors (B, N, 2): (x, y) in pixels with pixel centres at integers, in positive
orientation, which means that the shoelace area is positive.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import find_contours
from torch import Tensor

from usrl.compute.compiled import is_compiled_for
from usrl.geometry import kernels


def neighbours(vertices: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return the vertices 1 to N places before and after each one, both (B, N, 2), views of one tensor."""
    wrapped = torch.cat([vertices[:, -reach:], vertices, vertices[:, :reach]], dim=1)  # (B, N + 2 reach, 2)
    return wrapped[:, : -2 * reach], wrapped[:, 2 * reach :]


def outward_normals(vertices: Tensor) -> Tensor:
    """Return unit normals (B, N, 2) that point out of the polygons; zero if the chord has no length.

    The tangent is the chord between the second neighbours, so that one displaced vertex turns the normals
    next to it only a little.
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
    """Return polygons with vertices at equal arc length on the edges of the given ones, vertex 0 kept."""
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
    """Return polygons whose vertices have moved along their outward normals by pixels (B, N).

    Vertices are clamped to 0 and ``limit``. A polygon whose vertices have bunched is spaced evenly again. One
    that does not move stays exactly as it is.
    """
    normals = outward_normals(vertices)
    placed = torch.addcmul(vertices, normals, displacement[..., None]).clamp_(0, limit)
    lengths = edge_lengths(placed)  # (B, N)
    mean = lengths.mean(dim=1)
    uneven = lengths.amax(dim=1) > kernels.MAX_EDGE_RATIO * mean
    uneven |= lengths.amin(dim=1) < kernels.MIN_EDGE_RATIO * mean
    placed = torch.where(uneven[:, None, None], respace(placed), placed)
    return torch.where(displacement.any(dim=1)[:, None, None], placed, vertices)


def is_valid(vertices: Tensor) -> Tensor:
    """Return which polygons have no crossing edges and positive orientation, bool, (B,).

    A move by more than half a contour's width can turn it inside out without a crossing.
    """
    if is_compiled_for(vertices):
        return torch.from_numpy(kernels.is_valid(vertices.numpy()))
    return (signed_area(vertices) > 0) & ~_has_crossing(vertices)


def _has_crossing(vertices: Tensor) -> Tensor:
    """Return which polygons have a pair of crossing edges, bool, (B,).

    Two edges cross if each one's line separates the other's ends. One batched product gives the side of
    every vertex from every line. For edges on one line rounding decides the side, so their boxes must meet
    too.
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
    place = torch.arange(vertices.shape[1], device=vertices.device)
    gap = (place[:, None] - place[None, :]) % len(place)
    is_apart = (gap > 1) & (gap < len(place) - 1)  # edges that share a vertex touch and never cross
    return (cuts & cuts.transpose(1, 2) & is_apart).flatten(1).any(dim=1)


def ellipse_in_box(boxes: Tensor, count: int) -> Tensor:
    """Return the ellipses inscribed in boxes (B, 4), as polygons (B, N, 2) whose vertex 0 is rightmost."""
    angle = torch.arange(count, device=boxes.device) * (2 * math.pi / count)  # (N,)
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)  # (N, 2)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (B, 1, 2)
    return (low + high) / 2 + circle * (high - low) / 2


def mirror_polygons(vertices: Tensor, width: int) -> Tensor:
    """Return polygons as they appear in the image of ``width`` pixels after a left-right flip.

    They are in positive orientation again, and vertex 0 is the rightmost point.
    """
    mirrored = vertices.flip(1) * vertices.new_tensor([-1, 1]) + vertices.new_tensor([width - 1, 0])
    count = vertices.shape[1]
    first = mirrored[..., 0].argmax(dim=1, keepdim=True)  # (B, 1)
    order = (first + torch.arange(count, device=vertices.device)) % count  # (B, N)
    return mirrored.gather(1, order[..., None].expand_as(mirrored))


def polygon_of_mask(mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """Return the longest outline of a mask, bool (H, W) and not empty, as an evenly spaced polygon (N, 2).

    It is in positive orientation, and vertex 0 is the rightmost point.
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

"""Where a simulated user looks, and what the user marks there: pure functions of distances and a key.

A user compares a segmentation with a border. Both are given as signed distances, negative inside. Of the
places that are wrong, how deep one lies in its error is its distance from the nearest right place, and the
deepest place is the centre of the largest error. So clicks are those of RITM's user.

Not every user is perfect. RClicks found that perfect clicks flatter methods. So a user may miss the place by
some pixels, choose the second largest error, not see small ones, and have a border of their own, as readers
have.

Sources:
    Sofiiuk, Petrov, Konushin (2022), Reviving iterative training with mask guidance, ICIP, arXiv:2102.06583.
    Antonov et al. (2024), RClicks: realistic click simulation for benchmarking interactive segmentation,
    NeurIPS, arXiv:2410.11722.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from usrl.compute.rng import mix, uniform
from usrl.errors import UserError, suggest

_OWN_BORDER = 0x0B0D
"""Keeps the draws of a user's own border apart from those of an episode's start."""
_HARMONICS = 5
"""A reader's border differs from another's in waves of up to so many around a lesion."""
_BORDER_PX = 1.0
"""Pixels up to this distance from the border are candidates for a point on it."""


@dataclass(frozen=True)
class User:
    """How a user looks and marks.

    Attributes:
        name: Name of the user.
        jitter: Standard deviation of a mark, along x and y, as a share of the image's longer side.
        second: Probability of marking the second largest error.
        unseen: Depth below which an error is not seen, as a share of the image's longer side.
        border: How far the user's own border lies from the target's, root mean square, as a share of the
            target's equivalent radius.
    """

    name: str
    jitter: float = 0.0
    second: float = 0.0
    unseen: float = 0.0
    border: float = 0.0


USERS = {
    user.name: user
    for user in (
        User("centre"),
        User("person", jitter=0.006, second=0.2, unseen=0.004, border=0.03),
        User("careless", jitter=0.012, second=0.4, unseen=0.01, border=0.05),
    )
}
"""Users by name. 0.006 of a side is 3 pixels of 500."""


def find_user(name: str) -> User:
    """Return the user of a name; an unknown one is refused, and the nearest is suggested."""
    if name not in USERS:
        raise UserError(f"unknown user {name!r}; {suggest(name, USERS)}")
    return USERS[name]


@dataclass(frozen=True)
class Look:
    """What users see in segmentations, and what they would mark.

    Attributes:
        border: The point of the border that is nearest to the centre of an error, float32, (B, 2), (x, y).
        centre: The centre of that error, for a click, float32, (B, 2).
        is_missing: Whether the error is a missing part of the lesion, else one too many, bool, (B,).
        iou: Overlap with the user's own border, float32, (B,).
        sees_error: Whether the user sees anything wrong, bool, (B,).
    """

    border: Tensor
    centre: Tensor
    is_missing: Tensor
    iou: Tensor
    sees_error: Tensor


def draw_border(user: User, target: Tensor, keys: Tensor) -> Tensor:
    """Return the signed distances from users' own borders, float32, (B, H, W).

    The border is the target's, moved in and out by a smooth wave around its centre, the same in a whole
    episode.

    Args:
        user: Whose border it is.
        target: Signed distances from the target's border, float32, (B, H, W).
        keys: Of the episodes, int64, (B,).
    """
    if not user.border:
        return target
    height, width = target.shape[1:]
    inside = target < 0
    area = inside.flatten(1).sum(dim=1).clamp_min(1)  # (B,)
    # Whole numbers have exact sums, so that a row does not depend on the batch.
    columns, rows = (torch.arange(side, device=target.device) for side in (width, height))
    middle_x = (inside.sum(dim=1) * columns).sum(dim=1) / area  # (B,)
    middle_y = (inside.sum(dim=2) * rows).sum(dim=1) / area
    x = (columns - middle_x[:, None])[:, None]  # (B, 1, W)
    y = (rows - middle_y[:, None])[..., None]  # (B, H, 1)
    away = torch.sqrt(x * x + y * y).clamp_min(1e-3)  # (B, H, W)
    cos, sin = x / away, y / away
    draws = 2 * uniform(mix(keys + _OWN_BORDER), 2 * _HARMONICS + 1) - 1  # (B, 11), of variance 1/3
    weights = draws[..., None, None]
    wave = weights[:, 0].expand_as(away)
    wave_cos, wave_sin = cos, sin
    for order in range(_HARMONICS):
        wave = wave + weights[:, 2 * order + 1] * wave_cos + weights[:, 2 * order + 2] * wave_sin
        wave_cos, wave_sin = wave_cos * cos - wave_sin * sin, wave_sin * cos + wave_cos * sin
    # The variance of the wave is (1 + number of harmonics) / 3.
    scale = user.border * torch.sqrt(area / torch.pi) / (((1 + _HARMONICS) / 3) ** 0.5)  # (B,)
    return target + scale[:, None, None] * wave


def look(user: User, seen: Tensor, border: Tensor, keys: Tensor, side: int | None = None) -> Look:
    """Return what users see in segmentations and would mark.

    Args:
        user: Who looks.
        seen: Signed distances from the segmentation's border, float32, (B, H, W).
        border: Signed distances from the user's own border, float32, (B, H, W); see `draw_border`.
        keys: Of this look, int64, (B,).
        side: Longer side of the image, in pixels, if the distances are of a part of it. Then marks may lie
            outside of that part.
    """
    is_whole = side is None
    side = max(seen.shape[1:]) if side is None else side
    has, wants = seen < 0, border < 0  # (B, H, W)
    overlap, union = (part.flatten(1).sum(dim=1) for part in (has & wants, has | wants))  # (B,)
    depth = torch.where(has ^ wants, torch.minimum(seen.abs(), border.abs()), 0.0)
    draws = uniform(keys, 9)  # (B, 9)
    deepest, place = depth.flatten(1).max(dim=1)  # (B,)
    if user.second:
        # The second error is elsewhere: further from the first than the lesion's radius.
        radius = torch.sqrt(wants.flatten(1).sum(dim=1) / torch.pi)  # (B,)
        far = _squared_distance(place, seen.shape) > (radius * radius)[:, None, None]
        other, other_place = torch.where(far, depth, 0.0).flatten(1).max(dim=1)
        takes_other = (draws[:, 8] < user.second) & (other > user.unseen * side)
        place = torch.where(takes_other, other_place, place)
    nearest = _nearest_border(place, border)
    centre = _as_point(place, seen.shape)
    if user.jitter:
        # The sum of four uniform numbers is nearly normal, here with variance 1.
        normal = ((draws[:, :2] + draws[:, 2:4]) + (draws[:, 4:6] + draws[:, 6:8]) - 2) * 3**0.5  # (B, 2)
        shift = normal * (user.jitter * side)
        nearest, centre = nearest + shift, centre + shift
    if is_whole:
        limit = seen.new_tensor([seen.shape[2] - 1, seen.shape[1] - 1])
        nearest, centre = (marks.clamp_min(0).minimum(limit) for marks in (nearest, centre))
    return Look(
        border=nearest,
        centre=centre,
        is_missing=wants.flatten(1).gather(1, place[:, None]).squeeze(1),
        iou=overlap / union.clamp_min(1),
        sees_error=deepest > user.unseen * side,
    )


def _as_point(place: Tensor, shape: torch.Size) -> Tensor:
    """Return the pixels (B,) of flattened maps (B, H, W) as points (x, y), float32, (B, 2)."""
    return torch.stack([place % shape[2], place // shape[2]], dim=1).float()


def _squared_distance(place: Tensor, shape: torch.Size) -> Tensor:
    """Return the squared distance of every pixel from one of each map, int64, (B, H, W)."""
    columns, rows = (torch.arange(shape[axis], device=place.device) for axis in (2, 1))
    x = columns - (place % shape[2])[:, None]  # (B, W)
    y = rows - (place // shape[2])[:, None]  # (B, H)
    return (x * x)[:, None] + (y * y)[..., None]


def _nearest_border(place: Tensor, border: Tensor) -> Tensor:
    """Return the points of borders that are nearest to pixels (B,), to a part of a pixel, (B, 2).

    Without a border it is the pixel.
    """
    squared = _squared_distance(place, border.shape)
    is_near = border.abs() <= _BORDER_PX
    far = torch.iinfo(torch.int64).max
    least, found = torch.where(is_near, squared, far).flatten(1).min(dim=1)
    found = torch.where(least < far, found, place)
    height, width = border.shape[1:]
    x, y = found % width, found // width
    flat = border.flatten(1)

    def read(column: Tensor, row: Tensor) -> Tensor:
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return flat.gather(1, index[:, None]).squeeze(1)

    slope_x, slope_y = (read(x + 1, y) - read(x - 1, y)) / 2, (read(x, y + 1) - read(x, y - 1)) / 2
    steep = slope_x * slope_x + slope_y * slope_y
    # Where the border is a ridge the slope says nothing.
    step = torch.where((steep > 0.25) & (least < far), read(x, y) / steep.clamp_min(0.25), 0.0)
    return torch.stack([x - step * slope_x, y - step * slope_y], dim=1)

"""Profiles: the finer grid, and where a contour began."""

import torch

from usrl.geometry.polygon import ellipse_in_box
from usrl.geometry.sampling import profile_atlas, sample_profiles

OFFSETS = torch.arange(40) - 19.5
ATLAS = profile_atlas(torch.zeros(1, 100, 100, dtype=torch.uint8))


def circle(radius: float) -> torch.Tensor:
    return ellipse_in_box(torch.tensor([[50 - radius, 50 - radius, 50 + radius, 50 + radius]]), 64)


def start_profiles(vertices: torch.Tensor, start: torch.Tensor, unit: float = 1.0) -> torch.Tensor:
    units = torch.full((len(vertices), 1), unit)
    return sample_profiles(ATLAS, torch.zeros(1).long(), vertices, OFFSETS, units, 100, start)[:, 3]


def test_on_the_start_a_profile_is_the_same_ramp_everywhere() -> None:
    seen = start_profiles(circle(20), circle(20))[0]
    assert seen.shape == (64, 40)
    assert seen.dtype == torch.uint8
    assert (seen == seen[0]).all()
    assert seen[0, 19] < 127.5 < seen[0, 20]


def test_a_contour_that_grew_sees_its_start_inwards() -> None:
    start = circle(20)
    seen = start_profiles(circle(25), start).int()
    plain = start_profiles(start, start).int()
    assert ((seen[..., :35] - plain[..., 5:]).abs() <= 2).all()  # five places further in


def test_distances_count_in_units() -> None:
    double = start_profiles(circle(50), circle(40), unit=2.0).int()
    single = start_profiles(circle(25), circle(20)).int()
    assert ((double - single).abs() <= 1).all()


def test_far_away_the_ramp_ends() -> None:
    assert (start_profiles(circle(45), circle(4)) == 255).float().mean() > 0.9


def test_the_finer_grid_is_the_largest_multiple_up_to_256_or_the_image_itself() -> None:
    sides = [
        profile_atlas(torch.zeros(1, side, side, dtype=torch.uint8)).shape[-1] for side in (64, 100, 300)
    ]
    assert sides == [256, 200, 300]

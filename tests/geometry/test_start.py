"""Where a contour began, seen from its profiles."""

import torch

from usrl.geometry.polygon import ellipse_in_box
from usrl.geometry.start import start_profiles

OFFSETS = torch.arange(40) - 19.5


def circle(radius: float) -> torch.Tensor:
    return ellipse_in_box(torch.tensor([[50 - radius, 50 - radius, 50 + radius, 50 + radius]]), 64)


def test_on_the_start_a_profile_is_the_same_ramp_everywhere() -> None:
    seen = start_profiles(circle(20), circle(20), torch.ones(1, 1), OFFSETS)[0]
    assert seen.shape == (64, 40)
    assert seen.dtype == torch.uint8
    assert (seen == seen[0]).all()
    assert seen[0, 19] < 127.5 < seen[0, 20]


def test_a_contour_that_grew_sees_its_start_inwards() -> None:
    start = circle(20)
    seen = start_profiles(circle(25), start, torch.ones(1, 1), OFFSETS).int()
    plain = start_profiles(start, start, torch.ones(1, 1), OFFSETS).int()
    assert ((seen[..., :35] - plain[..., 5:]).abs() <= 2).all()  # five places further in


def test_distances_count_in_units() -> None:
    double = start_profiles(circle(50), circle(40), torch.full((1, 1), 2.0), OFFSETS).int()
    single = start_profiles(circle(25), circle(20), torch.ones(1, 1), OFFSETS).int()
    assert ((double - single).abs() <= 1).all()


def test_far_away_the_ramp_ends() -> None:
    assert (start_profiles(circle(45), circle(4), torch.ones(1, 1), OFFSETS) == 255).float().mean() > 0.9

"""Profiles: the finer grid, and where a contour began."""

import pytest
import torch

from usrl.geometry import sampling
from usrl.geometry.polygon import ellipse_in_box
from usrl.geometry.sampling import ProfileAtlas, sample_profiles

OFFSETS = torch.arange(40) - 19.5


def atlas_of(*images: torch.Tensor, rows: tuple[int, ...] = (0,)) -> ProfileAtlas:
    return ProfileAtlas.of(torch.stack(images), torch.tensor(rows))


ATLAS = atlas_of(torch.zeros(100, 100, dtype=torch.uint8))


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
    images = [torch.zeros(side, side, dtype=torch.uint8) for side in (64, 100, 300)]
    sides = [atlas_of(image).cells.shape[-1] for image in images]
    assert sides == [256, 200, 300]


def test_rows_of_one_image_see_that_image(monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = atlas_of(*(torch.full((100, 100), level, dtype=torch.uint8) for level in (7, 90)), rows=(1, 0, 1))
    seen = []
    for is_compiled in (True, False):
        monkeypatch.setattr(sampling, "is_compiled_for", lambda tensor, answer=is_compiled: answer)
        units, index = torch.ones(3, 1), torch.tensor([0, 1, 2])
        seen.append(
            sample_profiles(atlas, index, circle(20).expand(3, -1, -1).contiguous(), OFFSETS, units, 100)
        )
    assert [int(row[0].unique()) for row in seen[0]] == [90, 7, 90]
    assert torch.equal(*seen)

"""What points on the border say to vertices."""

import math

import pytest
import torch

from usrl.geometry.guides import falloff, find_feet, find_guides
from usrl.geometry.polygon import ellipse_in_box

CIRCLE = ellipse_in_box(torch.tensor([[10.0, 10.0, 50.0, 50.0]]), 64)  # radius 20 around (30, 30)


def guide(*points: tuple[float, float], count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    given = torch.tensor([points])
    guides = find_guides(CIRCLE, given, torch.tensor([len(points) if count is None else count]))
    return guides.offset[0], guides.gap[0]


def test_a_point_belongs_to_the_nearest_vertex() -> None:
    points = torch.tensor([[[60.0, 30.0], [30.0, 60.0], [30.0, 0.0]]])
    assert find_feet(CIRCLE, points).tolist() == [[0, 16, 48]]


@pytest.mark.parametrize(("x", "offset"), [(55.0, 5.0), (50.0, 0.0), (47.0, -3.0)])
def test_the_offset_is_how_far_outside_the_contour_the_point_lies(x: float, offset: float) -> None:
    offsets, _ = guide((x, 30.0))
    assert torch.allclose(offsets, torch.full((64,), offset), atol=1e-4)


def test_the_gap_counts_vertices_both_ways_around() -> None:
    _, gap = guide((60.0, 30.0))
    assert gap.tolist() == [min(i, 64 - i) for i in range(64)]


def test_each_vertex_listens_to_its_nearest_point_and_of_equals_to_the_newest() -> None:
    offsets, gap = guide((55.0, 30.0), (5.0, 30.0), (48.0, 30.0))  # right, left, right again
    assert offsets[0] == pytest.approx(-2.0, abs=1e-4)
    assert offsets[32] == pytest.approx(5.0, abs=1e-4)
    assert int(gap.max()) == 16


def test_points_beyond_the_count_mean_nothing() -> None:
    offsets, gap = guide((55.0, 30.0), (5.0, 30.0), count=0)
    assert (offsets == 0).all()
    assert (gap == 64).all()


def test_sureness_is_a_gaussian_along_the_contour_and_zero_without_a_point() -> None:
    sure = falloff(0.125, 64, torch.device("cpu"))
    assert sure[0] == 1
    assert sure[8] == pytest.approx(math.exp(-0.5))
    assert sure[64] == 0


def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    vertices = CIRCLE + 3 * torch.rand(33, 64, 2, generator=generator)
    points, counts = 60 * torch.rand(33, 7, 2, generator=generator), torch.arange(33) % 8
    together = find_guides(vertices, points, counts)
    for row in range(33):
        alone = find_guides(vertices[row : row + 1], points[row : row + 1], counts[row : row + 1])
        assert torch.equal(alone.offset[0], together.offset[row])
        assert torch.equal(alone.gap[0], together.gap[row])

"""Polygon geometry against shapes whose answers are known."""

import math

import numpy as np
import pytest
import torch

from usrl.geometry.area import rasterise
from usrl.geometry.polygon import (
    displace,
    edge_lengths,
    ellipse_in_box,
    is_valid,
    mirror_polygons,
    outward_normals,
    polygon_of_mask,
    respace,
    signed_area,
)


def circle(radius: float = 20.0, count: int = 64) -> torch.Tensor:
    box = torch.tensor([[50.0 - radius, 60.0 - radius, 50.0 + radius, 60.0 + radius]])
    return ellipse_in_box(box, count)


def test_ellipse_fills_its_box_in_positive_orientation() -> None:
    vertices = ellipse_in_box(torch.tensor([[10.0, 20.0, 50.0, 40.0]]), 400)
    assert vertices.amin(dim=1).tolist()[0] == pytest.approx([10, 20], abs=1e-3)
    assert vertices.amax(dim=1).tolist()[0] == pytest.approx([50, 40], abs=1e-3)
    assert float(signed_area(vertices)) == pytest.approx(math.pi * 20 * 10, rel=1e-3)


def test_a_mirrored_ellipse_is_that_of_the_mirrored_box() -> None:
    mirrored = mirror_polygons(ellipse_in_box(torch.tensor([[10.0, 20.0, 50.0, 40.0]]), 64), 100)
    assert torch.allclose(mirrored, ellipse_in_box(torch.tensor([[49.0, 20.0, 89.0, 40.0]]), 64), atol=1e-3)


def test_mirroring_mirrors_masks_and_keeps_the_orientation() -> None:
    triangle = torch.tensor([[[7.3, 2.2], [12.6, 11.9], [1.1, 8.4]]])
    mirrored = mirror_polygons(triangle, 16)
    assert float(signed_area(mirrored)) == pytest.approx(float(signed_area(triangle)))
    assert float(signed_area(triangle)) > 0
    assert (rasterise(mirrored, 16, 16).flip(-1) == rasterise(triangle, 16, 16)).all()
    assert mirrored[0, 0].tolist() == pytest.approx([15 - 1.1, 8.4])
    again = mirror_polygons(mirrored, 16)[0]
    assert torch.allclose(again, triangle[0].roll(-1, 0))


def test_normals_of_a_circle_point_away_from_its_centre() -> None:
    vertices = circle()
    radial = (vertices - torch.tensor([50.0, 60.0])) / 20
    assert torch.allclose(outward_normals(vertices), radial, atol=1e-4)


def test_respacing_makes_edges_equal_and_keeps_the_first_vertex() -> None:
    angle = 2 * math.pi * (torch.arange(64) / 64) ** 1.5
    crowded = 50 + 20 * torch.stack([angle.cos(), angle.sin()], dim=-1)[None]
    even = respace(crowded)
    lengths = edge_lengths(even)
    assert float(lengths.std() / lengths.mean()) < 0.02
    assert torch.allclose(even[:, 0], crowded[:, 0])


def test_respacing_an_even_polygon_changes_nothing() -> None:
    assert torch.allclose(respace(circle()), circle(), atol=1e-3)


def test_a_circle_that_moves_outwards_everywhere_is_a_larger_circle() -> None:
    moved = displace(circle(20.0), torch.full((1, 64), 3.0), limit=127)
    assert torch.allclose(moved, circle(23.0), atol=1e-3)


def test_a_contour_that_does_not_move_is_kept_to_the_bit_however_uneven() -> None:
    angle = 2 * math.pi * (torch.arange(64) / 64) ** 2
    crowded = 50 + 20 * torch.stack([angle.cos(), angle.sin()], dim=-1)[None]
    still, nudged = torch.zeros(1, 64), torch.full((1, 64), 1e-3)
    assert torch.equal(displace(crowded, still, limit=127), crowded)
    lengths = edge_lengths(displace(crowded, nudged, limit=127))
    assert float(lengths.std() / lengths.mean()) < 0.02  # bunched, and hence spaced again once it moves


def test_a_contour_stays_within_the_image() -> None:
    moved = displace(circle(40.0), torch.full((1, 64), 30.0), limit=99)
    assert float(moved.min()) == 0
    assert float(moved.max()) == 99


def test_a_circle_is_valid_and_a_figure_of_eight_or_one_inside_out_is_not() -> None:
    angle = 2 * math.pi * torch.arange(64) / 64
    eight = 50 + 20 * torch.stack([angle.sin(), (2 * angle + 0.05).sin()], dim=-1)[None]
    inside_out = circle().flip(1)
    assert is_valid(torch.cat([circle(), eight, inside_out])).tolist() == [True, False, False]


def test_is_valid_agrees_with_a_pairwise_intersection_test_and_the_area() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(200, 16, 2, generator=generator) * torch.linspace(0, 40, 200)[:, None, None]
    polygons = circle(count=16) + noise
    polygons[::5] = polygons[::5].flip(1)
    is_positive = (signed_area(polygons) > 0).tolist()
    crosses_nowhere = [is_simple_pairwise(polygon) for polygon in polygons.double().numpy()]
    expected = [all(each) for each in zip(is_positive, crosses_nowhere, strict=True)]
    assert is_valid(polygons).tolist() == expected
    assert 20 < sum(expected) < 180  # both kinds occur


def is_simple_pairwise(polygon: np.ndarray) -> bool:
    count = len(polygon)

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
        return bool((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0)

    for i in range(count):
        a, b = polygon[i], polygon[(i + 1) % count]
        for j in range(i + 2, count - (i == 0)):
            c, d = polygon[j], polygon[(j + 1) % count]
            if side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b):
                return False
    return True


def test_polygon_of_a_disc_has_its_area_and_starts_at_the_right() -> None:
    rows, columns = np.mgrid[:100, :100]
    disc = (columns - 40) ** 2 + (rows - 50) ** 2 <= 20**2
    polygon = polygon_of_mask(disc, 64)
    assert polygon.dtype == np.float32
    assert float(signed_area(torch.from_numpy(polygon)[None])) == pytest.approx(disc.sum(), rel=0.01)
    assert polygon[0, 0] == pytest.approx(60.5, abs=0.1)


def test_polygon_of_a_mask_that_touches_the_border_is_closed() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10] = True
    area = float(signed_area(torch.from_numpy(polygon_of_mask(mask, 200))[None]))
    assert area == pytest.approx(200, rel=0.02)

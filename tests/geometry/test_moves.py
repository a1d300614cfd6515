"""Moves that keep a polygon valid."""

import pytest
import torch

from usrl.geometry.moves import keep_inside, move_simply, smoothing_matrices
from usrl.geometry.polygon import displace, ellipse_in_box, is_valid, signed_area

CIRCLE = ellipse_in_box(torch.tensor([[20.0, 20.0, 60.0, 60.0]]), 32)
SMOOTHINGS = smoothing_matrices(32, torch.device("cpu"))


def test_smoothing_keeps_what_is_constant_and_spreads_a_peak_evenly_to_both_sides() -> None:
    for smoothing, sigma in zip(SMOOTHINGS, (2.0, 4.0), strict=True):
        torch.testing.assert_close(torch.ones(32) @ smoothing, torch.ones(32))
        spread = torch.eye(32)[0] @ smoothing
        torch.testing.assert_close(spread[1:], spread[1:].flip(0))
        torch.testing.assert_close(spread[3] / spread[0], torch.tensor(-0.5 * (3 / sigma) ** 2).exp())


def test_a_move_that_crosses_nothing_is_made_as_asked_for() -> None:
    outward = torch.full((1, 32), 3.0)
    moved = move_simply(CIRCLE, outward, SMOOTHINGS, 100)
    torch.testing.assert_close(moved, displace(CIRCLE, outward, 100))
    radius = torch.linalg.vector_norm(moved - 40, dim=-1)
    torch.testing.assert_close(radius, torch.full((1, 32), 23.0))


def test_a_move_that_would_cross_is_smoothed_and_one_next_to_it_is_not() -> None:
    through = torch.zeros(32)
    through[::2] = -60.0  # every second vertex beyond the centre
    both = CIRCLE.expand(2, -1, -1)
    asked = torch.stack([through, torch.full((32,), 3.0)])
    assert is_valid(displace(both, asked, 100)).tolist() == [False, True]
    moved = move_simply(both, asked, SMOOTHINGS, 100)
    assert is_valid(moved).all()
    torch.testing.assert_close(moved[1:], displace(both[1:], asked[1:], 100))


def test_a_move_through_a_narrow_polygon_does_not_turn_it_inside_out() -> None:
    narrow = ellipse_in_box(torch.tensor([[20.0, 37.0, 60.0, 43.0]]), 32)
    inward = torch.full((1, 32), -4.0)
    assert float(signed_area(displace(narrow, inward, 100))) < 0
    assert float(signed_area(move_simply(narrow, inward, SMOOTHINGS, 100))) > 0


def test_a_polygon_that_no_move_keeps_valid_stays_as_it_is() -> None:
    # Without any smoothing to try there is nothing between the move and none.
    through = torch.zeros(1, 32)
    through[0, ::2] = -60.0
    assert torch.equal(move_simply(CIRCLE, through, SMOOTHINGS[:0], 100), CIRCLE)


def test_a_polygon_within_the_image_stays_as_it_is_and_one_beyond_is_clamped() -> None:
    beyond = CIRCLE - torch.tensor([30.0, 0.0])
    kept = keep_inside(torch.cat([CIRCLE, beyond]), 100)
    assert torch.equal(kept, torch.cat([CIRCLE, beyond.clamp(0, 100)]))


def test_vertices_that_a_corner_lays_on_one_another_are_spaced_again() -> None:
    cut = ellipse_in_box(torch.tensor([[-2.0, -2.0, 6.0, 6.0]]), 128)
    assert not is_valid(cut.clamp(0, 100)).any()
    kept = keep_inside(cut, 100)
    assert is_valid(kept).all()
    assert kept.amin() == 0
    torch.testing.assert_close(signed_area(kept), signed_area(cut.clamp(0, 100)), rtol=0.01, atol=0)


@pytest.mark.parametrize("count", [8, 64, 1024])
def test_what_a_border_flattens_becomes_an_ellipse_a_pixel_wide(count: int) -> None:
    kept = keep_inside(ellipse_in_box(torch.tensor([[100.0, 100.0, 101.0, 101.0]]), count), 100)
    assert is_valid(kept).all()
    assert torch.equal(kept, ellipse_in_box(torch.tensor([[99.0, 99.0, 100.0, 100.0]]), count))

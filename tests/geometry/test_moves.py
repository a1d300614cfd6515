"""Moves that keep a polygon valid."""

import torch

from usrl.geometry.moves import move_simply, smoothing_matrices
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
    assert torch.equal(moved, displace(CIRCLE, outward, 100))
    radius = torch.linalg.vector_norm(moved - 40, dim=-1)
    torch.testing.assert_close(radius, torch.full((1, 32), 23.0))


def test_a_move_that_would_cross_is_smoothed_and_one_beside_it_is_not() -> None:
    through = torch.zeros(32)
    through[::2] = -60.0  # every second vertex beyond the centre
    both = CIRCLE.expand(2, -1, -1)
    asked = torch.stack([through, torch.full((32,), 3.0)])
    assert is_valid(displace(both, asked, 100)).tolist() == [False, True]
    moved = move_simply(both, asked, SMOOTHINGS, 100)
    assert is_valid(moved).all()
    assert torch.equal(moved[1:], displace(both[1:], asked[1:], 100))


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

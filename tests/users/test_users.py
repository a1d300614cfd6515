"""Where simulated users look, and what they mark."""

import numpy as np
import pytest
import torch

from usrl.compute.rng import mix
from usrl.errors import UserError
from usrl.geometry.area import signed_distances
from usrl.users.simulated import SimulatedUser, make_key
from usrl.users.users import USERS, Look, User, draw_border, find_user, look

CENTRE = USERS["centre"]
SHAPE = (60, 80)


def disc(x: float, y: float, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)[None]


def see(pred: torch.Tensor, target: torch.Tensor, user: User = CENTRE, count: int = 1) -> Look:
    maps = (signed_distances(mask).repeat(count, 1, 1) for mask in (pred, target))
    return look(user, *maps, mix(torch.arange(count)))


def test_centre_marks_the_border_next_to_the_middle_of_a_missing_part() -> None:
    # The prediction lacks what lies right of x = 40: a half disc of depth 20.
    target = disc(40, 30, 20)
    pred = target & (torch.arange(SHAPE[1]) <= 40)
    seen = see(pred, target)
    x, y = seen.centre[0].tolist()
    assert (x, y) == pytest.approx((50, 30), abs=3)  # of the largest disc in a half disc
    border = seen.border[0] - torch.tensor([40.0, 30.0])
    assert float(border.norm()) == pytest.approx(20.4, abs=0.5)
    assert float(border[0]) > 18
    assert bool(seen.is_missing[0])


def test_centre_marks_the_true_border_behind_a_part_too_many() -> None:
    seen = see(disc(40, 30, 20) | disc(20, 30, 12), disc(40, 30, 20))
    assert float(seen.centre[0, 0]) < 20
    assert seen.border[0].tolist() == pytest.approx([19.6, 30], abs=0.6)
    assert not bool(seen.is_missing[0])


def test_the_deepest_of_two_errors_is_the_first() -> None:
    target = disc(40, 30, 20)
    pred = (target | disc(62, 30, 4)) & ~disc(24, 30, 8)
    assert bool(see(pred, target).is_missing[0])
    assert float(see(pred, target).centre[0, 0]) < 40


def test_iou_and_errors_are_what_the_user_sees() -> None:
    target, pred = disc(40, 30, 20), disc(40, 30, 16)
    seen = see(pred, target)
    assert float(seen.iou[0]) == pytest.approx(float((pred & target).sum() / (pred | target).sum()))
    assert bool(seen.sees_error[0])
    assert not bool(see(target, target).sees_error[0])


def test_a_user_does_not_see_shallow_errors() -> None:
    target, pred = disc(40, 30, 20), disc(40, 30, 17)  # a ring of three pixels: depth below two
    assert not bool(see(pred, target, User("blind", unseen=0.05)).sees_error[0])
    assert bool(see(pred, target, User("sees", unseen=0.005)).sees_error[0])


def test_jitter_scatters_marks_around_their_place() -> None:
    target, pred = disc(40, 30, 20), disc(32, 30, 14)
    exact = see(pred, target).border[0]
    marks = see(pred, target, User("shaky", jitter=0.02), count=2000).border - exact
    assert marks.mean(dim=0).abs().max() < 0.12
    assert marks.std(dim=0).tolist() == pytest.approx([1.6, 1.6], rel=0.06)  # 0.02 of 80 pixels


def test_now_and_then_the_second_largest_error_is_marked() -> None:
    target = disc(40, 30, 20)
    pred = target & ~disc(24, 30, 9) & ~disc(58, 30, 5)
    seen = see(pred, target, User("second", second=0.3), count=2000)
    is_second = seen.centre[:, 0] > 40
    assert float(is_second.float().mean()) == pytest.approx(0.3, abs=0.03)
    alone = see(target & ~disc(24, 30, 9), target, User("second", second=1.0))
    assert float(alone.centre[0, 0]) < 40  # where there is no second, the first


def test_a_users_own_border_is_near_the_targets_and_the_same_in_an_episode() -> None:
    target = signed_distances(disc(40, 30, 20)).repeat(200, 1, 1)
    keys = mix(torch.arange(200))
    own = draw_border(User("own", border=0.05), target, keys)
    on_border = target.abs() <= 0.5
    shift = torch.stack([(own - target)[row][on_border[row]].square().mean() for row in range(200)])
    assert float(shift.mean().sqrt()) == pytest.approx(0.05 * 20, rel=0.1)
    assert torch.equal(own[7:8], draw_border(User("own", border=0.05), target[7:8], keys[7:8]))
    assert draw_border(CENTRE, target, keys) is target


def test_marks_stay_on_the_image() -> None:
    target, pred = disc(2, 2, 12), disc(40, 30, 10)
    seen = see(pred, target, User("wild", jitter=0.3), count=500)
    for marks in (seen.border, seen.centre):
        assert float(marks.min()) >= 0
        assert float(marks[:, 0].max()) <= SHAPE[1] - 1
        assert float(marks[:, 1].max()) <= SHAPE[0] - 1


@pytest.mark.parametrize("user", list(USERS.values()), ids=list(USERS))
def test_a_user_is_the_same_alone_and_in_a_batch(user: User) -> None:
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(9, 6, generator=generator)
    pred = torch.cat([disc(30 + 20 * a, 20 + 20 * b, 8 + 9 * c) for a, b, c, *_ in places.tolist()])
    target = torch.cat([disc(30 + 20 * d, 20 + 20 * e, 8 + 9 * f) for *_, d, e, f in places.tolist()])
    seen, wanted, keys = signed_distances(pred), signed_distances(target), mix(torch.arange(9))
    together = look(user, seen, draw_border(user, wanted, keys), keys + 1)
    for row in range(9):
        part = slice(row, row + 1)
        own = draw_border(user, wanted[part], keys[part])
        alone = look(user, seen[part], own, keys[part] + 1)
        for name, value in vars(alone).items():
            assert torch.equal(value[0], vars(together)[name][row])


def test_a_simulated_user_places_what_a_method_asks_for_and_stops_when_content() -> None:
    target = disc(40, 30, 20)[0].numpy()
    user = SimulatedUser(CENTRE, target, make_key("case"))
    border = user.mark(disc(36, 30, 14)[0].numpy(), 0, "border")
    clicks = user.mark(disc(36, 30, 14)[0].numpy(), 0, "clicks")
    too_much = user.mark(disc(40, 30, 26)[0].numpy(), 0, "clicks")
    assert border is not None
    assert clicks is not None
    assert too_much is not None
    assert len(border.border) == 1
    assert (len(clicks.inside), len(clicks.outside)) == (1, 0)
    assert (len(too_much.inside), len(too_much.outside)) == (0, 1)
    assert user.mark(target, 0, "border") is None
    nearly = target & ~disc(59.5, 30, 1.5)[0].numpy()
    assert np.any(nearly != target)
    assert user.mark(nearly, 0, "border") is None  # above an overlap of 0.95


def test_keys_are_whole_numbers_that_depend_on_the_text() -> None:
    assert make_key("a") == make_key("a") != make_key("b")
    assert 0 <= make_key("a") < 2**63


def test_an_unknown_user_is_suggested_a_known_one() -> None:
    with pytest.raises(UserError, match="unknown user 'center'; did you mean 'centre'"):
        find_user("center")

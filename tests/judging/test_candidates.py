"""Which masks are candidates, and which of them are taken."""

import numpy as np
import pytest

from usrl.judging.candidates import Candidates, choose, find_candidates
from usrl.judging.recipe import JudgeRecipe

IMAGE = np.zeros((60, 80), np.uint8)


def hill(row: int, column: int, top: float) -> np.ndarray:
    """Return a probability that falls linearly from a peak, by a tenth of it per pixel."""
    rows, columns = np.mgrid[:60, :80]
    return top * np.clip(1 - np.hypot(rows - row, columns - column) / 10, 0, 1).astype(np.float32)


def test_each_level_gives_its_components() -> None:
    probability = np.maximum(hill(20, 20, 1.0), hill(40, 60, 0.4))
    found = find_candidates(IMAGE, probability, [0.2, 0.5], None)
    masks = found.masks
    assert found.own == 1
    assert [int(mask[20, 20]) for mask in masks] == [1, 1, 0]
    assert [int(mask[40, 60]) for mask in masks] == [0, 0, 1]
    assert [bool((mask == (probability > 0.5)).all()) for mask in masks] == [True, False, False]


def test_levels_that_agree_give_one_candidate_and_specks_none() -> None:
    probability = np.zeros((60, 80), np.float32)
    probability[10:30, 10:30] = 0.9
    probability[50, 70:72] = 0.9  # 2 of 4,800 px
    assert len(find_candidates(IMAGE, probability, [0.3, 0.5, 0.7], None).masks) == 1


def test_nothing_above_any_level_gives_no_candidate() -> None:
    found = find_candidates(IMAGE, np.zeros((60, 80), np.float32), [0.5], None)
    assert (found.masks, found.own) == ([], 0)
    assert not found.unite([], IMAGE).any()


def test_what_only_a_low_level_finds_is_not_the_networks_own() -> None:
    assert find_candidates(IMAGE, hill(40, 60, 0.4), [0.2, 0.5], None).own == 0


def test_the_counterpart_of_a_candidate_is_what_it_was_refined_from_or_to() -> None:
    candidates = Candidates([square(0, 5), square(10, 15), square(0, 6), square(9, 15)], own=1, refined=2)
    assert [candidates.counterpart(number) for number in range(4)] == [2, 3, 0, 1]


def square(low: int, high: int) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[low:high, low:high] = True
    return mask


@pytest.mark.parametrize(
    ("expected", "rule", "taken"),
    [
        ([0.2, 0.9, 0.7], {}, [1, 2]),  # the two that lie apart, best first
        ([0.2, 0.9, 0.5], {}, [1]),  # the second is not good enough
        ([0.8, 0.9, 0.5], {}, [1]),  # the first overlaps what is taken
        ([0.2, 0.3, 0.1], {"reject": 0.4}, []),  # nothing is good enough
        ([0.2, 0.3, 0.1], {"reject": 0.25}, [1]),
        ([0.8, 0.9, 0.5], {"margin": 0.2}, [0]),  # the other is not that much better than the network's own
        ([0.6, 0.9, 0.5], {"margin": 0.2}, [1]),
        ([0.3, 0.4, 0.1], {"margin": 0.2, "reject": 0.35}, [1]),  # the margin makes nothing good enough
    ],
)
def test_the_best_candidate_is_taken_and_good_ones_beside_it(
    expected: list[float], rule: dict[str, float], taken: list[int]
) -> None:
    candidates = Candidates([square(5, 15), square(10, 25), square(40, 50)], own=1)
    settings = {"reject": 0.0, "accept": 0.6, "margin": 0.0} | rule
    recipe = JudgeRecipe(kind="judge", proposals="", **settings)  # type: ignore[arg-type]
    assert choose(candidates, np.array(expected, np.float32), recipe) == taken


def test_an_image_in_which_the_network_finds_nothing_stays_empty() -> None:
    candidates = Candidates([square(5, 15)], own=0)
    assert choose(candidates, np.array([0.9], np.float32), JudgeRecipe(kind="judge", proposals="")) == []

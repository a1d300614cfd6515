"""From scores to a summary: windows of frames, and shots in a knapsack."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from usrl.envs.summary.rules import count_kept, fill_knapsack, find_shots, keep_shots, keep_windows


def windows(scores: list[float], share: float, length: int | None = None) -> list[int]:
    kept = keep_windows(torch.tensor([scores]), torch.tensor([length or len(scores)]), share)
    return kept[0].nonzero().flatten().tolist()


def test_the_number_of_kept_frames_is_the_rounded_share_and_at_least_one() -> None:
    lengths = torch.tensor([100, 3, 10, 47])
    assert count_kept(lengths, 0.15).tolist() == [15, 1, 2, 7]
    assert count_kept(lengths, 1.0).tolist() == lengths.tolist()


def test_the_best_window_is_kept_whole() -> None:
    scores = [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert windows([float(score) for score in scores], 0.25) == [3, 4, 5, 6, 7]


def test_a_window_counts_by_its_mean_and_not_by_its_best_frame() -> None:
    # One frame of 1 in a dark place: a mean of 0.2. Five frames of 0.3 are better.
    scores = [0.0] * 20
    scores[2] = 1.0
    scores[10:15] = [0.3] * 5
    assert windows(scores, 0.25) == [10, 11, 12, 13, 14]


def test_of_the_last_window_the_best_frames_are_taken() -> None:
    scores = [0.0] * 20
    scores[10:15] = [0.5, 0.9, 0.7, 0.8, 0.6]
    assert windows(scores, 0.15) == [11, 12, 13]


def test_a_second_window_fills_what_the_first_leaves() -> None:
    scores = [0.0] * 30
    scores[4:9] = [1.0] * 5
    scores[20:25] = [0.9] * 5
    assert windows(scores, 1 / 3) == [4, 5, 6, 7, 8, 20, 21, 22, 23, 24]


def test_of_equal_windows_the_earlier_comes_first() -> None:
    assert windows([0.5] * 20, 0.25) == [0, 1, 2, 3, 4]


def test_padding_is_never_kept_whatever_its_score() -> None:
    scores = [0.1] * 10 + [9.0] * 10
    assert max(windows(scores, 0.5, length=10)) < 10
    assert windows([0.1, 0.3, 0.2, 5.0], 0.4, length=3) == [1]


def test_every_share_keeps_exactly_its_number_of_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 53, generator=generator)
    lengths = torch.randint(1, 54, (40,), generator=generator)
    for share in (0.01, 0.15, 0.5, 1.0):
        kept = keep_windows(scores, lengths, share)
        assert kept.sum(dim=1).tolist() == count_kept(lengths, share).tolist()


def test_a_clip_is_summarised_the_same_alone_and_in_a_batch() -> None:
    scores = torch.randn(1, 30, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([scores, torch.full((1, 20), 3.0)], dim=1)
    both = keep_windows(torch.cat([padded, -padded]), torch.tensor([30, 50]), 0.2)
    assert both[0, :30].tolist() == keep_windows(scores, torch.tensor([30]), 0.2)[0].tolist()


def best_by_trying(sizes: list[int], values: list[float], limit: int) -> float:
    """Return the value of the best knapsack, by trying all of them."""
    picks = product((0, 1), repeat=len(sizes))
    fits = (pick for pick in picks if np.dot(pick, sizes) <= limit)
    return max(float(np.dot(pick, values)) for pick in fits)


def test_a_knapsack_is_filled_as_well_as_by_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        sizes, values = rng.integers(1, 9, 8), rng.random(8)
        chosen = fill_knapsack(sizes, values, 15)
        assert sizes[chosen].sum() <= 15
        assert values[chosen].sum() == pytest.approx(best_by_trying(sizes.tolist(), values.tolist(), 15))
    assert fill_knapsack(np.array([7]), np.array([1.0]), 5) == []


def steps(*lengths: int) -> Tensor:
    """Return features of a clip that shows something new after each of some lengths, (1, T, F)."""
    rng = np.random.default_rng(0)
    parts = [np.repeat(np.eye(8)[each][None], length, axis=0) for each, length in enumerate(lengths)]
    features = np.concatenate(parts) + 0.02 * rng.standard_normal((sum(lengths), 8))
    return torch.from_numpy(features.astype(np.float32))[None]


def test_shots_begin_where_the_picture_changes() -> None:
    assert find_shots(steps(12, 20, 8)[0].numpy()).tolist() == [0, 12, 32, 40]


def test_a_clip_that_does_not_change_is_one_shot() -> None:
    features = np.ones((40, 4), np.float32)
    assert find_shots(features).tolist() == [0, 40]
    assert find_shots(features[:2]).tolist() == [0, 2]


def test_shots_of_high_scores_are_kept_whole_as_far_as_they_fit() -> None:
    features = steps(12, 20, 8)
    scores = torch.zeros(1, 40)
    scores[:, 32:] = 0.9
    scores[:, 12:32] = 1.0
    kept = keep_shots(scores, features, torch.tensor([40]), 0.25)[0]
    assert kept.nonzero().flatten().tolist() == list(range(32, 40))  # the best shot of 20 does not fit
    kept = keep_shots(scores, features, torch.tensor([40]), 0.5)[0]
    assert kept.nonzero().flatten().tolist() == list(range(12, 32))


def test_shots_never_look_at_padding() -> None:
    features, scores = steps(12, 20, 8), torch.rand(1, 40)
    padded = torch.cat([features, torch.full((1, 15, 8), 5.0)], dim=1)
    higher = torch.cat([scores, torch.full((1, 15), 7.0)], dim=1)
    kept = keep_shots(higher, padded, torch.tensor([40]), 0.3)
    assert not kept[0, 40:].any()
    assert kept[:, :40].equal(keep_shots(scores, features, torch.tensor([40]), 0.3))

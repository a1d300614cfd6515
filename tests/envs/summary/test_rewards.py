"""Rewards and scores of summaries against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from usrl.envs.summary.rewards import (
    FARTHEST,
    Weights,
    measure_diversity,
    measure_mean,
    measure_overlap,
    measure_representativeness,
    measure_share,
)

EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def similar(*vectors: tuple[float, float]) -> Tensor:
    """Return the products of the features of one clip, (1, T, T)."""
    features = torch.tensor([vectors])
    return features @ features.transpose(1, 2)


def keep(*kept: int) -> Tensor:
    return torch.tensor([kept], dtype=torch.bool)


def test_diversity_is_the_mean_distance_of_pairs_of_kept_frames() -> None:
    frames = similar(EAST, NORTH, EAST, WEST)
    # Pairs: east and north 1, east and west 2, north and west 1.
    assert measure_diversity(frames, keep(1, 1, 0, 1), 20).item() == pytest.approx(4 / 3)
    assert measure_diversity(frames, keep(1, 0, 1, 0), 20).item() == pytest.approx(0)


def test_frames_that_are_far_apart_in_time_count_as_different() -> None:
    frames = similar(EAST, EAST, EAST, WEST)
    # 0 and 2 are two apart: 1 each way. 0 and 1, 1 and 2 are alike: 0.
    assert measure_diversity(frames, keep(1, 1, 1, 0), 1).item() == pytest.approx(1 / 3)
    assert measure_diversity(frames, keep(1, 1, 1, 0), 2).item() == pytest.approx(0)
    # The cosine of 0 and 3 would give 2.
    assert measure_diversity(frames, keep(1, 0, 0, 1), 2).item() == pytest.approx(1)


@pytest.mark.parametrize("kept", [keep(0, 0, 0), keep(0, 1, 0)])
def test_fewer_than_two_frames_have_no_diversity(kept: Tensor) -> None:
    assert measure_diversity(similar(EAST, NORTH, WEST), kept, 20).item() == 0


def test_representativeness_falls_with_the_mean_squared_distance_to_the_nearest_kept_frame() -> None:
    frames = similar(EAST, NORTH, EAST, WEST)
    length = torch.tensor([4])
    # To east: 0, 2, 0 and 4; the mean is 1.5.
    assert measure_representativeness(frames, keep(1, 0, 0, 0), length).item() == pytest.approx(
        math.exp(-1.5)
    )
    # To the nearest of north and west: 2, 0, 2, 0.
    assert measure_representativeness(frames, keep(0, 1, 0, 1), length).item() == pytest.approx(math.exp(-1))
    assert measure_representativeness(frames, keep(1, 1, 0, 1), length).item() == pytest.approx(1)
    assert measure_representativeness(frames, keep(0, 0, 0, 0), length).item() == 0


def test_padding_changes_no_reward() -> None:
    padded = torch.zeros(1, 6, 6)
    padded[:, :4, :4] = similar(EAST, NORTH, EAST, WEST)
    kept = keep(0, 1, 0, 1, 0, 0)
    length = torch.tensor([4])
    assert measure_representativeness(padded, kept, length).item() == pytest.approx(math.exp(-1))
    assert measure_diversity(padded, kept, 20).item() == pytest.approx(1)
    assert measure_share(kept, length).item() == 0.5


def test_clips_of_a_batch_do_not_touch_each_other() -> None:
    both = torch.cat([similar(EAST, NORTH, WEST), similar(EAST, EAST, EAST)])
    kept = keep(1, 0, 1).repeat(2, 1)
    assert measure_diversity(both, kept, 20).tolist() == pytest.approx([2, 0])
    found = measure_representativeness(both, kept, torch.tensor([3, 3])).tolist()
    assert found == pytest.approx([math.exp(-2 / 3), 1])


def test_means_are_over_kept_frames() -> None:
    values = torch.tensor([[0.2, 0.9, 0.4, 1.0]])
    assert measure_mean(values, keep(1, 0, 1, 0)).item() == pytest.approx(0.3)
    assert measure_mean(values, keep(0, 0, 0, 0)).item() == 0


def test_the_parts_of_the_reward_are_averaged_by_their_weights() -> None:
    parts = [torch.tensor([value]) for value in (0.6, 0.2, 0.9, 0.1)]
    assert Weights().combine(*parts).item() == pytest.approx(0.4)
    assert Weights(abnormality=1).combine(*parts).item() == pytest.approx((0.6 + 0.2 + 0.9) / 3)
    assert Weights(sharpness=2).combine(*parts).item() == pytest.approx((0.6 + 0.2 + 2 * 0.1) / 4)


def test_overlap_with_known_frames_is_f1_precision_and_recall() -> None:
    kept, known = keep(1, 1, 1, 0, 0, 0), keep(0, 1, 1, 1, 1, 0)
    found = {name: value.item() for name, value in measure_overlap(kept, known).items()}
    assert found == pytest.approx({"f1": 4 / 7, "precision": 2 / 3, "recall": 1 / 2})
    nothing, none = keep(0, 0, 0, 0, 0, 0), {"f1": 0, "precision": 0, "recall": 0}
    assert {k: v.item() for k, v in measure_overlap(nothing, known).items()} == none
    assert measure_overlap(nothing, nothing)["f1"].item() == 1


def test_no_distance_is_larger_than_the_farthest() -> None:
    frames = similar(EAST, WEST)
    found = measure_representativeness(frames, keep(1, 0), torch.tensor([2])).item()
    assert found == pytest.approx(math.exp(-FARTHEST / 2))

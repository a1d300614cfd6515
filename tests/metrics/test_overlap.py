import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_confusion_matrix_metric,
    compute_dice,
    compute_iou,
    get_confusion_matrix,
)

from usrl.errors import UserError
from usrl.metrics.overlap import OVERLAPS, Counts, count_pixels, dice, iou, measure_overlap

EMPTY = np.zeros((4, 5), bool)
FULL = np.ones((4, 5), bool)
PRED, TARGET = EMPTY.copy(), EMPTY.copy()
# Of 20 pixels pred covers 6 and target 4, and they share 3: TP 3, FP 3, FN 1, TN 13.
PRED[1:3, 0:3] = True
TARGET[1, 0:2] = TARGET[2, 0] = TARGET[0, 4] = True
KNOWN = {
    "dice": 6 / 10,
    "iou": 3 / 7,
    "sensitivity": 3 / 4,
    "precision": 3 / 6,
    "specificity": 13 / 16,
    "accuracy": 16 / 20,
    "mae": 4 / 20,
}
ERRORS = ("mae",)


def test_counts_are_those_counted_by_hand():
    assert count_pixels(PRED, TARGET) == Counts(tp=3, fp=3, fn=1, tn=13)


def test_metrics_have_the_values_computed_by_hand():
    assert measure_overlap(PRED, TARGET) == pytest.approx(KNOWN)
    assert (dice(PRED, TARGET), iou(PRED, TARGET)) == pytest.approx((6 / 10, 3 / 7))


def test_all_metrics_come_from_one_count(monkeypatch):
    calls = []
    counts = count_pixels(PRED, TARGET)
    monkeypatch.setattr("usrl.metrics.overlap.count_pixels", lambda *masks: calls.append(masks) or counts)
    assert tuple(measure_overlap(PRED, TARGET)) == OVERLAPS
    assert len(calls) == 1


@pytest.mark.parametrize("mask", [PRED, EMPTY], ids=["equal", "both empty"])
def test_masks_that_are_equal_agree_perfectly(mask):
    assert measure_overlap(mask, mask) == dict.fromkeys(KNOWN, 1.0) | dict.fromkeys(ERRORS, 0.0)


@pytest.mark.parametrize("metric", ["dice", "iou", "sensitivity", "precision"])
@pytest.mark.parametrize("pair", [(EMPTY, PRED), (PRED, EMPTY)], ids=["empty pred", "empty target"])
def test_one_empty_mask_scores_zero(metric, pair):
    assert measure_overlap(*pair)[metric] == 0.0


def test_pixels_that_are_wrong_count_alike_if_one_mask_is_empty():
    for pred, target, specificity in ((EMPTY, PRED, 1.0), (PRED, EMPTY, 14 / 20)):
        scores = measure_overlap(pred, target)
        assert (scores["accuracy"], scores["mae"]) == pytest.approx((14 / 20, 6 / 20))
        assert scores["specificity"] == pytest.approx(specificity)


def test_f_measure_is_dice_and_with_a_smaller_weight_leans_to_precision():
    counts = count_pixels(PRED, TARGET)
    assert counts.f_measure() == counts.dice
    # 1.3 P R / (0.3 P + R) with P = 1/2 and R = 3/4.
    assert counts.f_measure(0.3**0.5) == pytest.approx(1.3 * 0.375 / 0.9)
    assert count_pixels(EMPTY, EMPTY).f_measure() == 1.0
    assert count_pixels(EMPTY, PRED).f_measure() == count_pixels(PRED, EMPTY).f_measure() == 0.0


def test_mean_absolute_error_is_that_of_numpy():
    assert measure_overlap(PRED, TARGET)["mae"] == np.abs(PRED.astype(float) - TARGET).mean()


def test_specificity_without_background_is_one():
    assert count_pixels(PRED, FULL).specificity == 1.0


@pytest.mark.parametrize("metric", ["dice", "iou", "accuracy"])
def test_overlap_is_symmetric(metric):
    assert measure_overlap(PRED, TARGET)[metric] == measure_overlap(TARGET, PRED)[metric]


@pytest.mark.parametrize("metric", [dice, iou, measure_overlap])
def test_other_shapes_are_refused_with_both_shapes(metric):
    with pytest.raises(UserError, match=r"\(4, 5\) and \(4, 6\)"):
        metric(EMPTY, np.zeros((4, 6), bool))


def test_a_mask_that_is_not_bool_is_refused():
    with pytest.raises(UserError, match=r"target must be a bool mask of shape \(H, W\), got uint8"):
        dice(EMPTY, EMPTY.astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "in_monai"),
    [
        ("sensitivity", "recall"),
        ("precision", "precision"),
        ("specificity", "specificity"),
        ("accuracy", "accuracy"),
        ("dice", "f1 score"),
        ("iou", "threat score"),
    ],
)
def test_shares_of_pixels_agree_with_monai(name, in_monai):
    pred, target = np.random.default_rng(0).random((2, 20, 30)) < 0.4
    flat = [torch.from_numpy(mask).reshape(1, 1, -1).float() for mask in (pred, target)]
    expected = compute_confusion_matrix_metric(in_monai, get_confusion_matrix(*flat).sum(dim=(0, 1)))
    assert measure_overlap(pred, target)[name] == pytest.approx(expected.item())


def test_dice_and_iou_agree_with_monai():
    rng = np.random.default_rng(0)
    for _ in range(5):
        pred, target = rng.random((2, 20, 30)) < 0.4
        tensors = [torch.from_numpy(mask)[None, None].float() for mask in (pred, target)]
        assert dice(pred, target) == pytest.approx(compute_dice(*tensors).item())
        assert iou(pred, target) == pytest.approx(compute_iou(*tensors).item())

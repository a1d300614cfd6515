"""Boxes: around masks, painted, cut out and put back."""

import pytest
import torch

from usrl.geometry.boxes import (
    boxes_of_masks,
    follow_boxes,
    grow,
    move_sides,
    paint_boxes,
    return_samples,
    sample_boxes,
)
from usrl.geometry.polygon import ellipse_in_box


def mask_of(rows: slice, columns: slice, size: int = 20) -> torch.Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, rows, columns] = True
    return mask


def test_a_box_has_the_whole_area_of_its_outermost_pixels() -> None:
    assert boxes_of_masks(mask_of(slice(3, 7), slice(5, 15))).tolist() == [[4.5, 2.5, 14.5, 6.5]]
    assert boxes_of_masks(mask_of(slice(0, 20), slice(0, 1))).tolist() == [[-0.5, -0.5, 0.5, 19.5]]


def test_an_empty_mask_gets_the_whole_image() -> None:
    assert boxes_of_masks(torch.zeros(1, 8, 8, dtype=torch.bool)).tolist() == [[-0.5, -0.5, 7.5, 7.5]]


def test_sides_move_by_shares_of_the_extent() -> None:
    box = torch.tensor([[0.0, 10.0, 10.0, 30.0]])
    moved = move_sides(box, torch.tensor([[-0.1, 0.2, 0.3, 0.0]]))
    assert moved[0].tolist() == pytest.approx([-1, 14, 13, 30])
    assert grow(box, 0.5)[0].tolist() == pytest.approx([-5, 0, 15, 40])


def test_points_follow_their_box() -> None:
    boxes = torch.tensor([[0.0, 10.0, 10.0, 30.0], [3.0, 4.0, 9.0, 8.0]])
    moved = torch.tensor([[-1.0, 14.0, 13.0, 30.0], [30.0, 40.0, 33.0, 48.0]])
    followed = follow_boxes(ellipse_in_box(boxes, 16), boxes, moved)
    assert torch.allclose(followed, ellipse_in_box(moved, 16), atol=1e-4)


def test_paint_covers_pixels_by_the_share_inside() -> None:
    painted = paint_boxes(torch.tensor([[1.5, 0.5, 4.0, 2.5]]), 6)[0]
    assert painted[1].tolist() == pytest.approx([0, 0, 1, 1, 0.5, 0])
    assert float(painted.sum()) == pytest.approx(2.5 * 2)


def test_a_box_of_whole_pixels_is_cut_out_as_it_is() -> None:
    maps = torch.rand(1, 1, 20, 20)
    cut = sample_boxes(maps, torch.tensor([[4.5, 2.5, 12.5, 10.5]]), 8)
    assert torch.allclose(cut[0, 0], maps[0, 0, 3:11, 5:13], atol=1e-5)


def test_what_lies_outside_the_image_is_zero() -> None:
    cut = sample_boxes(torch.ones(1, 1, 8, 8), torch.tensor([[-8.5, -0.5, 7.5, 7.5]]), 16)[0, 0]
    assert torch.allclose(cut[:, :7], torch.zeros(16, 7), atol=1e-6)
    assert torch.allclose(cut[4:12, 9:15], torch.ones(8, 6), atol=1e-6)


def test_samples_return_to_their_place_and_nowhere_else() -> None:
    maps = torch.rand(2, 1, 20, 24)
    boxes = torch.tensor([[4.5, 2.5, 12.5, 10.5], [0.5, 3.5, 16.5, 19.5]])
    back = return_samples(sample_boxes(maps, boxes, 8), boxes, (20, 24))
    assert torch.allclose(back[0, 0, 3:11, 5:13], maps[0, 0, 3:11, 5:13], atol=1e-4)
    assert not back[0, 0, :2].any()
    assert not back[0, 0, :, 14:].any()


def test_cutting_and_returning_agree_for_boxes_between_pixels() -> None:
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    maps = (row + 2 * column)[None, None]  # bilinear sampling keeps planes
    boxes = torch.tensor([[7.3, 5.1, 31.9, 28.4]])
    back = return_samples(sample_boxes(maps, boxes, 48), boxes, (40, 40))[0, 0]
    assert torch.allclose(back[7:27, 9:30], maps[0, 0, 7:27, 9:30], atol=0.05)

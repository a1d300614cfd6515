"""Areas, overlaps and masks of polygons against rasters."""

import pytest
import torch
from skimage.draw import polygon2mask

from usrl.geometry.area import RowSums, measure_dice, overlap_area, rasterise
from usrl.geometry.polygon import ellipse_in_box, signed_area

BLOB_COUNT = 12


@pytest.fixture(scope="module")
def blobs() -> torch.Tensor:
    """Smooth random polygons, (B, N, 2), 8 to 35 px in radius."""
    generator = torch.Generator().manual_seed(1)
    angle = torch.arange(64) * (2 * torch.pi / 64)
    radius = torch.linspace(8, 35, BLOB_COUNT)[:, None].repeat(1, 64)
    for order in (2, 3, 4):
        weight, phase = torch.rand(2, BLOB_COUNT, 1, generator=generator)
        radius = radius * (1 + 0.15 * weight * torch.cos(order * angle + 6.3 * phase))
    shape = radius[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return shape + torch.tensor([63.3, 61.8])


def test_rasterised_polygons_are_the_pixels_whose_centres_are_inside(blobs: torch.Tensor) -> None:
    masks = rasterise(blobs, 128, 130).numpy()
    for mask, polygon in zip(masks, blobs.numpy(), strict=True):
        assert (mask == polygon2mask((128, 130), polygon[:, ::-1])).all()


def test_a_polygon_beyond_the_border_is_cut_there() -> None:
    mask = rasterise(ellipse_in_box(torch.tensor([[-30.0, -30.0, 10.0, 10.0]]), 64), 20, 20)[0]
    assert bool(mask[0, 0])
    assert not bool(mask[15:].any())


def test_overlap_of_a_square_with_half_of_it_is_exact() -> None:
    target = torch.zeros(1, 128, 128, dtype=torch.bool)
    target[0, :, :64] = True
    corners = torch.tensor([[40.0, 30.0], [80.0, 30.0], [80.0, 70.0], [40.0, 70.0]])
    steps = torch.linspace(0, 1, 17)[:-1, None]
    square = torch.cat([torch.lerp(corners[i], corners[(i + 1) % 4], steps) for i in range(4)])[None]
    overlap = overlap_area(square, RowSums.of(target), torch.tensor([0]))
    assert float(signed_area(square)) == pytest.approx(1600)
    assert float(overlap) == pytest.approx((63.5 - 40) * 40, rel=1e-3)


@pytest.mark.parametrize(
    ("shift", "tolerance"),
    # A perfect fit to its own raster scores 1 there and loses the rounding of the outline here, which
    # only small lesions notice: a seventh of a pixel in a radius of eight.
    [(0.0, 0.02), (2.0, 0.01), (6.5, 0.01)],
)
def test_dice_without_a_raster_agrees_with_the_rastered_dice(
    blobs: torch.Tensor, shift: float, tolerance: float
) -> None:
    targets = rasterise(blobs, 128, 128)
    prepared = RowSums.of(targets)
    moved = blobs + shift
    dice = measure_dice(moved, prepared, torch.arange(BLOB_COUNT))
    masks = rasterise(moved, 128, 128)
    both = (masks & targets).flatten(1).sum(dim=1)
    expected = 2 * both / (masks.flatten(1).sum(dim=1) + targets.flatten(1).sum(dim=1))
    difference = (dice - expected).abs()
    assert float(difference.max()) < tolerance
    assert float(difference[BLOB_COUNT // 2 :].max()) < 0.01  # radii from 20 px


def test_a_mask_of_one_pixel_keeps_an_area() -> None:
    target = torch.zeros(1, 128, 128, dtype=torch.bool)
    target[0, 5, 5] = True
    assert 0.5 < float(RowSums.of(target).area) < 1.5


def test_dice_varies_smoothly_with_moves_below_a_pixel(blobs: torch.Tensor) -> None:
    prepared = RowSums.of(rasterise(blobs, 128, 128))
    shifts = torch.linspace(0, 1, 21)
    dice = [measure_dice(blobs[5:6] + 4 + shift, prepared, torch.tensor([5])) for shift in shifts]
    assert (torch.cat(dice).diff() < 0).all()  # ever less overlap, at every twentieth of a pixel


def test_sums_kept_for_the_box_alone_are_those_of_the_whole_image(blobs: torch.Tensor) -> None:
    """The sums of whole images, as a table of every place, read at the same places give the same overlap."""
    targets = torch.cat([rasterise(blobs, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool)])
    targets[0] |= rasterise(blobs[3:4] + torch.tensor([25.0, -40.0]), 128, 128)[0]  # two parts, far apart
    targets[1, :, 100:] = True  # up to the border
    prepared, index = RowSums.of(targets), torch.arange(len(targets))
    whole = torch.zeros(len(targets), 512, 513)
    for mask in range(len(targets)):
        left, top, right, bottom = map(int, prepared.box[mask])
        first, width = map(int, prepared.place[mask])
        sums = prepared.sums[first : first + width * (bottom + 1)].view(bottom + 1, width)
        assert width == right + 1
        assert not sums[[0, -1]].any()
        assert not sums[:, 0].any()
        whole[mask, top + 1 : top + bottom, left : left + width] = sums[1:-1].float()
        whole[mask, top + 1 : top + bottom, left + width :] = sums[1:-1, -1:].float()
    moved = torch.cat([blobs, blobs[:1]]) + 3.3
    part = (torch.arange(4) + 0.5) / 4
    places = (
        moved[:, :, None] + (moved.roll(-1, 1) - moved)[:, :, None] * part[:, None] + 0.5
    ) * 4  # (B, N, 4, 2)
    x, y = (places[..., 0] + 0.5).long().clamp(0, 512), places[..., 1].long().clamp(0, 511)
    read = whole[index[:, None, None], y, x].sum(-1)  # (B, N)
    expected = (read * (moved.roll(-1, 1) - moved)[..., 1] * 4).sum(1) / (4 * 16)
    torch.testing.assert_close(overlap_area(moved, prepared, index), expected, rtol=1e-4, atol=0.05)


def test_the_sums_of_a_small_lesion_take_little_memory() -> None:
    target = torch.zeros(1, 128, 128, dtype=torch.bool)
    target[0, 50:70, 40:70] = True
    prepared = RowSums.of(target)
    assert prepared.sums.numel() == pytest.approx((20 * 4 + 2) * (30 * 4 + 1), rel=0.1)
    assert RowSums.of(torch.zeros(1, 128, 128, dtype=torch.bool)).sums.numel() == 2

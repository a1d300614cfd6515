import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import ellipse

from usrl.classical import (
    CLASSICAL,
    ChanVeseInBox,
    OtsuInBox,
    OtsuThreshold,
    RandomWalkerInBox,
    WatershedInBox,
    draw_ellipse,
)
from usrl.classical.boxes import open_mask
from usrl.data.prompts import bounding_box
from usrl.errors import UserError
from usrl.metrics.overlap import dice

PROMPTED = [name for name, method in CLASSICAL.items() if method().track == "prompted"]


def make_scene(scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a dark lesion in speckle, with a shadow that runs to the bottom of the image."""
    rng = np.random.default_rng(0)
    target = np.zeros((120 * scale, 160 * scale), bool)
    target[ellipse(50 * scale, 70 * scale, 18 * scale, 28 * scale, shape=target.shape, rotation=0.5)] = True
    level = np.where(target, 40.0, 130.0)
    level[60 * scale :, 120 * scale : 145 * scale] = 20
    speckle = ndimage.gaussian_filter(rng.rayleigh(1.0, target.shape), scale) / 1.25
    return np.clip(level * speckle, 0, 255).astype(np.uint8), target


@pytest.mark.parametrize("name", CLASSICAL)
def test_table_names_are_the_segmenters_names(name):
    assert CLASSICAL[name]().name == name


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("otsu", 0.85),
        ("otsu-box", 0.85),
        ("multi-otsu", 0.85),
        ("adaptive", 0.85),
        ("chan-vese", 0.9),
        ("geodesic", 0.85),
        ("grabcut", 0.85),
        ("random-walker", 0.85),
        ("watershed", 0.85),
    ],
)
@pytest.mark.parametrize("scale", [1, 3])
def test_a_dark_lesion_is_found_at_any_resolution(name, least, scale):
    image, target = make_scene(scale)
    x0, y0, x1, y1 = bounding_box(target)
    # A box that is off by a tenth on every side.
    prompt = ((x0 + 5 * scale, y0 - 5 * scale, x1 + 5 * scale, y1 - 3 * scale),)
    mask = CLASSICAL[name]().segment(image, prompt).mask
    assert mask.dtype == np.bool_
    assert mask.shape == image.shape
    assert dice(mask, target) > least


@pytest.mark.parametrize("segmenter", [OtsuInBox(), ChanVeseInBox(), RandomWalkerInBox(), WatershedInBox()])
def test_methods_improve_on_the_ellipse_that_they_start_from(segmenter):
    image, target = make_scene()
    x0, y0, x1, y1 = bounding_box(target)
    prompt = ((x0 + 6, y0 - 4, x1 + 6, y1 - 4),)
    start = dice(CLASSICAL["proposal"]().segment(image, prompt).mask, target)
    assert dice(segmenter.segment(image, prompt).mask, target) > start + 0.03


@pytest.mark.parametrize("name", PROMPTED)
def test_masks_of_several_boxes_are_united(name):
    image, _ = make_scene()
    boxes = ((10.0, 10.0, 50.0, 40.0), (80.0, 60.0, 140.0, 100.0))
    segmenter = CLASSICAL[name]()
    single = [segmenter.segment(image, (box,)).mask for box in boxes]
    np.testing.assert_array_equal(segmenter.segment(image, boxes).mask, single[0] | single[1])


@pytest.mark.parametrize("name", PROMPTED)
def test_a_prompted_method_stays_near_its_box(name):
    image, _ = make_scene()
    method = CLASSICAL[name]()
    margin = getattr(method, "margin", 0.1)
    rows, columns = np.nonzero(method.segment(image, ((40.0, 30.0, 90.0, 70.0),)).mask)
    assert rows.min() >= 30 - 40 * margin
    assert rows.max() <= 70 + 40 * margin
    assert columns.min() >= 40 - 50 * margin
    assert columns.max() <= 90 + 50 * margin


@pytest.mark.parametrize("name", CLASSICAL)
def test_an_image_of_one_level_is_no_error(name):
    image = np.full((40, 50), 77, np.uint8)
    mask = CLASSICAL[name]().segment(image, ((10.0, 10.0, 30.0, 30.0),)).mask
    assert mask.any() == (name != "otsu")


@pytest.mark.parametrize("level", [0, 90, 255])
def test_otsu_finds_nothing_in_an_image_of_any_one_level(level):
    assert not OtsuThreshold().segment(np.full((60, 60), level, np.uint8)).mask.any()


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (37, 5)])
def test_odd_images_are_no_error(name, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    box = (-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5)
    assert CLASSICAL[name]().segment(image, (box,)).mask.shape == shape


@pytest.mark.parametrize("name", PROMPTED)
def test_a_tiny_box_gives_a_mask(name):
    image, _ = make_scene()
    assert CLASSICAL[name]().segment(image, ((20.0, 20.0, 22.5, 22.5),)).mask.any()


@pytest.mark.parametrize("name", PROMPTED)
def test_a_prompted_method_refuses_to_guess(name):
    with pytest.raises(UserError, match="give --box"):
        CLASSICAL[name]().segment(make_scene()[0], None)


@pytest.mark.parametrize("name", PROMPTED)
def test_a_box_outside_the_image_is_refused(name):
    with pytest.raises(UserError, match="leaves the image, which is 160 x 120"):
        CLASSICAL[name]().segment(make_scene()[0], ((0.0, 0.0, 300.0, 50.0),))


def test_dark_regions_at_the_border_are_shadows():
    image = np.full((60, 80), 150, np.uint8)
    image[30:, 10:40] = 10
    assert not OtsuThreshold().segment(image).mask.any()


def test_ellipse_fills_the_box_that_it_is_inscribed_in():
    disk = draw_ellipse((9.5, 4.5, 29.5, 44.5), (50, 40))
    assert bounding_box(disk) == (9.5, 4.5, 29.5, 44.5)
    assert disk.sum() == pytest.approx(np.pi * 10 * 20, rel=0.01)
    np.testing.assert_array_equal(disk[5:45, 10:30], disk[5:45, 10:30][::-1, ::-1])


def test_an_ellipse_holds_the_pixel_centres_inside_it_and_is_cut_at_the_border():
    rows, columns = np.mgrid[:30, :40]
    for box in ((-6.0, 3.5, 12.0, 20.0), (5.2, 4.1, 33.3, 44.0), (7.1, 7.1, 7.4, 7.4)):
        x0, y0, x1, y1 = box
        x, y = (2 * columns - x0 - x1) / (x1 - x0), (2 * rows - y0 - y1) / (y1 - y0)
        assert (draw_ellipse(box, (30, 40)) == (x**2 + y**2 <= 1)).all()


def test_an_opening_is_that_of_the_whole_image_though_only_the_surroundings_are_looked_at():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(80, 90)), 3)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    masks = [np.pad(part, place) for part, place in ((noise[:40, :50] > 0, ((40, 0), (20, 20))),)]
    for mask in (noise > 0, *masks, np.zeros((80, 90), bool)):
        whole = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disk) > 0
        assert (open_mask(mask, 9) == whole).all()


def test_filters_of_a_very_large_image_work_on_a_smaller_one(monkeypatch):
    shapes = []
    median = cv2.medianBlur
    monkeypatch.setattr(
        cv2, "medianBlur", lambda image, size: (shapes.append(image.shape), median(image, size))[1]
    )
    rng = np.random.default_rng(0)
    small = np.where(draw_ellipse((30, 40, 80, 75), (128, 160)), 60, 150).astype(np.uint8)
    small += rng.integers(0, 20, small.shape, np.uint8)
    found = OtsuThreshold().segment(small).mask
    large = OtsuThreshold().segment(cv2.resize(small, (1600, 1280), interpolation=cv2.INTER_CUBIC)).mask
    assert shapes == [(128, 160), (1024, 1280)]
    assert large.shape == (1280, 1600)
    assert dice(large, found.repeat(10, axis=0).repeat(10, axis=1)) > 0.95

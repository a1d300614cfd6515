import base64
import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.draw import disk

from usrl.evaluation.report.outlines import encode_image, frame_paths, trace_answer, trace_boxes, trace_mask
from usrl.metrics.overlap import dice
from usrl.segmenter import Answer

ENLARGED = 8


def fill(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixel centres a path encloses by the even-odd rule."""
    canvas = np.zeros([side * ENLARGED for side in shape], np.uint8)
    polygons = []
    for part in path.removesuffix("z").split("z"):
        start, steps = part.removeprefix("M").split("l")
        moves = np.array([start.split(), *np.reshape(steps.split(), (-1, 2))], float)
        polygons.append(np.round(np.cumsum(moves, axis=0) * ENLARGED).astype(np.int32))
    cv2.fillPoly(canvas, polygons, 1)
    return canvas[ENLARGED // 2 :: ENLARGED, ENLARGED // 2 :: ENLARGED].astype(bool)


def test_a_path_encloses_its_mask_with_holes_and_at_the_border():
    mask = np.zeros((90, 120), bool)
    mask[disk((45, 50), 30)] = True
    mask[disk((45, 50), 12)] = False
    mask[80:, 100:] = True  # touches two sides of the image
    path = trace_mask(mask)
    assert path.count("M") == path.count("z") == 3
    assert dice(fill(path, mask.shape), mask) > 0.99


def test_a_single_pixel_has_an_outline_around_its_centre():
    mask = np.zeros((5, 7), bool)
    mask[2, 4] = True
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", trace_mask(mask))]
    places = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)
    assert places.mean(axis=0) == pytest.approx([4.5, 2.5])
    assert len(places) == 4


def test_an_empty_mask_has_no_path():
    assert trace_mask(np.zeros((4, 4), bool)) == ""
    assert trace_answer(Answer(np.zeros((4, 4), bool))) == {"pred": ""}


def test_the_box_around_a_mask_touches_its_pixels():
    assert trace_boxes([(1.5, 0.5, 3.5, 2.5)]) == "M2 1l2 0 0 2 -2 0z"


def test_the_frame_holds_every_path_with_surroundings_and_stays_in_the_image():
    near, far = trace_boxes([(10, 10, 20, 20)]), trace_boxes([(90, 40, 95, 45)])
    left, top, width, height = frame_paths([near, "", far], (100, 50))
    assert (left, top, width, height) == (0, 0, 100, 50)
    left, top, width, height = frame_paths([near], (100, 100))
    assert (left, top, width, height) == (3, 3, 25, 25)  # around 15.5, 0.12 of the longer side to all sides
    assert frame_paths([""], (100, 50)) == (0, 0, 100, 50)


def test_a_noisy_image_is_stored_in_no_more_than_its_share():
    noise = np.random.default_rng(0).integers(0, 256, (700, 900)).astype(np.uint8)
    uri = encode_image(noise)
    assert len(uri) <= 40_100
    plain = np.full((70, 90), 130, np.uint8)
    stored = Image.open(io.BytesIO(base64.b64decode(encode_image(plain).partition(",")[2])))
    assert stored.size == (90, 70)
    assert np.asarray(stored.convert("L")).mean() == pytest.approx(130, abs=2)

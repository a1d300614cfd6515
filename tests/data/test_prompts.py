import numpy as np
import pytest

from usrl.data.prompts import (
    START_JITTER,
    bounding_box,
    check_prompt,
    jittered_boxes,
    parse_box,
    read_boxes,
    start_boxes,
)
from usrl.data.sample import Sample
from usrl.envs.contour.settings import ContourSettings
from usrl.envs.threshold.settings import ThresholdSettings
from usrl.errors import UserError
from usrl.runs.recipes import parse_recipe
from usrl.strict import check

KNOWN_BOX = (14.158862, 10.894764, 46.693863, 28.376317)


def make_sample(target: np.ndarray, name: str = "case") -> Sample:
    return Sample(np.zeros(target.shape, np.uint8), target, None, name, name, "test")


@pytest.fixture
def target():
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = True
    return mask


def test_box_without_jitter_covers_the_area_of_the_outermost_pixels(target):
    assert jittered_boxes(make_sample(target), jitter=0) == ((19.5, 9.5, 49.5, 29.5),)


def test_every_side_moves_by_at_most_its_share_of_the_box(target):
    boxes = np.array([jittered_boxes(make_sample(target, str(i)), 0.2)[0] for i in range(300)])
    moves = np.abs(boxes - bounding_box(target)) / [30, 20, 30, 20]
    assert moves.max() <= 0.2
    assert (moves.max(axis=0) > 0.18).all()
    assert np.abs(np.corrcoef((boxes - bounding_box(target)).T) - np.eye(4)).max() < 0.25


def test_boxes_depend_on_seed_and_name_only(target):
    boxes = jittered_boxes(make_sample(target), seed=1)
    assert boxes == jittered_boxes(make_sample(target), seed=1)
    assert boxes != jittered_boxes(make_sample(target), seed=2)
    assert boxes != jittered_boxes(make_sample(target, "another"), seed=1)


def test_boxes_of_a_name_stay_the_same_on_every_machine(target):
    np.testing.assert_allclose(jittered_boxes(make_sample(target))[0], KNOWN_BOX, atol=1e-6)


def test_each_lesion_has_a_box_and_specks_have_none(target):
    target[40:50, 60:70] = True
    target[55, 5] = True
    assert len(jittered_boxes(make_sample(target))) == 2


def test_a_target_of_specks_keeps_its_largest():
    target = np.zeros((20, 20), bool)
    target[3, 3] = target[10, 10:13] = True
    assert jittered_boxes(make_sample(target), jitter=0) == ((9.0, 8.0, 13.0, 12.0),)


def test_pixels_that_touch_by_a_corner_share_a_box():
    target = np.zeros((20, 20), bool)
    target[2:8, 2:8] = target[8:14, 8:14] = True
    assert len(jittered_boxes(make_sample(target))) == 1


def test_boxes_stay_inside_the_image_and_keep_an_area():
    target = np.zeros((30, 30), bool)
    target[:, :2] = True
    for seed in range(50):
        ((x0, y0, x1, y1),) = jittered_boxes(make_sample(target), 0.4, seed)
        assert x0 >= -0.5
        assert y0 >= -0.5
        assert y1 <= 29.5
        assert x1 - x0 >= 4


def test_a_box_at_the_far_border_stays_inside():
    target = np.zeros((30, 30), bool)
    target[28:, 29:] = target[10:26, 29:] = True
    for box in jittered_boxes(make_sample(target), 0.4):
        assert check_prompt((box,), (30, 30)) == (box,)
        assert box[2] <= 29.5


def test_an_empty_target_has_no_box():
    with pytest.raises(UserError, match="case: a box needs a lesion"):
        jittered_boxes(make_sample(np.zeros((9, 9), bool)))


TAKERS_OF_JITTER = (
    lambda jitter: jittered_boxes(make_sample(np.ones((9, 9), bool)), jitter),
    lambda jitter: check(ContourSettings, {"jitter": jitter}, "contour"),
    lambda jitter: check(ThresholdSettings, {"jitter": jitter}, "threshold"),
    lambda jitter: parse_recipe({"kind": "network", "prompt": "box", "jitter": jitter}, "recipe"),
)


@pytest.mark.parametrize("take", TAKERS_OF_JITTER)
def test_no_jitter_could_turn_a_box_over_and_every_place_takes_the_same(take):
    take(0.0)
    take(0.45)
    for jitter in (-0.01, 0.46):
        with pytest.raises(UserError, match=f"jitter.*got {jitter}"):
            take(jitter)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "got none; give --box x0,y0,x1,y1, or rows of its own in --boxes"),
        ((), "got none; give --box"),
        (((10, 10, 10, 20),), "box 10,10,10,20 has no area"),
        (((10, 20, 30, 10),), "x1 must exceed x0 and y1 must exceed y0"),
        (((10, 10, 90, 20),), "box 10,10,90,20 leaves the image, which is 80 x 60"),
        (((-3, 10, 30, 20),), "leaves the image"),
        (((1, 1, float("nan"), 2),), "not finite"),
    ],
)
def test_a_wrong_prompt_is_refused_by_what_is_wrong(prompt, message):
    with pytest.raises(UserError, match=message):
        check_prompt(prompt, (60, 80))


def test_a_box_around_the_whole_image_is_accepted_in_either_convention():
    prompt = ((-0.5, -0.5, 79.5, 59.5), (0, 0, 80, 60))
    assert check_prompt(prompt, (60, 80)) == prompt


def test_box_is_read_from_text():
    assert parse_box("40,60.5, 180,170") == (40.0, 60.5, 180.0, 170.0)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 4"])
def test_text_that_is_no_box_is_refused(text):
    with pytest.raises(UserError, match="a box is x0,y0,x1,y1"):
        parse_box(text)


@pytest.mark.parametrize("text", ["0.1,0.2,0.5,0.6", "0,0,1,1"])
def test_a_box_in_shares_of_the_image_is_refused(text):
    with pytest.raises(UserError, match=r"in pixels, got .* shares of an image; multiply x by its width"):
        parse_box(text)


def test_starts_begin_with_the_boxes_as_given_and_stay_near_them():
    prompt = ((20.0, 10.0, 50.0, 30.0), (100.0, 100.0, 140.0, 120.0))
    first, *others = start_boxes(prompt, 200, (200, 200))
    assert first == prompt
    moves = np.abs(np.array(others) - np.array(prompt)) / [[30, 20, 30, 20], [40, 20, 40, 20]]
    assert moves.max() <= START_JITTER
    assert (moves.max(axis=0) > 0.9 * START_JITTER).all()


def test_starts_depend_on_the_box_and_their_number_only():
    one, two = (20.0, 10.0, 50.0, 30.0), (100.0, 100.0, 140.0, 120.0)
    few, many = start_boxes((one,), 3, (200, 200)), start_boxes((two, one), 5, (200, 200))
    assert [boxes[0] for boxes in few] == [boxes[1] for boxes in many[:3]]
    same = tuple(np.float64(side) for side in one)
    assert start_boxes((same,), 3, (200, 200))[2] == few[2]


def test_boxes_of_starts_stay_in_the_image():
    for prompt in start_boxes(((-0.5, -0.5, 40.0, 30.0),), 50, (30, 40)):
        check_prompt(prompt, (30, 40))


def test_boxes_of_several_images_are_read_in_the_order_of_their_rows(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1\nb.png,1,2,3,4\na.png,5,6,7.5,8\nb.png,0,0,9,9\n")
    boxes = read_boxes(path)
    assert boxes == {"b.png": ((1, 2, 3, 4), (0, 0, 9, 9)), "a.png": ((5, 6, 7.5, 8),)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("image,x0,y0,x1,y1\na.png,1,2,3,4\na.png,1,2,3\n", r"boxes\.csv, line 3: a box is x0,y0,x1,y1"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,4,5\n", r"boxes\.csv, line 2: 5 cells are wanted, got 6"),
        ("image,x0,y0,x1,y1\n,1,2,3,4\n", r"boxes\.csv, line 2: the image is not named"),
        ("image,x0,y0,x1,y1\n", r"boxes\.csv: holds no box"),
        ("file,x0,y0,x1,y1\na.png,1,2,3,4\n", r"the header must be image,x0,y0,x1,y1"),
    ],
)
def test_a_file_of_boxes_that_cannot_be_used_says_where(tmp_path, rows, message):
    path = tmp_path / "boxes.csv"
    path.write_text(rows)
    with pytest.raises(UserError, match=message):
        read_boxes(path)

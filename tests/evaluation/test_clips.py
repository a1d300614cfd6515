"""Comparing methods on clips, and segmenting clips in files."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clip_builders import with_more_frames
from PIL import Image

from usrl.classical import CLASSICAL
from usrl.data.clips.clips import Clip, Clips
from usrl.data.clips.reading import open_clip, read_clip, write_clip
from usrl.data.sample import GrayImage
from usrl.errors import UserError
from usrl.evaluation.clips import compare_clips, segment_clip, segment_clips
from usrl.segmenter import Answer

SIDE = 24


def box_clip(name: str, tops: list[int | None], group: str = "a") -> Clip:
    """Return a clip with a bright box of 6 x 8 px, whose top is given for each frame; None if it is away."""
    frames = np.full((len(tops), SIDE, SIDE), 30, np.uint8)
    for frame, top in zip(frames, tops, strict=True):
        if top is not None:
            frame[top : top + 6, 8:16] = 200
    return Clip(frames, 10.0, None, name, group, "boxes", masks=frames > 100)


class Brightness:
    """Finds what is bright, frame by frame."""

    track = "automatic"

    def __init__(self, name: str = "brightness") -> None:
        self.name = name

    def segment(self, image: GrayImage, prompt: Any = None) -> Answer:
        return Answer(image > 100)


class Blinking(Brightness):
    """Finds the upper half of what is bright in every other frame, and what is bright in the others."""

    def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
        for number, frame in enumerate(list(frames)):  # reads ahead
            mask = frame > 100
            rows = np.flatnonzero(mask.any(axis=1))
            if number % 2 and len(rows):
                mask[rows[3] :] = False
            yield Answer(mask)


@pytest.fixture
def clips() -> Clips:
    still, moving = box_clip("still", [4, 4, 4]), box_clip("moving", [4, 10, None], "b")
    return Clips.from_clips([still, moving, box_clip("away", [None, None], "c")], SIDE)


def test_methods_are_scored_clip_by_clip(tmp_path: Path, clips: Clips) -> None:
    results = compare_clips(
        [Brightness(), Blinking("blinking")], clips, tmp_path / "r", dataset="d", split="test"
    )
    cases = {
        (row["case"], row["method"]): row for row in csv.DictReader((tmp_path / "r" / "cases.csv").open())
    }
    assert float(cases["still", "brightness"]["dice"]) == 1
    assert float(cases["still", "brightness"]["flicker"]) == 0
    # The frames of half a box have a Dice of 2 / 3, and overlap their whole neighbours by as much.
    assert float(cases["still", "blinking"]["dice"]) == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert float(cases["still", "blinking"]["flicker"]) == pytest.approx(1 / 3)
    # The target itself does not overlap from frame to frame, so that nothing flickers more.
    assert float(cases["moving", "blinking"]["flicker"]) == 0
    assert results["without_target"] == ["away"]
    assert results["clips"] == 2
    rows = {row["method"]: row for row in results["rows"]}
    assert rows["brightness"]["dice"] == 1
    assert rows["blinking"]["dice_low"] <= rows["blinking"]["dice"] <= rows["blinking"]["dice_high"]
    assert {test["figure"] for test in results["tests"]} == {"dice", "flicker"}
    page = (tmp_path / "r" / "report.html").read_text()
    assert "best clip of blinking" in page
    assert "no frame has a target: away" in page


def test_runs_of_one_method_are_averaged_clip_by_clip(tmp_path: Path, clips: Clips) -> None:
    entry = [Brightness("one"), Blinking("two")]
    results = compare_clips([entry], clips, tmp_path / "r", dataset="d", split="test")
    rows = {row["method"]: row for row in results["rows"]}
    mean = rows["one, mean of 2 runs"]
    assert mean["flicker"] == pytest.approx((rows["one"]["flicker"] + rows["two"]["flicker"]) / 2)
    assert not results["tests"]


def test_what_cannot_be_compared_on_clips_is_refused(tmp_path: Path, clips: Clips) -> None:
    def compare(method: Any, own: Clips = clips) -> None:
        compare_clips([method], own, tmp_path / "r", dataset="d", split="test")

    with pytest.raises(UserError, match="only automatic methods are compared"):
        compare(CLASSICAL["otsu-box"]())
    bare = Clips.from_clips([Clip(box_clip("a", [1, 1]).frames, 1.0, None, "a", "a", "a")], SIDE)
    with pytest.raises(UserError, match="needs masks, and the clips have none"):
        compare(Brightness(), bare)
    away = Clips.from_clips([box_clip("away", [None, None])], SIDE)
    with pytest.raises(UserError, match="1 methods and 0 such clips"):
        compare(Brightness(), away)

    class Short(Brightness):
        def segment_clip(self, frames: Iterable[GrayImage]) -> Iterator[Answer]:
            yield from [Answer(frame > 1) for frame in frames][1:]

    with pytest.raises(UserError, match=r"gave masks of bool \(2, 24, 24\) for still"):
        compare(Short())
    assert not list((tmp_path / "r").iterdir())


@pytest.mark.parametrize("method", [Brightness(), Blinking()])
def test_a_clip_gives_masks_an_overlay_areas_and_a_json(tmp_path: Path, method: Any) -> None:
    clip = box_clip("a", [4, 4, None, 8])
    write_clip(tmp_path / "a.mp4", clip.frames, clip.fps)
    (result,) = segment_clips(method, [tmp_path / "a.mp4"], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.csv", "a.json", "a_masks", "a_overlay.mp4"]
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == result
    assert (result["frames"], result["frames_found"], result["fps"]) == (4, 3, 10)
    areas = [int(row["area_px"]) for row in csv.DictReader((tmp_path / "out" / "a.csv").open())]
    half = isinstance(method, Blinking)
    assert areas == pytest.approx(
        [48, 24 if half else 48, 0, 24 if half else 48], abs=6
    )  # mp4 loses a little
    masks = [np.asarray(Image.open(tmp_path / "out" / "a_masks" / f"000{n}.png")) for n in range(4)]
    assert [int((mask == 255).sum()) for mask in masks] == areas
    overlay = read_clip(tmp_path / "out" / "a_overlay.mp4")
    assert overlay.frames.shape == (4, 384, 384)


def test_areas_are_in_square_millimetres_if_the_pixel_size_is_known(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, frame in enumerate(box_clip("a", [4, 5]).frames):
        cv2.imwrite(str(tmp_path / "a" / f"{number}.png"), frame)
    clip = replace(open_clip(tmp_path / "a"), spacing_mm=(0.5, 0.2))
    result = segment_clip(Brightness(), clip, tmp_path / "out")
    assert result["spacing_mm"] == [0.5, 0.2]
    rows = list(csv.DictReader((tmp_path / "out" / "a.csv").open()))
    assert [float(row["area_mm2"]) for row in rows] == pytest.approx([4.8, 4.8])


def test_nothing_is_left_of_a_clip_that_ends_early(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", box_clip("a", [4] * 10).frames, 20)
    (tmp_path / "a.mp4").write_bytes(with_more_frames((tmp_path / "a.mp4").read_bytes(), 14))
    with pytest.raises(UserError, match=r"a\.mp4: ends early"):
        segment_clips(Brightness(), [tmp_path / "a.mp4"], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_files_that_are_there_and_names_that_clash_are_refused_before_a_frame_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", box_clip("a", [4] * 3).frames, 20)
    write_clip(tmp_path / "b" / "a.mp4", box_clip("a", [4] * 3).frames, 20)
    with pytest.raises(UserError, match="would be written to the same names"):
        segment_clips(Brightness(), [tmp_path / "a.mp4", tmp_path / "b" / "a.mp4"], tmp_path / "out")
    segment_clips(Brightness(), [tmp_path / "a.mp4"], tmp_path / "out")
    with pytest.raises(UserError, match="a_masks is there already"):
        segment_clips(Brightness(), [tmp_path / "a.mp4"], tmp_path / "out")
    with pytest.raises(UserError, match="clips are for automatic methods"):
        segment_clips(CLASSICAL["otsu-box"](), [tmp_path / "a.mp4"], tmp_path / "new")

"""Clips from files, and clips as files."""

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_builders import (
    at_variable_rate,
    moving_bar,
    sound_only,
    with_more_frames,
    write_dicom,
    write_video,
)

from usrl.data.clips.clips import Clips
from usrl.data.clips.reading import list_clips, open_clip, read_clip, write_clip
from usrl.errors import UserError

FRAMES = moving_bar(10)


def write_images(folder: Path, frames: np.ndarray, first: int = 1) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=first):
        cv2.imwrite(str(folder / f"frame-{number:03d}.png"), frame)
    return folder


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("A.AVI", "MJPG"), ("a.mpg", "mp1v"), ("a.mpeg", "mp2v")],
)
def test_every_container_gives_its_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, FRAMES, fps=25, codec=codec)
    clip = read_clip(path)
    assert clip.frames.shape == FRAMES.shape
    assert clip.fps == pytest.approx(25)
    assert clip.name == Path(name).stem
    assert np.abs(clip.frames.astype(int) - FRAMES).mean() < 6  # the codecs lose a little
    tops = [int(np.argmax(frame[:, 24] > 110)) for frame in clip.frames]
    assert tops == [2 * place for place in range(10)]


def test_numbered_images_are_a_clip_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "lung.1", FRAMES, first=5)
    clip = read_clip(folder)
    assert clip.name == "lung.1"
    assert np.array_equal(clip.frames, FRAMES)
    (folder / "frame-007.png").unlink()
    with pytest.raises(UserError, match=r"lung\.1: frames are missing, the first is number 7"):
        open_clip(folder)
    (folder / "frame.png").write_bytes((folder / "frame-008.png").read_bytes())
    with pytest.raises(UserError, match=r"frame\.png: a frame's name ends with its number"):
        open_clip(folder)


def test_two_images_of_one_number_or_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", FRAMES)
    cv2.imwrite(str(folder / "b-3.png"), FRAMES[0])
    with pytest.raises(UserError, match=r"has the number of b-3\.png"):
        open_clip(folder)
    (folder / "b-3.png").unlink()
    cv2.imwrite(str(folder / "frame-003.png"), FRAMES[0][:20])
    with pytest.raises(UserError, match="frame 3 is 48 x 20 px and the first 48 x 40 px"):
        read_clip(folder)


def test_a_dicom_clip_brings_rate_pixel_size_and_patient(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", FRAMES, FrameTime="40", PixelSpacing=[0.2, 0.2], PatientID="7")
    clip = read_clip(path)
    assert np.array_equal(clip.frames, FRAMES)
    assert clip.fps == pytest.approx(25)
    assert clip.group.startswith("patient-")
    # 48 px become 24, so that a pixel is twice as large.
    small = read_clip(path, size=24)
    assert small.frames.shape == (10, 24, 24)
    assert small.spacing_mm == pytest.approx((0.4, 0.4))


def test_frames_that_are_letterboxed_while_read_equal_those_letterboxed_later(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    late = Clips.from_clips([read_clip(path)], 24)
    early = Clips.from_clips([read_clip(path, size=24)], 24)
    assert np.array_equal(late.frames.numpy(), early.frames.numpy())


def test_one_frame_at_a_time_is_in_memory(tmp_path: Path) -> None:
    shape = (256, 256)
    path = write_video(tmp_path / "a.avi", np.zeros((400, *shape), np.uint8), codec="MJPG")
    tracemalloc.start()
    clip = read_clip(path, size=16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clip.frames) == 400
    assert peak < 10 * np.prod(shape) + 2 * clip.frames.nbytes + 200_000  # all frames are 26 MB


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", FRAMES).read_bytes()
    files = {
        "empty.mp4": (b"", "is empty"),
        "text.mp4": (b"#EXTM3U\nfile:///etc/passwd\n" * 9, "is not an mp4, mov, avi, mpeg or DICOM file"),
        "cut.mp4": (whole[: len(whole) // 2], "holds no pictures that can be decoded"),
        "sound.avi": (
            sound_only(),
            "holds no pictures that can be decoded: it is damaged, or has sound only",
        ),
        "dicom.dcm": (whole, "is not a DICOM file, though it is named so"),
    }
    for name, (content, told) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: {told}"):
            read_clip(tmp_path / name)
    with pytest.raises(UserError, match=r"absent\.mp4: does not exist"):
        open_clip(tmp_path / "absent.mp4")


def test_a_clip_of_one_frame_is_refused(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mpg", "mp1v")):
        with pytest.raises(UserError, match=rf"{name}: has (one|1) frame"):
            read_clip(write_video(tmp_path / name, FRAMES[:1], fps=25, codec=codec))
    with pytest.raises(UserError, match=r"one\.dcm: has one frame"):
        open_clip(write_dicom(tmp_path / "one.dcm", FRAMES[:1]))
    with pytest.raises(UserError, match="holds 1 images"):
        open_clip(write_images(tmp_path / "one", FRAMES[:1]))


def test_a_variable_rate_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    path.write_bytes(at_variable_rate(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.mp4: .* variable rate: 50 ms at first, 150 ms before frame 7"):
        read_clip(path)


def test_a_clip_that_ends_early_is_refused_and_not_shortened(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    path.write_bytes(with_more_frames(path.read_bytes(), 14))
    with pytest.raises(UserError, match=r"a\.mp4: ends early: it promises 14 frames and 10 can be read"):
        read_clip(path)


def test_a_written_clip_is_read_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    assert write_clip(path, iter(FRAMES), fps=12.5) == 10
    clip = read_clip(path)
    assert clip.fps == pytest.approx(12.5)
    assert np.abs(clip.frames.astype(int) - FRAMES).mean() < 3
    assert [each.name for each in path.parent.iterdir()] == ["a.mp4"]


def test_odd_sides_gain_a_row_and_colours_are_kept(tmp_path: Path) -> None:
    red = np.zeros((3, 39, 47, 3), np.uint8)
    red[..., 0] = 255
    write_clip(tmp_path / "a.mp4", red, fps=5)
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    frame = capture.read()[1]
    assert frame.shape == (40, 48, 3)
    assert frame[20, 20, 2] > 230  # OpenCV's last channel is red
    assert frame[20, 20, 0] < 30


def test_nothing_is_left_of_a_clip_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no frame"):
        write_clip(tmp_path / "a.mp4", [], fps=5)
    with pytest.raises(UserError, match="must be uint8 of shape"):
        write_clip(tmp_path / "a.mp4", [FRAMES[0], FRAMES[0][:20]], fps=5)
    with pytest.raises(UserError, match=r"ends with \.mp4"):
        write_clip(tmp_path / "a.avi", FRAMES, fps=5)
    with pytest.raises(UserError, match="fps must be above 0"):
        write_clip(tmp_path / "a.mp4", FRAMES, fps=0)
    with pytest.raises(UserError, match="cannot write here"):
        write_clip(Path("/proc/a.mp4"), FRAMES, fps=5)
    assert not list(tmp_path.iterdir())


def test_clips_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    write_video(tmp_path / "b.MP4", FRAMES)
    write_dicom(tmp_path / "c.dcm", FRAMES)
    write_images(tmp_path / "a", FRAMES)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert [path.name for path in list_clips(tmp_path)] == ["a", "b.MP4", "c.dcm"]

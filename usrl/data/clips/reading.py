"""Reads clips one frame at a time, and writes them.

A clip is a video file (mp4, mov, avi, mpeg), a DICOM file of several frames, or a folder of numbered images.
Pixels become 8-bit gray (luminance, ITU-R 601). Only one frame is in memory at a time unless the caller keeps
more. The standards of video have no checksum of a frame, and decoders paint over small damage: what is found
is a file that does not open, a frame that cannot be decoded, and an end that comes early.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.clips.clips import Clip
from usrl.data.letterbox import Letterbox
from usrl.data.reading.dicom import DICOM_SUFFIXES, MAX_FRAMES, MAX_PIXELS, is_dicom, open_dicom
from usrl.data.reading.files import list_images, read_gray, read_shape
from usrl.data.reading.frames import Frame
from usrl.data.reading.tables import clean
from usrl.data.sample import GrayImage
from usrl.errors import UserError
from usrl.files import check_path, make_folder, writing_to
from usrl.progress import track

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # OpenCV reads it once; its decoder prints otherwise
VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mpeg", ".mpg"))
"""Files with these suffixes, in upper or lower case, are videos."""
USUAL_FPS = 25.0
"""Frames a second of a clip that does not say: a folder of images, and some DICOM files."""
MAX_BYTES = 4 << 30
"""Most memory of a clip that is read at its native size."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid")
"""What an mp4 or mov file begins with, after four bytes."""
_UNEVEN = 1.5
"""Frames whose distances in time differ by more than this factor have a variable rate."""
_REMEDY = "convert it, such as with: ffmpeg -i OLD -r 25 NEW.mp4"


@dataclass(frozen=True)
class ClipFile:
    """A clip on disk, whose frames are read as they are asked for.

    Attributes:
        path: File or folder.
        shape: (H, W) of the frames, px.
        count: Number of frames, or None if the file does not say (mpeg).
        fps: Frames a second.
        spacing_mm: (row, column) pixel size in millimetres, or None if it is unknown.
        patient: A name for the patient, or None if the file does not say.
        read: Returns an iterator over the frames; use `frames`.
        files: The images of a folder, in order; empty if the clip is one file.
        frame: Of DICOM, the picture of which the frames are a region; else None.
    """

    path: Path
    shape: tuple[int, int]
    count: int | None
    fps: float
    spacing_mm: tuple[float, float] | None
    patient: str | None
    read: Callable[[], Iterator[GrayImage]]
    files: tuple[Path, ...] = ()
    frame: Frame | None = None

    @property
    def name(self) -> str:
        """Name of the clip: that of the file without its suffix, or of the folder."""
        return clean(self.path.name if self.path.is_dir() else self.path.stem)

    def frames(self, show_progress: bool = False) -> Iterator[GrayImage]:
        """Yield the frames as 8-bit gray, uint8, (H, W), from the first on.

        Raises:
            UserError: At the frame that cannot be read; and at the end, if there are fewer frames than the
                file promises, or fewer than two. Whoever writes files must not have finished them by then.
        """
        frames = self.read()
        if show_progress:
            frames = track(frames, f"Reading {self.name}", self.count, "frames")
        number = 0
        for number, frame in enumerate(frames, start=1):
            if frame.shape != self.shape:
                raise UserError(
                    f"{self.path}: frame {number} is {frame.shape[1]} x {frame.shape[0]} px and the first "
                    f"{self.shape[1]} x {self.shape[0]} px; make them alike"
                )
            if number > MAX_FRAMES:
                raise UserError(f"{self.path}: has more than {MAX_FRAMES} frames; cut it into parts")
            yield frame
        if self.count is not None and number < self.count:
            raise UserError(
                f"{self.path}: ends early: it promises {self.count} frames and {number} can be read; copy or "
                "export it again"
            )
        if number < 2:
            raise UserError(f"{self.path}: has {number} frames, and a clip has at least two")


def open_clip(path: Path | str) -> ClipFile:
    """Return a clip whose frames are not read yet.

    Raises:
        UserError: If there is no such file, or it is empty, damaged, of another kind, has sound only or only
            one frame. The message names the file.
    """
    path = check_path(Path(path))
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(f"{path}: does not exist; give the path of a clip, or of a folder of its frames")
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty; copy or export it again")
    if is_dicom(path):
        return _open_dicom(path)
    if path.suffix.lower() in DICOM_SUFFIXES:
        raise UserError(f"{path}: is not a DICOM file, though it is named so; export it again")
    return _open_video(path)


def is_clip(path: Path) -> bool:
    """Return whether a path names a clip and no image: a folder, a video, or DICOM of several frames."""
    if check_path(path).is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    return is_dicom(path) and open_dicom(path).count > 1


def read_clip(
    path: Path | str, size: int | None = None, *, show_progress: bool = False, source: str = "clips"
) -> Clip:
    """Read a clip.

    Args:
        path: Video file, DICOM file, or folder of numbered images.
        size: Side of the letterboxed frames, px: each is shrunk as it is read, so that a long clip takes
            little memory. None keeps the native size.
        show_progress: Show a progress bar.
        source: Data set and class of the clip.

    Returns:
        The clip, named as the file. Its group is its patient, or its name if the file does not say.

    Raises:
        UserError: As `open_clip` and `ClipFile.frames`; and if the clip would take more than `MAX_BYTES`.
    """
    opened = open_clip(path)
    box = Letterbox.fit(opened.shape, size) if size else None
    pixels = size * size if size else opened.shape[0] * opened.shape[1]
    frames: list[GrayImage] = []
    for frame in opened.frames(show_progress):
        if (len(frames) + 1) * pixels > MAX_BYTES:
            raise UserError(
                f"{path}: takes more than {MAX_BYTES >> 30} GiB at this size; ask for smaller frames, or cut "
                "it into parts"
            )
        frames.append(box.image(frame) if box else frame)
    spacing_mm = opened.spacing_mm
    if box and spacing_mm:
        rows, columns = box.resized_shape
        spacing_mm = (spacing_mm[0] * opened.shape[0] / rows, spacing_mm[1] * opened.shape[1] / columns)
    name = opened.name
    return Clip(np.stack(frames), opened.fps, spacing_mm, name, opened.patient or name, source)


def list_clips(folder: Path) -> list[Path]:
    """Return the clips of a folder, sorted by name: files of known suffixes, and folders of images."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        is_file = path.suffix.lower() in VIDEO_SUFFIXES | DICOM_SUFFIXES and not path.is_dir()
        if is_file or (path.is_dir() and list_images(path)):
            found.append(path)
    return found


def write_clip(path: Path | str, frames: Iterable[NDArray[np.uint8]], fps: float) -> int:
    """Write frames as an mp4 file, which appears when it is complete. Return their number.

    Args:
        path: File to write; its name must end in ``.mp4``.
        frames: Gray (H, W) or RGB (H, W, 3), uint8, all of one shape. An odd side gains a row or a column,
            because the codec wants even sides. They may come from a generator: one is held at a time.
        fps: Frames a second.

    Raises:
        UserError: If the name has another ending, there is no frame, shapes differ, or the file cannot be
            written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: clips are written as mp4; choose a name that ends with .mp4")
    if not np.isfinite(fps) or not 0 < fps <= 1000:
        raise UserError(f"{path}: fps must be above 0 and at most 1000, got {fps}")
    source = iter(frames)
    if (first := next(source, None)) is None:
        raise UserError(f"{path}: there is no frame to write")
    make_folder(path.parent)
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.mp4")
    try:
        with writing_to(path.parent):
            part.touch()  # says why, if nothing can be written here
            count = _encode(path, part, chain([first], source), first.shape, fps)
            # A full disk is no error of the encoder.
            written = cv2.VideoCapture(str(part), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT)
            if written != count:
                raise UserError(f"{path}: cannot be written whole; make space, or choose another place")
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _encode(
    path: Path, part: Path, frames: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], fps: float
) -> int:
    height, width = (side + side % 2 for side in shape[:2])
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise UserError(f"{path}: this build of OpenCV writes no mp4 of {width} x {height} px")
    count = 0
    try:
        for frame in frames:
            if frame.shape != shape or frame.dtype != np.uint8:
                raise UserError(
                    f"{path}: all frames must be uint8 of shape {shape}, got {frame.dtype} {frame.shape}"
                )
            code = cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR
            odd = (0, height - shape[0], 0, width - shape[1])
            colour = cv2.cvtColor(np.ascontiguousarray(frame), code)
            writer.write(cv2.copyMakeBorder(colour, *odd, cv2.BORDER_REPLICATE) if any(odd) else colour)
            count += 1
    finally:
        writer.release()
    return count


def _open_dicom(path: Path) -> ClipFile:
    opened = open_dicom(path)
    if opened.count < 2:
        raise UserError(f"{path}: has one frame, and a clip has at least two; read it as an image")
    return ClipFile(
        path,
        opened.shape,
        opened.count,
        opened.fps or USUAL_FPS,
        opened.spacing_mm,
        opened.patient,
        opened.frames,
        frame=opened.frame,
    )


def _open_folder(path: Path) -> ClipFile:
    """Open the numbered images of a folder, in the order of their numbers."""
    files: dict[int, Path] = {}
    for file in list_images(path):
        digits = re.findall(r"[0-9]+", file.stem)
        if not digits or len(digits[-1]) > 9:
            raise UserError(f"{file}: a frame's name ends with its number, such as 0001.png; rename it")
        if (number := int(digits[-1])) in files:
            raise UserError(f"{file}: has the number of {files[number].name}; rename or remove one")
        files[number] = file
    if len(files) < 2:
        raise UserError(f"{path}: holds {len(files)} images, and a clip has at least two frames")
    numbers = sorted(files)
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        lost = next(number for number in range(numbers[0], numbers[-1]) if number not in files)
        raise UserError(f"{path}: frames are missing, the first is number {lost}; restore them")
    ordered = tuple(files[number] for number in numbers)
    shape = read_shape(ordered[0])
    return ClipFile(
        path, shape, len(ordered), USUAL_FPS, None, None, lambda: map(read_gray, ordered), ordered
    )


def _open_video(path: Path) -> ClipFile:
    capture = _capture(path)
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise UserError(
            f"{path}: has frames of {width} x {height} px, and at most {MAX_PIXELS} pixels are read; "
            "shrink it"
        )
    if not np.isfinite(fps) or not 0 < fps <= 1000:
        raise UserError(f"{path}: says {fps:g} frames a second; {_REMEDY}")
    is_frame, first = capture.read()  # turned as the file says, which the sizes above are not
    capture.release()
    if not is_frame:
        raise UserError(f"{path}: no frame of it can be decoded; {_REMEDY}")
    has_count = path.suffix.lower() not in (".mpeg", ".mpg") and _kind(path) != "mpeg"
    known = int(count) if has_count and 0 < count <= 2**31 else None
    if known == 1:
        raise UserError(f"{path}: has one frame, and a clip has at least two; read it as an image")
    return ClipFile(path, first.shape[:2], known, float(fps), None, None, lambda: _read_video(path))


def _kind(path: Path) -> str | None:
    """Return the container that a file begins as, or None.

    A file of another kind, such as a playlist that names further files, is never handed to the decoder.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] in _BOXES:
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "mpeg" if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3") else None


def _capture(path: Path) -> Any:
    if _kind(path) is None:
        raise UserError(f"{path}: is not an mp4, mov, avi, mpeg or DICOM file; {_REMEDY}")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise UserError(
            f"{path}: holds no pictures that can be decoded: it is damaged, or has sound only; {_REMEDY}"
        )
    return capture


def _read_video(path: Path) -> Iterator[GrayImage]:
    """Yield the frames of a video, and refuse one whose frames are unevenly far apart in time."""
    capture = _capture(path)
    try:
        first_gap: float | None = None
        last: float | None = None
        number = 0
        while True:
            is_frame, frame = capture.read()
            if not is_frame:
                return
            moment = float(capture.get(cv2.CAP_PROP_POS_MSEC))
            # The last frames of an mpeg file have no time, which reads as 0.
            gap = moment - last if last is not None and moment > last else None
            if gap is not None and first_gap is None:
                first_gap = gap
            if gap and first_gap and not 1 / _UNEVEN <= gap / first_gap <= _UNEVEN:
                raise UserError(
                    f"{path}: frames follow each other at a variable rate: {first_gap:.0f} ms at first, "
                    f"{gap:.0f} ms before frame {number + 1}; {_REMEDY}"
                )
            last = moment
            number += 1
            yield frame if frame.ndim == 2 else np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
    finally:
        capture.release()

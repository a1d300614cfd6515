"""Reads ultrasound images and clips from DICOM files, one frame at a time."""

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from usrl.data.reading.frames import Frame, Region
from usrl.data.reading.tables import clean
from usrl.data.reading.windows import Window, apply_window, luminance
from usrl.data.sample import GrayImage
from usrl.errors import UserError, brief

DICOM_SUFFIXES = frozenset((".dcm", ".dicom", ".ima"))
MAX_PIXELS = 2**25
"""Most pixels of a frame."""
MAX_FRAMES = 100_000
_MAGIC, _MAGIC_AT = b"DICM", 128
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_CENTIMETRE = 3
"""Code of a region's physical units."""
_TWO_DIMENSIONAL = 1
"""Code of a region's spatial format."""
_TISSUE, _COLOUR_FLOW = 1, 2
"""Codes of a region's data type."""


@dataclass(frozen=True)
class Dicom:
    """What a DICOM file of ultrasound says of itself.

    Attributes:
        path: The file.
        frame: A frame of the file, and where the two-dimensional image is in it. What is outside, such as a
            name that is burned in, is left out.
        count: Number of frames.
        fps: Frames a second, or None if the file does not say.
        spacing_mm: (row, column) pixel size in millimetres, or None if the file does not say.
        patient: A name for the patient from which the id cannot be read, or None if there is no id.
        is_deep: Whether levels have more than 8 bits, or come from a palette, so that frames are scaled.
    """

    path: Path
    frame: Frame
    count: int
    fps: float | None
    spacing_mm: tuple[float, float] | None
    patient: str | None
    is_deep: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the images, px."""
        return self.frame.image_shape

    def frames(self, window: Window | None = None) -> Iterator[GrayImage]:
        """Yield the frames as 8-bit gray, uint8, (H, W), one at a time, cut to the region.

        Colour (RGB, YBR, palette) becomes luminance (ITU-R 601). MONOCHROME1, whose zero is white, is
        inverted. Frames of more than 8 bits are scaled linearly: 0 stays 0 and the largest value of all
        frames becomes 255; the file is then decoded twice. With a window, its ends become 0 and 255 instead.

        Raises:
            UserError: If the file is damaged, ends early or has negative values.
        """
        is_scaled = self.is_deep and window is None
        top = max(int(levels.max()) for levels in self._levels()) if is_scaled else 255
        held = 0
        for levels in self._levels():
            held += 1
            if window is not None:
                yield apply_window(luminance(levels) if levels.ndim == 3 else levels, window)
            else:
                yield _as_gray(levels, top if is_scaled else None)
        if held != self.count:
            raise UserError(f"{self.path}: promises {self.count} frames and holds {held}; export it again")

    def _levels(self) -> Iterator[NDArray[Any]]:
        """Yield the levels of the frames, (H, W) or (H, W, 3), that are not negative."""
        header = Dataset()  # is filled in before the first frame
        frames = iter_pixels(self.path, ds_out=header, specific_tags=list(_PALETTE_TAGS))
        while True:
            with _dicom_errors(self.path):
                if (frame := next(frames, None)) is None:
                    return
                if frame.shape[:2] != self.frame.shape:
                    raise UserError(f"{self.path}: a frame is of shape {frame.shape}; export it again")
                levels = _levels(self.path, self.frame.crop(frame), header)
            yield levels


_PALETTE_TAGS = (0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203)
"""Red, green and blue: what the tables hold, and the tables."""


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def open_dicom(path: Path | str) -> Dicom:
    """Read the header of a DICOM file.

    If there are several two-dimensional regions, one that the scanner has calibrated in centimetres is
    preferred, then tissue to colour flow, then the largest, then the first. Frames are cut to it. Its
    calibration (`PhysicalDeltaX`, `PhysicalDeltaY`) is the pixel size, or else `PixelSpacing`.

    Raises:
        UserError: If the file is not a DICOM file, has no image, or is of a kind that is not read. The
            message says what to do.

    Source:
        DICOM PS3.3 C.8.5.5 (US region calibration), C.7.6.5 (cine), C.7.6.3 (image pixel).
    """
    path = Path(path)
    with _dicom_errors(path):
        if not is_dicom(path):
            raise UserError(f"{path}: is not a DICOM file; export it again, or convert it")
        header = _read_header(path)
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        count = int(header.get("NumberOfFrames") or 1)
        if not (rows > 0 and columns > 0 and rows * columns <= MAX_PIXELS and 0 < count <= MAX_FRAMES):
            raise UserError(
                f"{path}: holds {count} frames of {columns} x {rows} px; at most {MAX_FRAMES} frames of "
                f"{MAX_PIXELS} pixels are read, and at least one; export the ultrasound image or clip"
            )
        _check_pixels(path, header)
        notes: list[str] = []
        region, spacing = _find_region(path, header, (rows, columns), notes)
        rate, patient, is_deep = _rate(path, header), _patient(header), _is_deep(header)
    return Dicom(
        path, Frame((rows, columns), region, "".join(notes[:1])), count, rate, spacing, patient, is_deep
    )


def read_dicom(
    path: Path | str, window: Window | None = None
) -> tuple[GrayImage, tuple[float, float] | None]:
    """Read a DICOM file of one frame: its region as 8-bit gray, uint8, (H, W), and the pixel size, mm.

    Levels are scaled as in `Dicom.frames`.

    Raises:
        UserError: As `open_dicom`, and if there are several frames.
    """
    opened = open_dicom(path)
    if opened.count != 1:
        raise UserError(f"{path}: holds {opened.count} frames; read it as a clip, or export one frame")
    return next(iter(list(opened.frames(window)))), opened.spacing_mm


@contextmanager
def _dicom_errors(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into a `UserError` that names the file; keep its advice quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pydicom raises anything at damaged files
        told = brief(str(error).partition("\n")[0])
        raise UserError(
            f"{path}: is damaged or cannot be decoded ({told}); export it uncompressed or as JPEG"
        ) from error


def _read_header(path: Path) -> Dataset:
    header: Dataset = pydicom.dcmread(path, stop_before_pixels=True, defer_size=1024)
    return header


def _check_pixels(path: Path, header: Dataset) -> None:
    """Refuse pixels of a kind that is not read, before they are decoded."""
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
    kind = str(header.get("PhotometricInterpretation") or "").strip()
    bits, samples = int(header.get("BitsAllocated") or 0), int(header.get("SamplesPerPixel") or 1)
    is_known = (kind in (*_GRAY, _PALETTE) and samples == 1) or (kind in _COLOUR and samples == 3)
    if syntax == DeflatedExplicitVRLittleEndian or not is_known or bits not in (8, 16):
        raise UserError(
            f"{path}: has pixels that are not read (transfer syntax {brief(syntax.name)}, photometric "
            f"interpretation {brief(kind)}, {samples} samples of {bits} bits); export it as RGB or "
            "MONOCHROME2 of 8 bits, uncompressed or as JPEG"
        )


def _is_deep(header: Dataset) -> bool:
    return int(header.get("BitsAllocated") or 8) > 8 or header.get("PhotometricInterpretation") == _PALETTE


def _levels(path: Path, frame: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Return the levels of a decoded frame, (H, W) or (H, W, 3), that are not negative."""
    kind = header.PhotometricInterpretation
    if kind == _PALETTE:
        return np.asarray(apply_color_lut(frame, header))[..., :3]
    if frame.dtype.kind not in "ui" or (frame.dtype.kind == "i" and frame.size and frame.min() < 0):
        raise UserError(f"{path}: holds values below 0 or fractions; export it as 8-bit gray")
    if kind == "MONOCHROME1":
        stored = int(header.get("BitsStored") or header.BitsAllocated)
        return np.asarray(np.maximum((1 << stored) - 1 - frame.astype(np.int64), 0))
    return frame


def _as_gray(levels: NDArray[Any], top: int | None) -> GrayImage:
    """Return levels, (H, W) or (H, W, 3), as 8-bit gray; those of 8 bits as they are."""
    if top is not None:
        levels = np.rint(levels * (255.0 / top if top > 0 else 0.0))
    levels = np.ascontiguousarray(levels, np.uint8)
    return levels if levels.ndim == 2 else np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), np.uint8)


def _number(value: Any) -> float | None:
    """Return a positive finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _rate(path: Path, header: Dataset) -> float | None:
    """Return the frames a second."""
    times = header.get("FrameTimeVector")
    if isinstance(times, list | tuple | pydicom.multival.MultiValue) and len(times) > 2:
        gaps = [_number(value) for value in times[1:]]  # ms; the first is 0
        known = [gap for gap in gaps if gap is not None]
        if len(known) < len(gaps) or max(known) > 1.5 * min(known):
            raise UserError(
                f"{path}: its frames follow each other at a variable rate; export it at a constant one"
            )
        return 1000 * len(known) / sum(known)
    if frame_time := _number(header.get("FrameTime")):
        return _number(1000 / frame_time)
    return _number(header.get("CineRate")) or _number(header.get("RecommendedDisplayFrameRate"))


def _find_region(
    path: Path, header: Dataset, shape: tuple[int, int], notes: list[str]
) -> tuple[Region | None, tuple[float, float] | None]:
    """Return the region of the image in a frame and the (row, column) pixel size, mm."""
    found: list[tuple[tuple[bool, bool, int], Region, tuple[float, float] | None]] = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        kind = region.get("RegionDataType")
        if kind not in (_TISSUE, _COLOUR_FLOW) or region.get("RegionSpatialFormat") != _TWO_DIMENSIONAL:
            continue
        x0, y0, x1, y1 = (
            int(region.get(f"RegionLocation{corner}") or 0) for corner in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        )
        corners = max(x0, 0), max(y0, 0), min(x1 + 1, shape[1]), min(y1 + 1, shape[0])
        if corners[0] >= corners[2] or corners[1] >= corners[3]:
            continue
        if x1 > shape[1] or y1 > shape[0]:
            notes.append(
                f"a region ends beyond the frame, at {x1}, {y1} of {shape[1]} x {shape[0]} px, so "
                "the file has been cut or shrunk; check the pixel size"
            )
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        steps = [_number(abs(region.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX"]
        is_known = units == (_CENTIMETRE, _CENTIMETRE)
        spacing = (10 * steps[0], 10 * steps[1]) if is_known and steps[0] and steps[1] else None
        area = (corners[2] - corners[0]) * (corners[3] - corners[1])
        found.append(((spacing is not None, kind == _TISSUE, area), corners, spacing))
    best = max(found, key=lambda each: each[0], default=None)
    if best is not None and best[2] is not None:
        return best[1], best[2]
    return None if best is None else best[1], _pixel_spacing(header)


def _pixel_spacing(header: Dataset) -> tuple[float, float] | None:
    spacing = header.get("PixelSpacing")
    if isinstance(spacing, list | tuple | pydicom.multival.MultiValue) and len(spacing) == 2:
        row, column = _number(spacing[0]), _number(spacing[1])
        return (row, column) if row and column else None
    return None


def _patient(header: Dataset) -> str | None:
    """Return a short digest of the patient's id: it keeps clips of a patient together and names nobody."""
    number = clean(str(header.get("PatientID") or ""))
    return f"patient-{hashlib.sha256(number.encode()).hexdigest()[:12]}" if number else None

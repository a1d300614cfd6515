"""Reads images of every kind that people have, for `segment`, `annotate` and the data set `folder` alike.

PNG, TIFF, BMP, JPEG, WebP, PGM, PPM, GIF (`usrl.data.reading.files`), DICOM (`usrl.data.reading.dicom`),
NIfTI (`usrl.data.reading.nifti`), NRRD and MetaImage (`usrl.data.reading.itk`). Levels become 8-bit gray, by
a window if one is given. Of all that a file says of itself, only pixels, pixel size and a digest of the
patient are kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.reading.dicom import DICOM_SUFFIXES, open_dicom, read_dicom
from usrl.data.reading.files import has_more_than_8_bits, kind_of, list_images, read_gray, read_shape
from usrl.data.reading.frames import Frame
from usrl.data.reading.itk import ITK_SUFFIXES, describe_itk, read_itk
from usrl.data.reading.nifti import SUFFIXES as NIFTI_SUFFIXES
from usrl.data.reading.nifti import describe_plane, read_plane
from usrl.data.reading.windows import Window, apply_window, luminance, scale_by_largest
from usrl.data.sample import GrayImage
from usrl.errors import UserError


@dataclass(frozen=True)
class ImageFile:
    """What the header of an image file says.

    Attributes:
        path: The file.
        shape: (H, W) of the image, px.
        spacing_mm: (row, column) pixel size in millimetres, or None if it is unknown.
        patient: A name for the patient that does not tell the id, or None if it is unknown.
        frame: The picture in the file, of which the image may be a region.
        is_deep: Whether levels have more than 8 bits, so that they are scaled without a window.
    """

    path: Path
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    patient: str | None
    frame: Frame
    is_deep: bool


def open_image(path: Path | str) -> ImageFile:
    """Return what the header of an image file says, without reading the pixels.

    Raises:
        UserError: If the file is absent or damaged, or is not an image but, say, a clip or a volume.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "dicom":
        opened = open_dicom(path)
        if opened.count != 1:
            told = f"is a clip of {opened.count} frames; read it as a clip, or export one frame"
            raise UserError(f"{path}: {told}")
        frame, is_deep = opened.frame, opened.is_deep
        return ImageFile(path, opened.shape, opened.spacing_mm, opened.patient, frame, is_deep)
    if kind == "picture":
        shape = read_shape(path)
        return ImageFile(path, shape, None, None, Frame(shape), has_more_than_8_bits(path))
    shape, spacing, dtype = describe_plane(path) if kind == "nifti" else describe_itk(path)
    return ImageFile(path, shape, spacing, None, Frame(shape), dtype != np.uint8)


def read_image(path: Path | str, window: Window | None = None) -> tuple[GrayImage, ImageFile]:
    """Read an image file of any kind as 8-bit gray.

    Colours become luminance (ITU-R 601). Images of more than 8 bits are scaled linearly: 0 stays 0 and the
    largest level becomes 255. With a window, its two levels become 0 and 255, whatever the depth, and levels
    may be negative. A DICOM frame is cut to its two-dimensional region, so that burned-in text is left out.

    Returns:
        The image, uint8, (H, W), and what the file says of it.

    Raises:
        UserError: As `open_image`; and if levels are negative without a window, or not finite.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "picture":
        gray = read_gray(path, window)
        return gray, ImageFile(path, gray.shape, None, None, Frame(gray.shape), has_more_than_8_bits(path))
    opened = open_image(path)
    if kind == "dicom":
        return read_dicom(path, window)[0], opened
    values, _ = read_plane(path) if kind == "nifti" else read_itk(path)
    return _as_gray(path, values, window), opened


def list_readable(folder: Path) -> list[Path]:
    """Return the image files of every kind in a folder, sorted, without hidden ones and with broken links."""
    suffixes = (*DICOM_SUFFIXES, *NIFTI_SUFFIXES, *ITK_SUFFIXES)
    more = [path for path in folder.iterdir() if path.name.lower().endswith(suffixes)]
    more = [path for path in more if not path.name.startswith(".") and (path.is_file() or path.is_symlink())]
    return sorted([*list_images(folder), *more])


def _as_gray(path: Path, values: NDArray[Any], window: Window | None) -> GrayImage:
    """Return values, (H, W) or (H, W, 3), as 8-bit gray."""
    levels = luminance(values) if values.ndim == 3 else values
    if levels.dtype.kind == "f" and not np.isfinite(levels).all():
        raise UserError(f"{path}: has values that are not finite; replace them and save it again")
    if window is not None:
        return apply_window(levels, window)
    if levels.dtype == np.uint8:
        return levels
    if levels.min() < 0:
        raise UserError(f"{path}: has negative values down to {levels.min():g}; state a window, LOW,HIGH")
    return scale_by_largest(levels)

"""Reading images and masks from files that users bring.

All of them are turned as their EXIF orientation says: so viewers show them, and boxes are read off there.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from usrl.data.sample import BoolMask, GrayImage
from usrl.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".gif"}
)
"""Files with these suffixes, in any case, are taken for images; others in a folder are ignored."""
_NO_TEXT = re.compile(r"[\t\ud800-\udfff]")
"""What no table can hold: its separator, and what Python makes of bytes that are no UTF-8."""


def read_gray(path: Path | str) -> GrayImage:
    """Read an image file as 8-bit gray.

    Gray, RGB, palette and 1-bit images are converted to luminance (ITU-R 601); alpha is dropped, so that
    the pixels below it count. Images of more than 8 bits (16-bit, 32-bit integer, float) are scaled
    linearly so that 0 stays 0 and their largest value becomes 255.

    Args:
        path: File in any format that Pillow reads.

    Returns:
        Gray image, uint8, shape (H, W).

    Raises:
        UserError: If the file is absent, is not an image, is damaged, holds several frames, has negative or
            non-finite values, or is too large to be decoded safely.
    """
    path = Path(path)
    with _opened(path) as image:
        if _is_deep(image):
            values = _deep_values(path, image)
            top = values.max()
            return np.asarray(np.rint(values * (255.0 / top if top > 0 else 0.0)), np.uint8)
        return _luminance(image)


def read_shape(path: Path | str) -> tuple[int, int]:
    """Return the height and width in px that ``read_gray`` gives an image file, without converting it.

    Args:
        path: File in any format that Pillow reads.

    Raises:
        UserError: If the file is absent, is not an image, is damaged, holds several frames, or is too large.
    """
    with _opened(Path(path)) as image:
        return image.height, image.width


def read_mask(path: Path | str) -> BoolMask:
    """Read a mask file: foreground is where the luminance exceeds 127, whatever the alpha.

    Masks of more than 8 bits are foreground where they exceed half of their largest value.

    Args:
        path: File in any format that Pillow reads: 1-bit, gray, palette, RGB or RGBA.

    Returns:
        Mask, bool, shape (H, W).

    Raises:
        UserError: As ``read_gray``, and if the mask is not zero and yet nowhere above 127: it holds class
            numbers, most likely.
    """
    path = Path(path)
    with _opened(path) as image:
        if _is_deep(image):
            values = _deep_values(path, image)
            return np.asarray(values > values.max() / 2, np.bool_)
        gray = _luminance(image)
    top = int(gray.max())
    if 0 < top <= 127:
        raise UserError(
            f"{path}: its largest value is {top}, and foreground begins above 127; "
            "multiply class numbers so that foreground is 255"
        )
    return gray > 127


def read_classes(path: Path | str) -> GrayImage:
    """Read a mask file of class numbers: the indices of a palette, or gray levels, whatever their colours.

    Args:
        path: File in any format that Pillow reads: palette or 8-bit gray.

    Returns:
        Class of every pixel, uint8, shape (H, W).

    Raises:
        UserError: As ``read_gray``, and if the file holds colours, which have no number.
    """
    path = Path(path)
    with _opened(path) as image:
        if image.mode not in ("P", "L"):
            raise UserError(
                f"{path}: holds no class numbers but colours or levels of mode {image.mode!r}; "
                "export the mask as a palette PNG again"
            )
        return np.array(image, np.uint8)


def check_name(path: Path) -> None:
    """Refuse the name of an image that a line of a split or a report, which are text, could not hold.

    Args:
        path: The image file.

    Raises:
        UserError: If its stem is no UTF-8, or holds a tab or the end of a line.
    """
    if _NO_TEXT.search(path.stem) or path.stem.splitlines() != [path.stem]:
        raise UserError(
            f"{str(path)!r}: this name cannot be written as a line of UTF-8 text; rename the file"
        )


def has_more_than_8_bits(path: Path) -> bool:
    """Return whether ``read_gray`` scales an image that it can read, from the file's header."""
    with Image.open(path) as image:
        return _is_deep(image)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder by name, hidden ones left out; links to nothing are among them.

    Args:
        folder: An existing folder.

    Returns:
        Paths with one of ``IMAGE_SUFFIXES``, sorted.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image the right way up, and turn all that can go wrong with it into a ``UserError``."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: {what}; give the path of an image file")
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF to memory and scrambles it where it is turned.
        with path.open("rb") as file, Image.open(file) as image:
            _check_header(path, image)
            image.load()  # before its EXIF: a damaged file is an error, damaged EXIF counts as none
            with suppress(SyntaxError):
                ImageOps.exif_transpose(image, in_place=True)
            yield image
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be read; convert it to PNG") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path}: has too many pixels to be decoded safely; crop or shrink it first"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: is damaged or cannot be read ({error}); download or export it again"
        ) from error


def _check_header(path: Path, image: Image.Image) -> None:
    """Refuse what should not be decoded: several frames, or more pixels than Pillow deems safe."""
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise UserError(f"{path}: holds {frames} frames; save the one to use as a PNG of its own")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UserError(f"{path}: has too many pixels to be decoded safely; crop or shrink it first")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _luminance(image: Image.Image) -> GrayImage:
    """Return the luminance of an 8-bit image, alpha dropped."""
    if image.mode in ("P", "PA"):  # by way of RGBA, as a palette's own transparency is dropped with a warning
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.array(image.convert("L"), np.uint8)


def _deep_values(path: Path, image: Image.Image) -> NDArray[np.float64]:
    """Return the values of an image of more than 8 bits, refused where they have no gray level."""
    numbers = np.asarray(image).astype(np.float64)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise UserError(
            f"{path}: has negative or non-finite values; rescale it to 8-bit gray and save it as PNG"
        )
    return numbers

"""Reads pictures and masks from users' files, turned as their EXIF orientation says.

Viewers show them so, and users read the sides of boxes from viewers. Masks may be NIfTI, NRRD and MetaImage
too. `usrl.data.reading.images` reads images of every kind.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from usrl.data.reading.dicom import DICOM_SUFFIXES, is_dicom
from usrl.data.reading.itk import ITK_SUFFIXES, read_itk
from usrl.data.reading.nifti import SUFFIXES as NIFTI_SUFFIXES
from usrl.data.reading.nifti import read_plane
from usrl.data.reading.windows import Window, apply_window, luminance, scale_by_largest
from usrl.data.sample import BoolMask, GrayImage, Labels, numbers_in
from usrl.errors import UserError
from usrl.files import check_path

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .pgm .ppm .gif".split())
"""Files with these suffixes, in upper or lower case, are images; others in a folder are ignored."""
MAX_CLASS = 32
"""In a mask of more than two values, whole numbers up to this one are class numbers."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
_LOSSY = ("JPEG", "MPO", "WEBP")
_NO_TEXT = re.compile(r"[\t\ud800-\udfff]")
"""Characters that no table can hold: tabs, and those that Python uses for bytes that are not UTF-8."""
_BLOCK_ROWS = 256
_WHOLE = 1e-4
"""A number of a label map that is stored as a fraction is this near to a whole one."""
_GRAY_SPREAD = 8
"""Channels that differ by no more than this are gray: JPEG does not keep gray exactly."""
_TINT = 12
"""Levels by which a channel of a colour may differ from the colour that it means."""
_FEW_LEVELS = 16
"""A mask with a smooth outline has more levels than this, or only levels that fill no area."""
_MOST_BETWEEN = 0.4
"""Largest share of pixels of a mask that may be between background and foreground."""
_BITS, _PHOTOMETRIC = ExifTags.Base.BitsPerSample, ExifTags.Base.PhotometricInterpretation
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row and both steps of the passes of an interlaced PNG."""
_TOO_LARGE = "{}: has too many pixels to be decoded safely; crop or shrink it first"
_DAMAGED = "{}: is damaged or cannot be read ({}); download or export it again"
Values = NDArray[Any]
"""Levels of an image, (H, W), in the type of its file."""


def kind_of(path: Path) -> Literal["picture", "dicom", "nifti", "itk"]:
    """Return what a file is: by its suffix, and for DICOM by its beginning too."""
    suffix = path.suffix.lower()
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return "nifti"
    if suffix in ITK_SUFFIXES:
        return "itk"
    return "dicom" if suffix in DICOM_SUFFIXES or is_dicom(check_path(path)) else "picture"


def read_gray(path: Path | str, window: Window | None = None) -> GrayImage:
    """Read a picture (PNG, TIFF and so on) as 8-bit gray.

    Gray, RGB, palette and 1-bit images are converted to luminance (ITU-R 601). Alpha is dropped, so that
    the pixels below it count. Images of more than 8 bits (16-bit, 32-bit integer, float) are scaled
    linearly: 0 stays 0 and their largest value becomes 255. With a window, its two levels become 0 and 255
    instead, whatever the depth. A TIFF whose zero is white is inverted.

    Raises:
        UserError: If the file is absent, not an image, damaged or too large to be decoded safely, has
            several frames, or has values that are not finite, or negative ones without a window.
    """
    path = Path(path)
    with _opened(path) as image:
        if not _is_deep(image):
            gray = _luminance(image)
            return gray if window is None else apply_window(gray, window)
        values = _deep_values(path, image, may_be_negative=window is not None)
    return scale_by_largest(values) if window is None else apply_window(values, window)


def read_shape(path: Path | str) -> tuple[int, int]:
    """Return the (H, W) of an image file as `read_gray` would read it, px."""
    with _opened(Path(path)) as image:
        return image.height, image.width


def read_mask(path: Path | str) -> BoolMask:
    """Read a mask of one structure; refuse class numbers, and what `read_labels` refuses."""
    labels, foreground = read_labels(path)
    if foreground is None:
        raise UserError(
            f"{path}: holds class numbers up to {labels.max()}, and a mask of one structure is wanted; write "
            "0 on the background and 255 on the structure"
        )
    return labels.view(np.bool_)


def read_labels(path: Path | str) -> tuple[Labels, int | None]:
    """Read a mask, or a map of class numbers.

    Files of one or two values are masks at any depth: the larger value is foreground, and a single one is
    foreground if it is not 0. Whole numbers up to `MAX_CLASS`, and the indices of a palette, are class
    numbers. A mask with a smooth outline (JPEG, anti-aliased) is foreground above half: above 127, or in
    files of more than 8 bits above half of the largest value. Files with several colours, with gray levels
    that are not class numbers, or with a shape only in alpha are refused.

    Returns:
        Labels, uint8, (H, W). For class numbers, also None. For a mask, whose labels are 0 and 1, also the
        file's value on the foreground; 255 if it has several.
    """
    path = Path(path)
    values, is_index, is_lossy = _mask_values(path)
    found = numbers_in(values)
    top = found[-1]
    if len(found) <= 2:
        is_whole = top == int(top) and 0 < top < 256
        inside = values == top if top > 0 else np.zeros(values.shape, np.bool_)
        return inside.view(np.uint8), int(top) if is_whole else 255
    listed = f"{', '.join(f'{level:g}' for level in found[:4])}{', ...' if len(found) > 4 else ''}"
    is_class = is_index or bool(top <= MAX_CLASS and (found == np.floor(found)).all())
    if is_class and not is_lossy:
        return values.astype(np.uint8), None
    remedy = "write 0 and 255 for a mask, or class numbers 0, 1, 2, ... for several structures"
    if is_class or (values.dtype == np.uint8 and top <= 127):
        raise UserError(
            f"{path}: has {len(found)} values up to {top:g} ({listed}), and foreground begins above 127; "
            f"{remedy}, in a format without loss"
        )
    if not _is_smooth(values, found):
        raise UserError(f"{path}: has {len(found)} gray levels ({listed}) instead of two; {remedy}")
    half = 127 if values.dtype == np.uint8 else top / 2
    return np.asarray(values > half).view(np.uint8), 255


def read_classes(path: Path | str, known: tuple[int, ...]) -> Labels:
    """Read the class of every pixel: the indices of a palette, or gray levels.

    Numbers other than 0 and the known ones are refused. If one is known, a mask of two values is read too.
    """
    path = Path(path)
    values, _, _ = _mask_values(path)
    found = numbers_in(values)
    if unknown := [level for level in found.tolist() if level not in {0, *known}]:
        if len(known) == 1 and len(found) <= 2:
            return (values == found[-1]).astype(np.uint8) * np.uint8(known[0])
        raise UserError(
            f"{path}: holds class {unknown[0]:g}, and classes are {', '.join(map(str, (0, *known)))}; export "
            "the mask with its class numbers again"
        )
    return values.astype(np.uint8)


def read_nearest_colours(path: Path | str, colours: NDArray[np.uint8]) -> Labels:
    """Read an annotation in colours: each pixel gets the number of the nearest of some colours, (C, 3).

    Outlines may be smoothed. A file is refused if less than half of its pixels have one of the colours, each
    channel within `_TINT`.
    """
    path = Path(path)
    with _opened(path) as image:
        channels = np.asarray(image.convert("RGB")).astype(np.int32)  # (H, W, 3)
    labels = np.empty(channels.shape[:2], np.uint8)
    near = 0
    for row in range(0, len(channels), _BLOCK_ROWS):
        apart = channels[row : row + _BLOCK_ROWS, :, None] - colours.astype(np.int32)  # (h, W, C, 3)
        labels[row : row + _BLOCK_ROWS] = np.square(apart).sum(axis=-1).argmin(axis=-1)
        near += int((np.abs(apart).max(axis=-1).min(axis=-1) <= _TINT).sum())
    if 2 * near < labels.size:
        raise UserError(
            f"{path}: {near / labels.size:.0%} of its pixels have one of the annotation's colours, and half "
            "or more are wanted; restore the annotation"
        )
    return labels


def check_name(path: Path) -> None:
    """Refuse an image's name that does not fit in a line of text: not UTF-8, or with a tab or a line end."""
    if _NO_TEXT.search(path.stem) or path.stem.splitlines() != [path.stem]:
        raise UserError(
            f"{str(path)!r}: this name cannot be written as a line of UTF-8 text; rename the file"
        )


def has_more_than_8_bits(path: Path) -> bool:
    """Return whether `read_gray` scales an image that it can read, from the file's header."""
    with Image.open(path, formats=_FORMATS) as image:
        return _is_deep(image)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted, without hidden ones and with broken links."""
    named = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(p for p in named if not p.name.startswith(".") and (p.is_file() or p.is_symlink()))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image the right way up, and turn every error into a `UserError`."""
    if not check_path(path).is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: {what}; give the path of an image file")
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF to memory and scrambles it if it is turned.
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            _check_header(path, image)
            _is_deep_colour(image)  # remembers it, as only the header says it
            image.load()  # before its EXIF: a damaged file is an error, damaged EXIF is ignored
            if image.format == "PNG":
                _check_rows(path, image)
            with suppress(SyntaxError):
                image.info["orientation"] = image.getexif().get(ExifTags.Base.Orientation, 1)
                ImageOps.exif_transpose(image, in_place=True)
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be read; convert it to PNG") from error
    except Image.DecompressionBombError as error:
        raise UserError(_TOO_LARGE.format(path)) from error
    except Exception as error:  # decoders raise anything at damaged files: TypeError, KeyError, struct.error
        raise UserError(_DAMAGED.format(path, error)) from error


def _check_header(path: Path, image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise UserError(f"{path}: holds {frames} frames; save the one to use as a PNG of its own")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UserError(_TOO_LARGE.format(path))


def _check_rows(path: Path, image: Image.Image) -> None:
    """Refuse a PNG with fewer rows than its header says, which Pillow fills with 0 in silence."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    if not image.info.get("interlace") and np.asarray(last).any():
        return
    data = path.read_bytes()
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour, is_interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    wanted = 0
    for x, y, step_x, step_y in _ADAM7 if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // step_x), -((y - height) // step_y)
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    if _inflated_size(data, wanted) < wanted:
        raise UserError(_DAMAGED.format(path, "rows are missing"))


def _inflated_size(data: bytes, wanted: int) -> int:
    """Return the number of bytes of a PNG's pixels, counted up to the wanted number."""
    inflate, size, place = zlib.decompressobj(), 0, 8
    while place + 8 <= len(data) and size < wanted:
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        chunk = data[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        while chunk and size < wanted:
            size += len(inflate.decompress(chunk, 1 << 20))
            chunk = inflate.unconsumed_tail
        place += 12 + length
    return size if size >= wanted else size + len(inflate.flush())


def _is_deep(image: Image.Image) -> bool:
    """Return whether a file has more than 8 bits."""
    return image.mode.startswith(("I", "F")) or _is_deep_colour(image)


def _is_deep_colour(image: Image.Image) -> bool:
    """Return whether a file has several channels of 16 bits. Pillow keeps only their high bytes."""
    if tiles := getattr(image, "tile", None):  # gone once it is loaded
        image.info["is_deep_colour"] = ";16" in str(tiles[0].args) and not image.mode.startswith(("I", "F"))
    return bool(image.info.get("is_deep_colour"))


def _deep_values(path: Path, image: Image.Image, may_be_negative: bool = False) -> Values:
    """Return the levels of an image of more than 8 bits; refuse non-finite values, and negative ones."""
    if _is_deep_colour(image):
        return luminance(_deep_channels(path, image))
    values: Values = np.asarray(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is 0
        if values.dtype.kind == "f":
            raise UserError(f"{path}: white is zero and levels are fractions; save it with black as zero")
        values = (2 ** int(np.max(image.tag_v2.get(_BITS, 16))) - 1) - values
    is_finite = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    if not is_finite or (values.min() < 0 and not may_be_negative):
        told = "has negative or non-finite values"
        raise UserError(f"{path}: {told}; rescale it to 8-bit gray and save it, or give a window")
    return values


def _deep_channels(path: Path, image: Image.Image) -> Values:
    """Return red, green and blue of an image with channels of 16 bits, uint16, (H, W, 3)."""
    read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if read is None or read.dtype != np.uint16 or read.ndim != 3 or image.mode not in ("RGB", "RGBA", "LA"):
        raise UserError(f"{path}: 16-bit channels in mode {image.mode} are not read; save it as 8-bit gray")
    channels: Values = read[..., 2::-1]
    turn = image.info.get("orientation", 1)  # as its EXIF says; Pillow turns only what it decodes itself
    channels = channels.swapaxes(0, 1) if turn > 4 else channels
    return channels[:: -1 if turn in (3, 4, 7, 8) else 1, :: -1 if turn in (2, 3, 6, 7) else 1]


def _mask_values(path: Path) -> tuple[Values, bool, bool]:
    """Return the levels of a mask file, (H, W); whether they are indices, and whether its format has loss."""
    kind = kind_of(path)
    if kind == "picture":
        with _opened(path) as image:
            return *_levels(path, image), image.format in _LOSSY
    if kind == "dicom":
        raise UserError(f"{path}: masks are not read from DICOM; save it as PNG, NIfTI or NRRD")
    values, _ = read_plane(path) if kind == "nifti" else read_itk(path)
    if values.ndim == 3:
        raise UserError(f"{path}: has colours, and colours are not class numbers; save one number a pixel")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UserError(f"{path}: has values that are not finite; save it as whole numbers")
        near = np.rint(values)
        values = near if np.abs(values - near).max() < _WHOLE else values
    if values.min() < 0:
        raise UserError(f"{path}: holds {values.min():g}, and class numbers begin at 0; save it again")
    return values, False, False


def _levels(path: Path, image: Image.Image) -> tuple[Values, bool]:
    """Return the levels of a mask file, (H, W), and whether they are indices of a palette."""
    if image.mode == "1":
        return np.asarray(image).view(np.uint8), False
    if image.mode in ("P", "PA"):
        return _indices(image)
    if image.mode.startswith(("I", "F")):
        return _deep_values(path, image), False
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("LA", "La", "RGBA", "RGBa") else np.zeros(1)
    if _is_deep_colour(image):
        values = _gray_of(path, _deep_channels(path, image))
    elif image.mode in ("L", "LA", "La"):
        values = np.asarray(image.getchannel(0))
    else:
        values = _gray_of(path, np.asarray(image.convert("RGB")))
    if alpha.min() != alpha.max() and values.min() == values.max():
        raise UserError(
            f"{path}: the shape is in its alpha channel alone; save it as black and white, without alpha"
        )
    return values, False


def _indices(image: Image.Image) -> tuple[Values, bool]:
    """Return the indices of a palette, or the gray levels of two grays if the first is brighter."""
    indices = np.asarray(image.getchannel(0))
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    used = np.unique(indices)
    is_gray = len(used) <= 2 and bool((palette[used] == palette[used, :1]).all())
    if is_gray and (not palette[used].any() or palette[used[0], 0] > palette[used[-1], 0]):
        return palette[indices, 0], False
    return indices, len(used) > 2


def _gray_of(path: Path, channels: Values) -> Values:
    """Return the levels of channels, (H, W, 3), that are gray, or 255 on the only colour on black."""
    bits = 8 * channels.itemsize
    if int((channels.max(axis=2) - channels.min(axis=2)).max()) <= _GRAY_SPREAD << bits - 8:
        return luminance(channels) if bits > 8 else np.asarray(Image.fromarray(channels).convert("L"))
    packed = np.zeros(channels.shape[:2], np.int64 if bits > 8 else np.uint32)
    for channel in range(3):
        packed = (packed << bits) | channels[..., channel]
    packs, counts = np.unique(packed, return_counts=True)
    if len(packs) == 2 and packs[0] == 0:  # black is background
        return (packed > 0).astype(np.uint8) * np.uint8(255)
    common = packs[np.argsort(-counts, kind="stable")[:3]].tolist()
    found = ", ".join(str(tuple(c >> bits * k & (1 << bits) - 1 for k in (2, 1, 0))) for c in common)
    raise UserError(
        f"{path}: has {len(packs)} colours, such as {found}, and colours are not class numbers; export "
        "the mask as a palette PNG, or as gray levels 0, 1, 2, ..."
    )


def _is_smooth(values: Values, found: Values) -> bool:
    """Return whether all levels between background and foreground are on a smooth outline.

    There no level fills three by three pixels, and few pixels are between.
    """
    top, ends, between, kernel = float(found[-1]), np.float32(found[[0, -1]]), 0, np.ones((3, 3), np.uint8)
    for row in range(0, len(values), _BLOCK_ROWS):
        above = min(row, 1)
        levels = values[row - above : row + _BLOCK_ROWS + 1].astype(np.float32)
        is_flat = (cv2.dilate(levels, kernel) == cv2.erode(levels, kernel))[above:][:_BLOCK_ROWS]
        levels = levels[above:][:_BLOCK_ROWS]
        is_between = (levels > top / 8) & (levels < 7 * top / 8)
        is_solid = ~np.isin(levels, ends) if len(found) <= _FEW_LEVELS else is_between
        if (is_flat & is_solid).any():
            return False
        between += int(is_between.sum())
    return len(found) <= _FEW_LEVELS or between <= _MOST_BETWEEN * values.size


def _luminance(image: Image.Image) -> GrayImage:
    """Return the luminance of an 8-bit image, alpha dropped."""
    if image.mode in ("P", "PA"):  # through RGBA: Pillow would drop a palette's transparency with a warning
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.array(image.convert("L"), np.uint8)

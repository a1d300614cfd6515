"""Images and label maps as NRRD and MetaImage (``.nrrd``, ``.mha``), of two axes or of one slice.

Both have a header of text in front of the pixels. It is read here, and the pixels are inflated no further
than it says: the libraries that read these formats trust a header's sizes, and some damaged files end their
process.

Source: https://teem.sourceforge.net/nrrd/format.html; https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usrl.data.reading.nifti import MAX_PIXELS, check_pixel_size, find_plane
from usrl.data.sample import Spacing
from usrl.errors import UserError, brief
from usrl.files import check_path

ITK_SUFFIXES = frozenset((".nrrd", ".mha"))
_LONGEST_HEADER = 1 << 20
_DAMAGED = "{}: is damaged or cannot be read ({}); export it again"
# fmt: off
_NRRD_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1", "uchar": "u1", "unsigned char": "u1", "uint8": "u1",
    "uint8_t": "u1", "short": "i2", "short int": "i2", "signed short": "i2", "signed short int": "i2",
    "int16": "i2", "int16_t": "i2", "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2",
    "uint16": "u2", "uint16_t": "u2", "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4", "longlong": "i8", "long long": "i8",
    "long long int": "i8", "signed long long": "i8", "int64": "i8", "int64_t": "i8", "ulonglong": "u8",
    "unsigned long long": "u8", "uint64": "u8", "uint64_t": "u8", "float": "f4", "double": "f8",
}
_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}
# fmt: on
Shape = tuple[int, int]


@dataclass(frozen=True)
class _Header:
    """What a header says: sizes and spacings of the axes, channels of a pixel, and how pixels are stored."""

    sizes: tuple[int, ...]
    spacings: tuple[float, ...] | None
    channels: int
    dtype: np.dtype[Any]
    is_packed: bool
    start: int


def describe_itk(path: Path) -> tuple[Shape, Spacing | None, np.dtype[Any]]:
    """Return the (H, W) of an image, px, its (row, column) pixel size, mm, and its type, without pixels.

    The pixel size is None if the header does not state it.

    Raises:
        UserError: As `read_itk`.
    """
    path = Path(path)
    header = _parse(path, _read(path, _LONGEST_HEADER))
    return *_place(path, header), header.dtype


def read_itk(path: Path) -> tuple[NDArray[Any], Spacing | None]:
    """Read an image.

    Returns:
        The values, (H, W), or (H, W, 3) for colours of 8 bits: columns are the first axis of the file that
        has more than one voxel, rows the second. Nothing is turned.
        The (row, column) pixel size, mm; None if the header does not state it.

    Raises:
        UserError: If the file is absent, damaged or too large, a volume, has its pixels in another file, or
            stores them in a way that is not read.
    """
    path = Path(path)
    data = _read(path, 8 * MAX_PIXELS + _LONGEST_HEADER)
    header = _parse(path, data[:_LONGEST_HEADER])
    (height, width), spacing = _place(path, header)
    wanted = height * width * header.channels * header.dtype.itemsize
    pixels = memoryview(data)[header.start :]
    if header.is_packed:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib and gzip alike
        try:
            pixels = memoryview(inflate.decompress(pixels, wanted + 1))
        except zlib.error as error:
            raise UserError(_DAMAGED.format(path, error)) from error
        if len(pixels) != wanted or not inflate.eof:  # at its end the checksum has been compared
            raise UserError(_DAMAGED.format(path, "its packed pixels end early or go on"))
    if len(pixels) < wanted:
        raise UserError(_DAMAGED.format(path, "pixels are missing"))
    values = np.frombuffer(pixels[:wanted], header.dtype)
    values = values.astype(header.dtype.newbyteorder("="), copy=False)
    shape = (height, width) if header.channels == 1 else (height, width, header.channels)
    return values.reshape(shape), spacing


def _read(path: Path, count: int) -> bytes:
    if not check_path(path).is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: {what}; give the path of an image file")
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UserError(_DAMAGED.format(path, error.strerror)) from error


def _place(path: Path, header: _Header) -> tuple[Shape, Spacing | None]:
    """Return the (H, W) and the pixel size of the one slice."""
    across, down = find_plane(path, header.sizes)
    width, height = header.sizes[across], header.sizes[down]
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: has {width} x {height} pixels, and at most {MAX_PIXELS} are read; crop it")
    if header.spacings is None:
        return (height, width), None
    return (height, width), check_pixel_size(path, header.spacings[down], header.spacings[across])


def _parse(path: Path, data: bytes) -> _Header:
    return (_parse_nrrd if path.suffix.lower() == ".nrrd" else _parse_meta)(path, data)


def _parse_nrrd(path: Path, data: bytes) -> _Header:
    match = re.match(rb"NRRD000[1-5]\r?\n(.*?)\r?\n\r?\n", data, re.DOTALL)
    if match is None:
        raise UserError(f"{path}: is not an NRRD file, or its header has no end; export it again")
    lines = match[1].decode("latin-1").splitlines()
    pairs = (re.match(r"([^:]+): ?(?!=)(.*)", line) for line in lines if not line.startswith("#"))
    fields = {pair[1].strip().lower(): pair[2].strip() for pair in pairs if pair}
    if {"data file", "datafile"} & fields.keys():
        raise UserError(f"{path}: its pixels are in another file; save it as one .nrrd file")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UserError(f"{path}: has the encoding {brief(encoding)}, and raw and gzip are read; save it so")
    if any(fields.get(key, "0") != "0" for key in ("line skip", "byte skip", "lineskip", "byteskip")):
        raise UserError(f"{path}: skips bytes in front of its pixels; save it again without")
    sizes = _whole(path, fields.get("sizes", ""))
    if fields.get("dimension") != str(len(sizes)):
        raise UserError(
            _DAMAGED.format(path, f"dimension {brief(fields.get('dimension'))} of {len(sizes)} sizes")
        )
    dtype = _dtype(
        path, _NRRD_TYPES, fields.get("type", "").lower(), fields.get("endian", "").lower() == "big"
    )
    spacings = _nrrd_spacings(path, fields, len(sizes))
    kinds = fields.get("kinds", "").split()
    is_colour = bool(kinds) and kinds[0] in ("vector", "RGB-color", "3-color", "list") and len(sizes) > 2
    channels = sizes[0] if is_colour else 1
    if is_colour:
        sizes, spacings = sizes[1:], spacings and spacings[1:]
    _check_channels(path, channels, dtype)
    return _Header(sizes, _stated(spacings), channels, dtype, encoding != "raw", match.end())


def _nrrd_spacings(path: Path, fields: Mapping[str, str], axes: int) -> tuple[float, ...] | None:
    """Return the spacing of every axis. An axis without one has not a number; without any it is None."""
    units = {unit for unit in re.findall(r'"([^"]*)"', fields.get("space units", "")) if unit}
    if units - {"mm"}:
        raise UserError(f"{path}: its unit of length is {brief(', '.join(sorted(units)))}; save it in mm")
    if (text := fields.get("space directions")) is not None:
        vectors = re.findall(r"none|\([^()]*\)", text)
        found = [
            float("nan") if vector == "none" else float(np.linalg.norm(_fractions(path, vector[1:-1], ",")))
            for vector in vectors
        ]
    elif (text := fields.get("spacings")) is not None:
        found = [abs(number) for number in _fractions(path, text)]
    else:
        return None
    if len(found) != axes:
        raise UserError(_DAMAGED.format(path, f"{len(found)} spacings of {axes} axes"))
    return tuple(found)


def _parse_meta(path: Path, data: bytes) -> _Header:
    fields: dict[str, str] = {}
    start = 0
    while "ElementDataFile" not in fields:
        end = data.find(b"\n", start)
        key, equals, value = data[start:end].decode("latin-1").partition("=")
        if end < 0 or not equals:
            raise UserError(f"{path}: is not a MetaImage file, or its header has no end; export it again")
        fields[key.strip()] = value.strip()
        start = end + 1
    if fields["ElementDataFile"].upper() != "LOCAL":
        raise UserError(f"{path}: its pixels are in another file; save it as one .mha file")
    if fields.get("BinaryData", "True").lower() != "true" or fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise UserError(f"{path}: its pixels are text, or bytes in front of them are skipped; save it again")
    sizes = _whole(path, fields.get("DimSize", ""))
    if fields.get("NDims") != str(len(sizes)):
        raise UserError(_DAMAGED.format(path, f"NDims {brief(fields.get('NDims'))} of {len(sizes)} sizes"))
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = _dtype(
        path, _META_TYPES, fields.get("ElementType", "").removesuffix("_ARRAY"), order.lower() == "true"
    )
    channels = _whole(path, fields.get("ElementNumberOfChannels", "1"))[0]
    _check_channels(path, channels, dtype)
    text = fields.get("ElementSpacing", fields.get("ElementSize"))
    spacings = None if text is None else tuple(map(abs, _fractions(path, text)))
    if spacings is not None and len(spacings) != len(sizes):
        raise UserError(_DAMAGED.format(path, f"{len(spacings)} spacings of {len(sizes)} axes"))
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    return _Header(sizes, _stated(spacings), channels, dtype, is_packed, start)


def _stated(spacings: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Return spacings, or None if none of them is a number."""
    return None if spacings is None or np.isnan(spacings).all() else spacings


def _whole(path: Path, text: str) -> tuple[int, ...]:
    """Return 1 to 16 whole numbers above 0."""
    words = text.split()
    if not 1 <= len(words) <= 16 or not all(re.fullmatch(r"[1-9][0-9]{0,8}", word) for word in words):
        raise UserError(_DAMAGED.format(path, f"sizes are {brief(text)}"))
    return tuple(map(int, words))


def _fractions(path: Path, text: str, separator: str | None = None) -> list[float]:
    words = text.split(separator)
    try:
        return [float(word) for word in words[:16]]
    except ValueError:
        raise UserError(_DAMAGED.format(path, f"spacings are {brief(text)}")) from None


def _dtype(path: Path, known: Mapping[str, str], name: str, is_big: bool) -> np.dtype[Any]:
    if name not in known:
        raise UserError(f"{path}: holds pixels of type {brief(name)}, and numbers are read; save it as such")
    return np.dtype(known[name]).newbyteorder(">" if is_big else "<")


def _check_channels(path: Path, channels: int, dtype: np.dtype[Any]) -> None:
    if channels != 1 and (channels != 3 or dtype != np.uint8):
        raise UserError(
            f"{path}: has {channels} channels of {dtype.name}, and one, or three of 8 bits, are read; save "
            "it as "
            "gray, or as one label map of numbers"
        )

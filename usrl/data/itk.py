"""Images and label maps as NRRD and MetaImage (``.nrrd``, ``.mha``), of two axes or of one slice.

SimpleITK reads them. Their headers are texts, and are looked at before: a header may name another file as the
place of its pixels, and may leave the spacing out, for which SimpleITK says 1.
"""

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from usrl.data.bodies.nifti import MAX_PIXELS, check_pixel_size, find_plane
from usrl.errors import UserError, brief
from usrl.files import check_path

ITK_SUFFIXES = frozenset((".nrrd", ".mha"))
_READERS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}
_LONGEST_HEADER = 1 << 20
_SPACING = re.compile(rb"^(space directions|spacings|ElementSpacing|ElementSize)\s*[:=]\s*(.*)$", re.I | re.M)
_DETACHED = re.compile(rb"^(data ?file\s*:|ElementDataFile\s*=(?!\s*LOCAL\s*$))", re.I | re.M)
_UNITS = re.compile(rb"^space units\s*:\s*(.*)$", re.I | re.M)
_DAMAGED = "{}: is damaged or cannot be read ({}); export it again"
Shape = tuple[int, int]
Spacing = tuple[float, float]


def describe_itk(path: Path) -> tuple[Shape, Spacing | None]:
    """Return the (H, W) of an image, px, and its (row, column) pixel size, mm, from the header alone.

    The pixel size is None if the header does not state it.

    Raises:
        UserError: As `read_itk`.
    """
    return _open(Path(path))[1:]


def read_itk(path: Path) -> tuple[NDArray[Any], Spacing | None]:
    """Read an image.

    Returns:
        The values, (H, W), or (H, W, 3) for colours: columns are the first axis of the file that has more
        than one voxel, rows the second. Nothing is turned.
        The (row, column) pixel size, mm; None if the header does not state it.

    Raises:
        UserError: If the file is absent, damaged or too large, a volume, has its pixels in another file, or
            holds anything but numbers or three channels of 8 bits.
    """
    reader, (height, width), spacing = _open(Path(path))
    try:
        import SimpleITK as sitk  # noqa: N813

        values: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise UserError(_DAMAGED.format(path, _told(error))) from error
    channels = reader.GetNumberOfComponents()
    return values.reshape((height, width) if channels == 1 else (height, width, channels)), spacing


def _open(path: Path) -> tuple[Any, Shape, Spacing | None]:
    """Return a reader that knows the header, the shape and the pixel size."""
    import SimpleITK as sitk  # noqa: N813

    if not check_path(path).is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: {what}; give the path of an image file")
    header = _read_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        sides, spacings = reader.GetSize(), reader.GetSpacing()
        channels, kind = reader.GetNumberOfComponents(), reader.GetPixelID()
    except RuntimeError as error:
        raise UserError(_DAMAGED.format(path, _told(error))) from error
    if min(sides) < 1:
        raise UserError(_DAMAGED.format(path, f"its size is {sides}"))
    across, down = find_plane(path, sides)
    width, height = sides[across], sides[down]
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: has {width} x {height} pixels, and at most {MAX_PIXELS} are read; crop it")
    is_colour = kind == sitk.sitkVectorUInt8 and channels == 3
    is_complex = kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
    if not is_colour and (channels != 1 or is_complex):
        raise UserError(
            f"{path}: has {channels} channels of {sitk.GetPixelIDValueAsString(kind)}, and numbers or three "
            "channels of 8 bits are read; save it as gray, or export one label map of numbers"
        )
    stated = _SPACING.search(header)
    if stated is None or b"nan" in stated[2].lower():
        return reader, (height, width), None
    units = _UNITS.search(header)
    if units is not None and set(re.findall(rb"[^\s\"]+", units[1])) - {b"mm"}:
        told = brief(units[1].decode(errors="replace"))
        raise UserError(f"{path}: its unit of length is {told}; save it in mm")
    return reader, (height, width), check_pixel_size(path, spacings[down], spacings[across])


def _read_header(path: Path) -> bytes:
    """Return the text of a header; refuse one that names another file."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_HEADER)
    except OSError as error:
        raise UserError(_DAMAGED.format(path, error.strerror)) from error
    if path.suffix.lower() == ".nrrd":
        if not data.startswith(b"NRRD"):
            raise UserError(f"{path}: is not an NRRD file, though it is named so; export it again")
        header = re.split(rb"\r?\n\r?\n", data, maxsplit=1)[0]
    else:
        header = b"".join(re.split(rb"(^ElementDataFile[^\n]*)", data, maxsplit=1, flags=re.I | re.M)[:2])
    header = header.replace(b"\r", b"")
    if _DETACHED.search(header):
        raise UserError(f"{path}: its pixels are in another file; save it as one file, .nrrd or .mha")
    return header


def _told(error: Exception) -> str:
    """Return the last line of what SimpleITK says of a file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return brief(lines[-1] if lines else "")

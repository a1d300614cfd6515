"""Label volumes as NIfTI files: ``.nii`` and ``.nii.gz``, of versions 1 and 2.

Nibabel knows the header. The voxels are read here, a MiB at a time: a header may claim any size, and some
bytes of gzip may hold gigabytes.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from usrl.errors import UserError
from usrl.files import check_path, write_atomically

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 2**28
"""Voxels of the largest volume that is read, 512 x 512 x 1024: a CT from neck to thighs. It takes 256 MiB."""
MAX_PIXELS = 2**24
"""Pixels of the largest image that is read."""
_MAX_EXTRA = 2**24
"""Bytes of extensions in front of the voxels, and of what comes after them."""
_BLOCK = 2**20
_UNKNOWN = 255
_WHOLE = 1e-4
"""A label that is stored as a fraction, or scaled, is this near to a whole number."""
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_DAMAGED = "{}: is damaged or cannot be read ({}); export it again"
Labels = NDArray[np.uint8]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class LabelVolume:
    """Labels of a file, and where its voxels are.

    Attributes:
        labels: uint8, (I, J, K), along the axes of the file.
        affine: From voxels to mm: x to the right, y to the front and z to the head of the patient, (4, 4).
    """

    labels: Labels
    affine: Affine

    @property
    def spacing_mm(self) -> Affine:
        """Sides of a voxel along the axes of the file, mm, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def list_volumes(folder: Path) -> list[Path]:
    """Return the NIfTI files of a folder, sorted, without hidden ones and with broken links."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES)
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())
    )


def stem_of(path: Path) -> str:
    """Return the name of a NIfTI file without its suffix."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def read_volume(path: Path, codes: Mapping[int, int], table: str) -> LabelVolume:
    """Read a label volume.

    Args:
        path: A NIfTI file of three axes. Its numbers may be stored as integers, or as whole fractions.
        codes: The label from 0 to 254 that takes the place of each number in the file.
        table: Where these come from, as messages call it.

    Raises:
        UserError: If the file is absent, not NIfTI, damaged or too large, has other than three axes or no
            sound spacing and orientation, or holds a number that is not whole or has no code.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = _read_header(path, stream)
        shape, affine = _check_shape(path, header), _check_affine(path, header)
        dtype = _check_dtype(path, header)
        slope, intercept = _read_scale(path, header)
        _skip(path, stream, header)
        labels = np.empty(shape[0] * shape[1] * shape[2], np.uint8)
        encode = _Encoder(codes, dtype, slope, intercept)
        for first, values in _parts(stream, dtype, len(labels)):
            labels[first : first + len(values)] = encode(path, values, table)
        _check_end(path, stream)
    return LabelVolume(labels.reshape(shape, order="F"), affine)


def read_plane(path: Path) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Read an image of two axes, or of one slice, such as a frame of CAMUS, with its pixel size.

    Returns:
        The values, scaled as the header says, (H, W): columns are the first axis of the file that has more
        than one voxel, rows the second. Nothing is turned.
        The (row, column) pixel size, mm; None if it is 1 x 1 and the file names no unit, as it then says
        nothing.

    Raises:
        UserError: If the file is absent, not NIfTI, damaged or too large, a volume, or has no sound spacing.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = _read_header(path, stream)
        (height, width), spacing = _check_plane(path, header)
        dtype = _check_dtype(path, header)
        slope, intercept = _read_scale(path, header)
        _skip(path, stream, header)
        values = np.concatenate([part for _, part in _parts(stream, dtype, width * height)])
        _check_end(path, stream)
    if (slope, intercept) != (1, 0):
        values = values.astype(np.float64) * slope + intercept
    return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(height, width), spacing


def describe_plane(path: Path) -> tuple[tuple[int, int], tuple[float, float] | None, np.dtype[Any]]:
    """Return the (H, W) of an image, px, its pixel size as `read_plane`, and its type, without pixels."""
    path = Path(path)
    with _opened(path) as stream:
        header = _read_header(path, stream)
        return *_check_plane(path, header), _check_dtype(path, header)


def _check_plane(path: Path, header: Any) -> tuple[tuple[int, int], tuple[float, float] | None]:
    """Return the (H, W) and the pixel size of an image of two axes, or of one slice."""
    sides = [int(side) for side in header["dim"]]
    given = sides[1 : 1 + max(0, min(sides[0], 7))]
    if len(given) < 2 or min(given) < 1:
        raise UserError(f"{path}: has the axes {_times(given)}, and two are wanted; save a single image")
    across, down = find_plane(path, given)
    width, height = given[across], given[down]
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: has {width} x {height} pixels, and at most {MAX_PIXELS} are read; crop it")
    return (height, width), _check_spacing(path, header, across, down)


def find_plane(path: Path, sides: Sequence[int]) -> tuple[int, int]:
    """Return the axes of an image's columns and rows; refuse a volume."""
    long = [axis for axis, side in enumerate(sides) if side != 1]
    if len(long) > 2 or max(long, default=0) > 2:
        raise UserError(
            f"{path}: is a volume of {_times(sides)}, and an image is wanted; save one slice as a file "
            "of its own. Whole label volumes are read by --data volumes"
        )
    chosen = sorted([*long, *(axis for axis in range(len(sides)) if axis not in long)][:2])
    return chosen[0], chosen[1]


def _check_spacing(path: Path, header: Any, across: int, down: int) -> tuple[float, float] | None:
    """Return the (row, column) pixel size of an image, mm, or None if it is not stated."""
    try:
        unit = header.get_xyzt_units()[0]
        factor = _MM_PER_UNIT[unit]
    except (HeaderDataError, KeyError) as error:
        raise UserError(_DAMAGED.format(path, f"its unit of length: {error}")) from error
    sides = [float(side) for side in header["pixdim"][1:8]]
    if unit == "unknown" and sides[across] == sides[down] == 1:
        return None
    return check_pixel_size(path, factor * sides[down], factor * sides[across])


def check_pixel_size(path: Path, row: float, column: float) -> tuple[float, float]:
    """Return a (row, column) pixel size, mm; refuse one that no image has."""
    if not all(0.001 <= side <= 100 for side in (row, column)):  # refuses what is not a number too
        raise UserError(
            f"{path}: its spacing is {column:g} x {row:g} mm, and from 0.001 to 100 mm are possible; export "
            "it with its spacing in mm"
        )
    return row, column


def write_volume(path: Path, volume: LabelVolume) -> None:
    """Write a volume as ``.nii.gz``; equal volumes give equal bytes."""
    image = nibabel.Nifti1Image(volume.labels, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    write_atomically(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, compressed or not, and turn errors of reading into a `UserError`."""
    if not check_path(path).is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: {what}; give the path of a NIfTI file")
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_gzip else file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(_DAMAGED.format(path, error)) from error


def _read_header(path: Path, stream: IO[bytes]) -> Any:
    """Return the header of version 1 or 2."""
    start = stream.read(4)
    size = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    kind: Any
    kind, length = (nibabel.Nifti2Header, 540) if 540 in size else (nibabel.Nifti1Header, 348)
    data = start + stream.read(length - len(start))
    magic = data[4:12] if length == 540 else data[344:348]
    if magic[:3] in (b"ni1", b"ni2"):
        raise UserError(f"{path}: is half of a pair (.hdr and .img); save it as one file, such as .nii.gz")
    if not size & {348, 540} or magic[:3] not in (b"n+1", b"n+2"):
        raise UserError(f"{path}: is not a NIfTI file; export it as .nii.gz")
    if len(data) < length:
        raise UserError(_DAMAGED.format(path, "the header is cut off"))
    header = kind(data, check=False)
    if header["pixdim"][0] == 0:  # as old tools write it for 1
        header["pixdim"][0] = 1
    return header


def _check_shape(path: Path, header: Any) -> tuple[int, int, int]:
    sides = [int(side) for side in header["dim"]]
    axes, sides = sides[0], sides[1:]
    given = sides[: max(0, min(axes, 7))]
    if not 3 <= axes <= 7 or any(side != 1 for side in given[3:]):
        raise UserError(
            f"{path}: has {axes} axes ({_times(given)}), and three are wanted; save one volume of labels"
        )
    shape = given[0], given[1], given[2]
    if min(shape) < 1:
        raise UserError(_DAMAGED.format(path, f"its size is {_times(shape)}"))
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise UserError(
            f"{path}: has {_times(shape)} voxels, and at most 512 x 512 x 1024 are read; crop it, or "
            "resample it to larger voxels"
        )
    return shape


def _check_affine(path: Path, header: Any) -> Affine:
    """Return the affine in mm; refuse one without orientation, with a wrong spacing, or sheared."""
    sides = np.asarray(header["pixdim"][1:4], np.float64)
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        raise UserError(
            f"{path}: its spacing is {_times(sides)}, and must be positive; export it with its spacing in mm"
        )
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        raise UserError(
            f"{path}: does not say how it lies in the patient (sform and qform are 0); export it with its "
            "orientation"
        )
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
        unit = header.get_xyzt_units()[0]
    except (HeaderDataError, ValueError, KeyError) as error:
        raise UserError(_DAMAGED.format(path, f"orientation: {error}")) from error
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not np.allclose(lengths, sides, rtol=0.02, atol=0):
        raise UserError(
            f"{path}: gives two spacings, {_times(lengths)} by its affine and {_times(sides)} by its header; "
            "export it again"
        )
    if unit not in _MM_PER_UNIT:
        raise UserError(_DAMAGED.format(path, f"its unit of length is {unit}"))
    directions = affine[:3, :3] / lengths
    if np.abs(directions.T @ directions - np.eye(3)).max() > 0.02:
        raise UserError(f"{path}: its axes are not at right angles; resample it to a grid with right angles")
    affine[:3] *= _MM_PER_UNIT[unit]
    lengths = lengths * _MM_PER_UNIT[unit]
    if lengths.min() < 0.01 or lengths.max() > 100:
        raise UserError(
            f"{path}: its spacing is {_times(lengths)} mm, and from 0.01 to 100 mm are possible; export it "
            "with its spacing in mm"
        )
    return affine


def _times(sides: Iterable[float]) -> str:
    """Return sides as a text such as ``2 x 3 x 4``."""
    return " x ".join(f"{side:g}" if isinstance(side, float) else str(side) for side in sides)


def _check_dtype(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError) as error:
        raise UserError(_DAMAGED.format(path, f"no type of number is {int(header['datatype'])}")) from error
    if dtype.kind not in "iuf" or not 1 <= dtype.itemsize <= 8:
        raise UserError(
            f"{path}: holds {dtype}, and integers are wanted; save labels as 8- or 16-bit integers"
        )
    return dtype


def _read_scale(path: Path, header: Any) -> tuple[float, float]:
    """Return what a stored number is multiplied by, and what is added then."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise UserError(_DAMAGED.format(path, error)) from None
    return (1.0, 0.0) if slope is None else (slope, intercept)


def _skip(path: Path, stream: IO[bytes], header: Any) -> None:
    """Read up to the first voxel."""
    offset, least = float(header["vox_offset"]), int(header.sizeof_hdr)
    if not least <= offset <= _MAX_EXTRA or offset != int(offset):
        raise UserError(_DAMAGED.format(path, f"its voxels begin at byte {offset:g}"))
    stream.read(int(offset) - least)


def _parts(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the voxels in parts of a MiB, with the position of each part."""
    step = _BLOCK // dtype.itemsize
    for first in range(0, count, step):
        wanted = min(step, count - first) * dtype.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            raise EOFError("voxels are missing")
        yield first, np.frombuffer(data, dtype)


def _check_end(path: Path, stream: IO[bytes]) -> None:
    """Read to the end, where gzip keeps its checksum; refuse much more than the header says."""
    rest = 0
    while data := stream.read(_BLOCK):
        rest += len(data)
        if rest > _MAX_EXTRA:
            raise UserError(_DAMAGED.format(path, "it goes on after its last voxel"))


class _Encoder:
    """Turns the numbers of a file into codes."""

    def __init__(
        self, codes: Mapping[int, int], dtype: np.dtype[Any], slope: float, intercept: float
    ) -> None:
        self._slope, self._intercept = slope, intercept
        self._numbers = np.array(sorted(codes), np.int64)
        self._codes = np.array([codes[number] for number in sorted(codes)], np.uint8)
        self._table: Labels | None = None
        if dtype.kind in "iu" and dtype.itemsize <= 2 and (slope, intercept) == (1, 0):
            range_of = np.iinfo(dtype)
            self._table = np.full(2 ** (8 * dtype.itemsize), _UNKNOWN, np.uint8)
            for number, code in codes.items():
                if range_of.min <= number <= range_of.max:
                    self._table[number] = code  # a negative number is at the end, as in two's complement

    def __call__(self, path: Path, values: NDArray[Any], table: str) -> Labels:
        """Return the codes of numbers; name one that is not whole or has none."""
        if self._table is not None:
            native = values.astype(values.dtype.newbyteorder("="), copy=False)
            encoded = self._table[native.view(f"u{values.itemsize}")]
            unknown = encoded == _UNKNOWN
        else:
            values = self._whole(path, values)
            place = np.searchsorted(self._numbers, values).clip(max=len(self._numbers) - 1)
            unknown = self._numbers[place] != values
            encoded = self._codes[place]
        if unknown.any():
            raise UserError(
                f"{path}: holds the label {values[unknown][0]}, which {table} does not name; add it there, "
                "such as `0: outside`"
            )
        return encoded

    def _whole(self, path: Path, values: NDArray[Any]) -> NDArray[Any]:
        """Return scaled numbers as integers."""
        if values.dtype.kind in "iu" and (self._slope, self._intercept) == (1, 0):
            return values
        scaled = values.astype(np.float64) * self._slope + self._intercept
        rounded = np.rint(scaled)
        with np.errstate(invalid="ignore"):
            wrong = ~((np.abs(scaled - rounded) < _WHOLE) & (np.abs(rounded) < 2**53))
        if wrong.any():
            raise UserError(
                f"{path}: holds {scaled[wrong][0]:g}, and labels are whole numbers; resample label maps by "
                "the nearest neighbour, and save them as integers"
            )
        return rounded.astype(np.int64)

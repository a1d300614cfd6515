"""A folder of label volumes of any kind, as bodies for a probe.

Origin, licence and citation are the owner's. Layout: ``labels/NAME.nii.gz`` or ``labels/NAME.nii``, and
``tissues.yaml``, which says what tissue each number is and which side of the patient the probe touches. An
optional ``groups.csv`` with the header ``name,group`` gives each volume its patient, whom splits keep
together; without it, every volume is a group of its own. Expected counts: one target in each volume.

Volumes are turned so that depth is along z, and resampled by the nearest neighbour to the grid of
`usrl.data.bodies.volumes`: the target is in the middle of x and y, and the skin above it is at z = 0. Texture
and speckle are drawn from the recipe's seed and the name of the file.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import nibabel
import numpy as np
import scipy.ndimage
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt2axcodes, ornt_transform
from numpy.typing import NDArray
from pydantic import Field

from usrl.data.bodies.anatomy import draw_speckle, draw_texture
from usrl.data.bodies.dataset import MAX_BODIES, make_body
from usrl.data.bodies.planes import NEARLY_EQUAL, standard_pose
from usrl.data.bodies.poses import DEGREES
from usrl.data.bodies.tissues import LESION, TISSUES, find_tissue
from usrl.data.bodies.volumes import (
    ECHO,
    HALF_MM,
    LABEL,
    SHAPE,
    SPACING_MM,
    VOLUMES,
    Body,
    FloatArray,
    Volumes,
    encode_voxels,
)
from usrl.data.dataset import DataReport, Dataset, find_root, links_out
from usrl.data.reading.files import check_name
from usrl.data.reading.nifti import LabelVolume, list_volumes, read_volume, stem_of, write_volume
from usrl.data.reading.pairs import MAX_LISTED, listed
from usrl.data.reading.tables import clean
from usrl.data.recipe import DataRecipe
from usrl.data.sets.folder import notes_on_groups, read_groups
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError
from usrl.files import check_path, make_empty_folder, write_atomically, writing_to
from usrl.progress import track
from usrl.strict import Strict, check, parse_yaml

TABLE = "tissues.yaml"
FACES = {
    "anterior": "LIP",
    "posterior": "RIA",
    "left": "PIR",
    "right": "AIL",
    "superior": "LAI",
    "inferior": "LPS",
}
"""Where x, y and z of a body point to in the patient, for each side that the probe can touch.

Letters are left, right, anterior, posterior, superior, inferior. All are right-handed: nothing is mirrored.
"""
DEEPEST_MM = SHAPE[2] * SPACING_MM
_STREAM = 0xF11E
"""Keeps the draws of a user's volume apart from those of simulated bodies."""
_OBLIQUE_DEG = 5.0
_OUTSIDE = TISSUES["outside"].label
Labels = NDArray[np.uint8]
Number = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class TissueTable(Strict):
    """What a user says about a folder of label volumes.

    Attributes:
        skin: Side of the patient that the probe touches.
        tissues: Name of the tissue of each number in the volumes.
    """

    skin: Literal["anterior", "posterior", "left", "right", "superior", "inferior"] = "anterior"
    tissues: dict[Number, str] = Field(min_length=1, max_length=65536)


@dataclass(frozen=True)
class Placed:
    """A user's volume on the grid of bodies.

    Attributes:
        labels: Labels of `TISSUES`, uint8, (Y, X, Z).
        standard: Pose of the standard plane, float32, (5,).
        half_axes: Of the target, longest first, mm, float32, (3,).
        remarks: What a user should know, by the sentence that lists the files: a detail for this file.
    """

    labels: Labels
    standard: FloatArray
    half_axes: FloatArray
    remarks: dict[str, str]

    @property
    def depth_mm(self) -> float:
        """Depth of the target's centre, mm."""
        return float((np.nonzero(self.labels == LESION)[2].mean() + 0.5) * SPACING_MM)


@dataclass(frozen=True)
class _Folder:
    """What is in a folder, before volumes are read."""

    root: Path
    table: TissueTable
    files: dict[str, Path]  # by name
    groups: dict[str, str]
    faults: list[str] = field(default_factory=list)


def list_members(data: DataRecipe) -> list[Member]:
    """Return the volumes of a user's folder before they are read; see `load_volumes`."""
    return _members(_list(find_root(data)))


def _members(folder: _Folder) -> list[Member]:
    return [Member(name, folder.groups.get(name, name), "folder") for name in folder.files]


def load_volumes(data: DataRecipe, split: str) -> Volumes:
    """Read a user's folder; keep the volumes of a part of it in memory.

    All files are read, so that a fault of any is found before a training and not after it.

    Raises:
        UserError: If anything is wrong with the folder, or the part would be empty.
    """
    folder = _list(find_root(data))
    members = _members(folder)
    faults = list(folder.faults)
    part = set(folder.files)
    if split != "all" and not faults:
        part = {members[index].name for index in split_samples(members, seed=data.split_seed)[split]}
    kept = []
    for member, outcome in zip(members, _read_all(folder), strict=True):
        if isinstance(outcome, UserError):
            faults.append(str(outcome))
        elif member.name in part:
            kept.append((member, outcome))
    if faults:
        more = [f"... and {len(faults) - MAX_LISTED} more"] if len(faults) > MAX_LISTED else []
        raise UserError("\n".join([*faults[:MAX_LISTED], *more]))
    bodies = (_simulate(placed, member, data.seed) for member, placed in kept)
    return Volumes.from_bodies(list(track(bodies, "Simulating echoes", len(kept), "volumes")))


def check_volumes(data: DataRecipe) -> DataReport:
    """Return counts, what was turned or cut off, and the faults of a user's folder."""
    folder = _list(find_root(data))
    faults, placed = list(folder.faults), {}
    for name, outcome in zip(folder.files, _read_all(folder), strict=True):
        if isinstance(outcome, UserError):
            faults.append(str(outcome))
        else:
            placed[name] = outcome
    sizes = Counter(folder.groups.get(name, name) for name in placed)
    remarks: dict[str, list[str]] = {}
    for name, one in placed.items():
        for sentence, detail in one.remarks.items():
            remarks.setdefault(sentence, []).append(f"{name} ({detail})" if detail else name)
    facts: dict[str, int | str] = {
        "groups of several volumes": sum(size > 1 for size in sizes.values()),
        "memory, all parts": f"{len(placed) * np.prod(SHAPE) * 4 / 2**20:.0f} MiB",
    }
    if placed:
        facts["deepest centre of a target"] = f"{max(one.depth_mm for one in placed.values()):.0f} mm"
    return DataReport(
        name=data.name,
        root=str(folder.root),
        unit="volumes",
        counts={"folder": len(placed)},
        groups=len(sizes),
        facts=facts,
        notes=(
            *(f"{sentence}: {listed(names)}" for sentence, names in remarks.items()),
            *notes_on_groups(folder.groups.values()),
            *links_out(folder.root),
        ),
        faults=tuple(faults),
    )


def read_table(path: Path) -> TissueTable:
    """Read what tissue each number is, and which side the probe touches.

    Raises:
        UserError: If the file is absent, not YAML or has unknown keys, a tissue is unknown, or nothing is the
            target.
    """
    try:
        tree = parse_yaml(check_path(path).read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(
            f"{path}: does not exist; write there what each label is, such as\n"
            "tissues:\n  0: outside\n  1: organ\n  2: lesion"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); save it as UTF-8 text") from None
    table = check(TissueTable, tree, str(path))
    for number, name in table.tissues.items():
        try:
            find_tissue(name)
        except UserError as error:
            raise UserError(f"{path}: tissues.{number}: {error}") from None
    if "lesion" not in table.tissues.values():
        raise UserError(f"{path}: no label is the target; write `lesion` for the one that a probe looks for")
    return table


def place_volume(volume: LabelVolume, skin: str = "anterior") -> Placed:
    """Turn a volume, and resample it to the grid of bodies.

    Args:
        volume: Labels of `TISSUES`.
        skin: The side that the probe touches, of `FACES`.

    Raises:
        UserError: If the volume has no target, or its target is cut off, or no probe can show it.
    """
    stored = io_orientation(volume.affine)
    turn = ornt_transform(stored, axcodes2ornt(FACES[skin]))
    labels: Labels = apply_orientation(volume.labels, turn)  # (x, y, z)
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = volume.spacing_mm
    grid = _find_grid(labels, spacing)
    _check_whole(labels.shape, grid)
    resampled = _resample(labels, grid)
    standard, half_axes = standard_pose(resampled == LESION)
    remarks = (
        _remark_turn(volume.affine, stored)
        | _remark_cuts(labels, grid)
        | _remark_target(resampled, half_axes)
    )
    return Placed(resampled, standard, half_axes, remarks)


def write_bodies(out: Path, count: int, seed: int = 0, variety: float = 0.0) -> list[Path]:
    """Write bodies of `make_body` as NIfTI into a new or empty folder; return the paths of their labels.

    It has the layout of the data set ``volumes``: ``labels/NAME.nii.gz`` and ``tissues.yaml``. For viewers
    there are also the codes of echo levels, ``echo/NAME.nii.gz``.
    """
    if not 1 <= count <= MAX_BODIES:
        raise UserError(
            f"count must be from 1 to {MAX_BODIES}, got {count}; ask for another number of bodies"
        )
    make_body(seed, 0, variety)  # refuses what it cannot make, before there is a folder
    out = make_empty_folder(out)
    paths = []
    with writing_to(out):
        for folder in ("labels", "echo"):
            (out / folder).mkdir()
        for index in track(range(count), "Writing bodies", count, "bodies"):
            body = make_body(seed, index, variety)
            paths.append(out / "labels" / f"{body.name}.nii.gz")
            write_volume(paths[-1], _unplace(body.voxels[..., LABEL]))
            write_volume(out / "echo" / f"{body.name}.nii.gz", _unplace(body.voxels[..., ECHO]))
        lines = [f"  {tissue.label}: {name}\n" for name, tissue in TISSUES.items()]
        text = "".join(["skin: anterior\n", "tissues:\n", *lines])
        write_atomically(out / TABLE, text.encode())
    return paths


def _list(root: Path) -> _Folder:
    """Return what is in a folder. An error of the table or of the layout raises: nothing could be read."""
    labels = root / "labels"
    if not labels.is_dir():
        raise UserError(f"{labels}: does not exist; a folder of volumes holds labels/ and {TABLE}")
    paths = list_volumes(labels)
    if not paths:
        raise UserError(f"{labels}: holds no volumes; put label maps there as .nii.gz or .nii files")
    if len(paths) > MAX_BODIES:
        raise UserError(
            f"{labels}: holds {len(paths)} volumes, and at most {MAX_BODIES} are read; remove some"
        )
    table = read_table(root / TABLE)
    files: dict[str, Path] = {}
    groups: dict[str, str] = {}
    faults = []
    for path in paths:
        name = clean(stem_of(path))
        if name in files:
            faults.append(f"{path}: the name {name!r} occurs twice in its folder; rename or remove one")
        else:
            files[name] = path
    try:
        groups = read_groups(root / "groups.csv", list(files), "volume")
    except UserError as error:
        faults.append(str(error))
    return _Folder(root, table, files, groups, faults)


def _read_all(folder: _Folder) -> Iterator[Placed | UserError]:
    """Yield every volume, or what is wrong with it."""
    codes = {number: find_tissue(name).label for number, name in folder.table.tissues.items()}
    for path in track(folder.files.values(), "Reading volumes", len(folder.files), "volumes"):
        try:
            check_name(path)
            volume = read_volume(path, codes, str(folder.root / TABLE))
            try:
                yield place_volume(volume, folder.table.skin)
            except UserError as error:
                yield UserError(f"{path}: {error}")
        except UserError as error:
            yield error


def _simulate(placed: Placed, member: Member, seed: int) -> Body:
    """Return a volume with texture and speckle of a seed and its name, the same on every machine."""
    digest = hashlib.sha256(member.name.encode()).digest()[:16]
    rng = np.random.default_rng([seed, _STREAM, *np.frombuffer(digest, "<u4").tolist()])
    voxels = encode_voxels(placed.labels, draw_texture(rng), draw_speckle(rng))
    return Body(voxels, placed.standard, member.name, member.group)


@dataclass(frozen=True)
class _Grid:
    """The grid of bodies in a user's volume.

    Attributes:
        places: Index of the voxel in which each point of the grid is, along x, y and z, or beyond the volume.
        inside: Indices of the voxels whose middle is within the grid, along x, y and z.
        target: The smallest box around the target.
    """

    places: tuple[NDArray[np.int64], ...]
    inside: tuple[slice, ...]
    target: tuple[slice, ...]


def _find_grid(labels: Labels, spacing: NDArray[np.float64]) -> _Grid:
    """Return the grid with the target's centre in the middle of x and y, and the skin above it at z = 0."""
    footprint = (labels == LESION).any(axis=2)
    if not footprint.any():
        raise UserError("holds no target; mark it, correct the table of tissues, or remove the volume")
    x, y = _extent(footprint.any(axis=1)), _extent(footprint.any(axis=0))
    columns = labels[x, y][footprint[x, y]]  # (N, Z)
    z = _extent((columns == LESION).any(axis=0))
    surface = int(np.median((columns != _OUTSIDE).argmax(axis=1)))
    target = labels[x, y, z] == LESION
    places, inside = [], []
    for axis, extent in enumerate((x, y)):
        counts = np.count_nonzero(target, axis=(1 - axis, 2))
        centre = (counts * np.arange(len(counts))).sum() / counts.sum() + extent.start
        side = SHAPE[1 - axis]
        points = (np.arange(side) - (side - 1) / 2) * (SPACING_MM / spacing[axis]) + centre
        places.append(np.floor(points + 0.5).astype(np.int64))
        half = HALF_MM / spacing[axis]
        inside.append(slice(max(0, int(np.ceil(centre - half))), int(np.floor(centre + half)) + 1))
    points = (np.arange(SHAPE[2]) + 0.5) * (SPACING_MM / spacing[2]) + surface
    places.append(np.floor(points).astype(np.int64))
    inside.append(slice(surface, int(np.floor(surface + DEEPEST_MM / spacing[2] + 0.5))))
    return _Grid(tuple(places), tuple(inside), (x, y, z))


def _extent(is_there: NDArray[np.bool_]) -> slice:
    """Return the smallest slice with all that is there."""
    found = np.flatnonzero(is_there)
    return slice(int(found[0]), int(found[-1]) + 1)


def _check_whole(shape: tuple[int, ...], grid: _Grid) -> None:
    """Refuse a target that the grid or the volume itself cuts off."""
    fits = [
        inside.start <= extent.start and extent.stop <= inside.stop
        for inside, extent in zip(grid.inside, grid.target, strict=True)
    ]
    if not (fits[0] and fits[1]):
        raise UserError(
            f"the target reaches farther than {HALF_MM:g} mm from its middle, where bodies end; mark a "
            "smaller target, or remove the volume"
        )
    if not fits[2]:
        raise UserError(
            f"the target is not wholly within {DEEPEST_MM:g} mm below the skin; name another side as skin, "
            "or remove the volume"
        )
    if any(extent.start == 0 or extent.stop == side for extent, side in zip(grid.target, shape, strict=True)):
        raise UserError(
            "the target touches the edge of the volume, which may cut it off; crop less, or remove the volume"
        )


def _resample(labels: Labels, grid: _Grid) -> Labels:
    """Return the nearest labels at the points of the grid, (Y, X, Z); outside of the volume is nothing."""
    ends = [side - 1 for side in labels.shape]
    nearest = [places.clip(0, end) for places, end in zip(grid.places, ends, strict=True)]
    resampled = labels[np.ix_(*nearest)]
    for axis, (places, end) in enumerate(zip(grid.places, ends, strict=True)):
        beyond = (places < 0) | (places > end)
        resampled[tuple(beyond if other == axis else slice(None) for other in range(3))] = _OUTSIDE
    return np.ascontiguousarray(resampled.transpose(1, 0, 2))


def _remark_turn(affine: NDArray[np.float64], stored: NDArray[np.float64]) -> dict[str, str]:
    """Say that axes are not in canonical order, or do not follow the patient's."""
    remarks = {}
    codes = "".join(map(str, ornt2axcodes(stored)))
    if codes != "RAS":
        remarks["turned to canonical axes (RAS)"] = f"from {codes}"
    canonical = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine)
    ).affine
    directions = canonical[:3, :3] / np.linalg.norm(canonical[:3, :3], axis=0)
    cosine = float(np.diag(directions).min())
    angle = np.arccos(min(cosine, 1.0)) / DEGREES
    if angle > _OBLIQUE_DEG:
        remarks["axes are oblique to the patient's; the skin is where the nearest axis leads"] = (
            f"{angle:.0f} degrees"
        )
    return remarks


def _remark_cuts(labels: Labels, grid: _Grid) -> dict[str, str]:
    """Say which share of the tissue is not on the grid."""
    x, y, z = grid.inside
    total = np.count_nonzero(labels)
    beside = np.count_nonzero(labels[x, y])
    shares = {
        f"tissue farther than {HALF_MM:g} mm from the target's middle, along x or y, is cut off": total
        - beside,
        f"tissue deeper than {DEEPEST_MM:g} mm is cut off": np.count_nonzero(labels[x, y, z.stop :]),
        "tissue above the skin over the target is cut off": np.count_nonzero(labels[x, y, : z.start]),
    }
    remarks = {sentence: f"{count / total:.1%}" for sentence, count in shares.items() if count}
    sizes = [len(places) for places in grid.places]
    missing = [
        np.count_nonzero((places < 0) | (places >= side)) / size
        for places, side, size in zip(grid.places, labels.shape, sizes, strict=True)
    ]
    if any(missing):
        empty = 1 - np.prod([1 - share for share in missing])
        remarks["the volume ends within the body, and nothing echoes beyond"] = f"{empty:.0%} of it"
    return remarks


def _remark_target(labels: Labels, half_axes: FloatArray) -> dict[str, str]:
    """Say that a target has several parts, or no axis that is clearly its longest."""
    remarks = {}
    _, parts = scipy.ndimage.label(labels == LESION, np.ones((3, 3, 3)))
    if parts > 1:
        remarks["the target has several parts; its plane is that of all together"] = f"{parts} parts"
    if half_axes[0] < NEARLY_EQUAL * half_axes[1]:
        remarks[
            "the two longest axes of the target are nearly equal, so that its plane could as well be another"
        ] = ""
    return remarks


def _unplace(values: NDArray[np.uint8]) -> LabelVolume:
    """Return a body's (Y, X, Z) values as a volume in canonical axes; the middle of its skin is at 0 mm."""
    affine = np.eye(4)
    affine[:3, :3] = [[-SPACING_MM, 0, 0], [0, 0, -SPACING_MM], [0, -SPACING_MM, 0]]  # x, y, z are L, I, P
    first = [(1 - SHAPE[1]) / 2, (1 - SHAPE[0]) / 2, 0.5]  # voxels
    affine[:3, 3] = affine[:3, :3] @ first
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(values.transpose(1, 0, 2), affine))
    return LabelVolume(np.asarray(canonical.dataobj), canonical.affine)


VOLUME_FILES = Dataset(load_volumes, check_volumes, kind=VOLUMES, reads_folder=True, members=list_members)

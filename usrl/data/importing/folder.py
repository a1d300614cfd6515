"""Writes annotated images as a `folder` data set: images/, masks/ and its tables."""

import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from usrl.data.importing.coco import read_coco
from usrl.data.importing.cvat import read_cvat
from usrl.data.importing.labelme import read_labelme
from usrl.data.importing.marks import Annotations, Marked
from usrl.data.importing.voc import read_voc
from usrl.data.reading.files import IMAGE_SUFFIXES, check_name
from usrl.data.reading.images import read_image
from usrl.data.reading.pairs import MAX_LISTED, listed
from usrl.data.reading.tables import clean, format_rows
from usrl.data.reading.windows import Window
from usrl.data.sample import Labels
from usrl.errors import UserError, suggest
from usrl.files import make_empty_folder, write_atomically, writing_to
from usrl.progress import track

FORMATS = ("coco", "labelme", "cvat", "voc")
_EMPTY, _OVERLAP = ("keep", "leave-out"), ("later",)


@dataclass(frozen=True)
class Imported:
    """What was written: images, images without an object, images by structure, and what was not used."""

    images: int
    empty: int
    structures: dict[str, int]
    notes: tuple[str, ...]


def import_annotations(
    kind: str,
    source: Path,
    images: Path,
    out: Path,
    *,
    empty: str | None = None,
    overlap: str | None = None,
    window: Window | None = None,
) -> Imported:
    """Write a `folder` data set of annotated images.

    Images become 8-bit gray PNG files without any tag. Masks are class numbers that ``structures.csv``
    names; those of a single structure are 0 and 255. A sample is named as its image's path below ``images``,
    with ``__`` for a slash.

    Args:
        kind: One of `FORMATS`.
        source: The file or folder of annotations.
        images: The folder of images, with its subfolders.
        out: A new or empty folder.
        empty: What becomes of images without an annotation: ``"keep"`` takes them as images without a lesion,
            ``"leave-out"`` leaves them out, None refuses them.
        overlap: Where structures overlap, ``"later"`` gives the pixels to the later one; None refuses that.
        window: As in `usrl.data.reading.images.read_image`.

    Raises:
        UserError: If annotations or images cannot be read or do not fit each other; names up to ten faults.
            Then nothing is written.
    """
    if kind not in FORMATS:
        raise UserError(f"unknown format {kind!r}: {suggest(kind, FORMATS)}")
    for option, value, known in (("empty", empty, _EMPTY), ("overlap", overlap, _OVERLAP)):
        if value is not None and value not in known:
            raise UserError(
                f"--{option} wants {' or '.join(known)}, got {value!r}; choose one, or leave it out"
            )
    if not images.is_dir():
        raise UserError(f"{images}: is not a folder; name the folder of images with --images DIR")
    paths = _list_below(images)
    found = _read(kind, source, list(paths))
    structures = _number(found, source)
    marked = _match(found, paths, images, empty)
    out = make_empty_folder(out)
    part = out / f".importing.{secrets.token_hex(4)}"
    try:
        with writing_to(out):
            (part / "images").mkdir(parents=True)
            (part / "masks").mkdir()
            counts = _write(marked, paths, structures, part, overlap, window)
            for path in sorted(part.iterdir()):
                path.replace(out / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left = len(paths) - len(marked)
    notes = [*found.notes, *([f"{left} images without an annotation were left out"] if left else [])]
    return Imported(len(marked), sum(not image.marks for image in marked), counts, tuple(notes))


def _list_below(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder and its subfolders by their path below it."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    found = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    found = {
        name: path for name, path in found.items() if not any(p.startswith(".") for p in name.split("/"))
    }
    if not found:
        raise UserError(f"{folder}: holds no images; annotations are of PNG, TIFF, BMP or JPEG files")
    return found


def _read(kind: str, source: Path, images: list[str]) -> Annotations:
    if kind == "voc":
        return read_voc(source, images)
    return {"coco": read_coco, "labelme": read_labelme, "cvat": read_cvat}[kind](source)


def _number(found: Annotations, source: Path) -> dict[str, int]:
    """Return the number of each structure; 255 if there is only one."""
    if not found.structures or len(found.structures) > 254:
        raise UserError(
            f"{source}: names {len(found.structures)} structures, and 1 to 254 are read; check it"
        )
    if len(found.structures) == 1:
        return {found.structures[0]: 255}
    return {name: number for number, name in enumerate(found.structures, 1)}


def _match(found: Annotations, paths: dict[str, Path], folder: Path, empty: str | None) -> list[Marked]:
    """Return what is said of each image that is there, in the order of names."""
    known = {clean(name): name for name in paths}
    marked: dict[str, Marked] = {}
    missing = []
    for image in found.images:
        name = known.get(clean(image.image))
        if name is None:
            missing.append(image.image)
        elif name in marked:
            raise UserError(f"the image {name!r} is annotated twice; merge the two, or remove one")
        else:
            marked[name] = image
    if missing:
        raise UserError(f"{folder}: lacks {len(missing)} annotated images: {listed(missing)}; add them")
    bare = [name for name in paths if name not in marked or not marked[name].marks]
    if bare and empty is None:
        raise UserError(
            f"{len(bare)} images have no annotation: {listed(bare)}; give --empty keep to take them as "
            "images without "
            "a lesion, or --empty leave-out"
        )
    if empty == "leave-out":
        marked = {name: image for name, image in marked.items() if image.marks}
    else:
        marked |= {name: Marked(name, None, ()) for name in bare if name not in marked}
    if not marked:
        raise UserError(f"{folder}: no image is left; --empty keep takes those without an annotation")
    return [marked[name] for name in paths if name in marked]


def _write(
    marked: Sequence[Marked],
    paths: dict[str, Path],
    structures: dict[str, int],
    out: Path,
    overlap: str | None,
    window: Window | None,
) -> dict[str, int]:
    """Write all files; return the number of images that show each structure."""
    known = {clean(name): path for name, path in paths.items()}
    names: dict[str, str] = {}
    faults: list[str] = []
    counts: Counter[str] = Counter()
    groups: dict[str, str] = {}
    for image in track(marked, "Importing", len(marked)):
        name = _sample_name(image.image)
        try:
            other = names.setdefault(name.casefold(), image.image)
            if other != image.image:
                raise UserError(f"{image.image} and {other} would have the same name; rename one")
            path = known[clean(image.image)]
            check_name(path)
            gray, _ = read_image(path, window)
            labels = _draw(path, image, structures, gray.shape, overlap)
            write_atomically(out / "images" / f"{name}.png", cv2.imencode(".png", gray)[1].tobytes())
            write_atomically(out / "masks" / f"{name}.png", cv2.imencode(".png", labels)[1].tobytes())
        except UserError as error:
            faults.append(str(error))
            continue
        counts.update(key for key, number in structures.items() if (labels == number).any())
        groups[name] = clean(image.group or "") or name
    if faults:
        more = [f"... and {len(faults) - MAX_LISTED} more"] if len(faults) > MAX_LISTED else []
        raise UserError("\n".join([*faults[:MAX_LISTED], *more]))
    table = [(str(number), name) for name, number in structures.items()]
    write_atomically(out / "structures.csv", format_rows(("number", "name"), table))
    if any(image.group for image in marked):
        write_atomically(out / "groups.csv", format_rows(("name", "group"), list(groups.items())))
    return {name: counts[name] for name in structures}


def _sample_name(image: str) -> str:
    return clean("__".join(PurePosixPath(image).with_suffix("").parts))


def _draw(
    path: Path, image: Marked, structures: dict[str, int], shape: tuple[int, ...], overlap: str | None
) -> Labels:
    size = shape[0], shape[1]
    if image.shape is not None and image.shape != size:
        raise UserError(
            f"{path}: is {size[1]} x {size[0]} px, and its annotation says {image.shape[1]} x "
            f"{image.shape[0]} px "
            "(EXIF orientation counts); annotate the image as it is"
        )
    labels = np.zeros(size, np.uint8)
    for mark in image.marks:
        mask = mark.draw(size)
        if not mask.any():
            raise UserError(
                f"{path}: an outline of {mark.structure!r} holds no pixel's centre; correct or remove it"
            )
        number = structures[mark.structure]
        shared = labels[mask]
        if overlap is None and (others := sorted(set(np.unique(shared).tolist()) - {0, number})):
            below = next(name for name, value in structures.items() if value == others[0])
            raise UserError(
                f"{path}: {mark.structure!r} and {below!r} overlap; give --overlap later to let the later "
                "one keep the "
                "pixels, or correct the outlines"
            )
        labels[mask] = number
    return labels

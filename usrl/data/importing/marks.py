"""What an annotation says of an image, and the checks that all formats share."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from usrl.data.importing.shapes import Points, fill_polygon
from usrl.data.reading.tables import clean
from usrl.data.sample import BoolMask
from usrl.errors import UserError, brief
from usrl.files import check_path
from usrl.strict import read_json

MAX_BYTES = 1 << 29
"""Most bytes of a file of annotations: some hold all images as text."""
MAX_POINTS = 100_000
REMEDY = "export the annotations again"
Draw = Callable[[tuple[int, int]], BoolMask]
"""Returns a mask, bool, of an image's shape (H, W); a `UserError` says why it cannot."""


@dataclass(frozen=True)
class Mark:
    """One annotated object: its structure, and what draws it."""

    structure: str
    draw: Draw


@dataclass(frozen=True)
class Marked:
    """What annotations say of one image.

    Attributes:
        image: Path below the folder of images, with forward slashes.
        shape: (H, W) that the annotations state, px; None if they do not.
        marks: The objects, in the order in which later ones lie above earlier ones.
        group: Patient, exam or video; None if it is not stated.
    """

    image: str
    shape: tuple[int, int] | None
    marks: tuple[Mark, ...]
    group: str | None = None


@dataclass
class Annotations:
    """The contents of a source.

    Attributes:
        images: What is said of each image.
        structures: Names that the source defines, in its order; those of marks are added to them.
        notes: What was not used, for the user to know.
    """

    images: list[Marked] = field(default_factory=list)
    structures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse(source: object, what: str, remedy: str = REMEDY) -> UserError:
    """Return the error of an annotation that cannot be used."""
    return UserError(f"{source}: {what}; {remedy}")


def image_path(source: object, name: Any) -> str:
    """Return the path of an image below its folder; refuse one that leads elsewhere."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise refuse(source, f"wanted the name of an image, got {brief(name)}")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise refuse(
            source, f"the image {brief(name)} is outside the folder of images", "write a path inside it"
        )
    return str(path)


def structure_name(source: object, name: Any) -> str:
    """Return the cleaned name of a structure."""
    if not isinstance(name, str) or not clean(name) or not name.isprintable() or len(name) > 255:
        raise refuse(source, f"wanted a name of a structure, got {brief(name)}")
    return clean(name)


def number(source: object, value: Any, what: str) -> float:
    """Return a finite number below a million."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if isinstance(value, bool) or not abs(found) < 1e6:
        raise refuse(source, f"wanted a number as {what}, got {brief(value)}")
    return found


def stated_shape(source: object, width: Any, height: Any) -> tuple[int, int] | None:
    """Return the stated (H, W), px, or None if it is not stated."""
    if width is None and height is None:
        return None
    sides = number(source, height, "height"), number(source, width, "width")
    if min(sides) < 1 or any(side != int(side) for side in sides):
        raise refuse(source, f"a size is whole and above 0, got {brief(width)} x {brief(height)}")
    return int(sides[0]), int(sides[1])


def polygon(source: object, points: Any) -> Draw:
    """Return what draws a polygon of points [[x, y], ...]."""
    outline = check_points(source, points)
    return lambda shape: fill_polygon(outline, shape)


def check_points(source: object, points: Any, least: int = 3) -> Points:
    """Return points, (P, 2); refuse those that are too few, too many or no numbers."""
    if not isinstance(points, list) or not least <= len(points) <= MAX_POINTS:
        raise refuse(source, f"an outline has {least} to {MAX_POINTS} points, got {brief(points)}")
    if not all(isinstance(point, list | tuple) and len(point) == 2 for point in points):
        raise refuse(source, f"a point is x and y, got {brief(points)}")
    return np.array([[number(source, side, "x or y") for side in point] for point in points], np.float64)


def read_text(path: Path) -> bytes:
    """Return the bytes of a file of annotations; refuse one that is absent or far too long."""
    if not check_path(path).is_file():
        raise UserError(f"{path}: is no file of annotations; name the file that the tool has exported")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise refuse(
                path, f"has more than {MAX_BYTES >> 20} MiB", "export the annotations without images"
            )
        return path.read_bytes()
    except OSError as error:
        raise refuse(path, f"cannot be read ({error.strerror})", "restore it") from None


def read_tree(path: Path) -> Mapping[str, Any]:
    """Return the mapping in a JSON file."""
    tree = read_json(read_text(path), str(path), REMEDY)
    if not isinstance(tree, dict):
        raise refuse(path, f"wanted a mapping, got {brief(tree)}")
    return tree


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file; refuse one that defines entities, which can grow without end."""
    data = read_text(path)
    if b"\0" in data or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise refuse(path, "holds declarations or is not UTF-8, which no export has")
    try:
        data.decode("utf-8")
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise refuse(path, f"is not XML ({brief(str(error))})") from None


def list_of(source: object, tree: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of mappings under a key."""
    entries = tree.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise refuse(source, f"wanted a list of {key}, got {brief(entries)}")
    return entries


def folder_group(image: str) -> str | None:
    """Return the folder of an image's path as its group, or None if it has none."""
    folder = str(PurePosixPath(image).parent)
    return None if folder == "." else folder

"""COCO: one JSON file with images, categories and annotations.

An annotation's ``segmentation`` is a list of polygons, whose union it is, or run lengths (RLE), as numbers or
compressed into a text. The group of an image is its ``video_id``, ``patient_id`` or ``patient``, or else its
folder. Annotations with a box alone are refused: a box says nothing of an outline.

Source: https://cocodataset.org/#format-data; the compressed runs are those of ``maskApi.c`` of the COCO API.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from usrl.data.importing.marks import (
    MAX_POINTS,
    Annotations,
    Draw,
    Mark,
    Marked,
    check_points,
    folder_group,
    image_path,
    list_of,
    read_tree,
    refuse,
    stated_shape,
    structure_name,
)
from usrl.data.importing.shapes import Points, fill_polygon, fill_runs
from usrl.data.sample import BoolMask
from usrl.errors import UserError, brief

_GROUP_KEYS = ("video_id", "patient_id", "patient")
_LONGEST_TEXT = 1 << 24


def read_coco(source: Path) -> Annotations:
    """Read a file of COCO annotations."""
    tree = read_tree(source)
    categories: dict[int, str] = {}
    for entry in sorted(list_of(source, tree, "categories"), key=lambda entry: _id(source, entry, "id")):
        name = structure_name(source, entry.get("name"))
        if entry["id"] in categories or name in categories.values():
            raise refuse(source, f"the category {name!r} is listed twice")
        categories[entry["id"]] = name
    marks: dict[int, list[Mark]] = defaultdict(list)
    for entry in list_of(source, tree, "annotations"):
        image, category = _id(source, entry, "image_id"), _id(source, entry, "category_id")
        if category not in categories:
            raise refuse(source, f"an annotation is of category {category}, which is not listed")
        where = f"{source}: annotation {brief(entry.get('id'))}"
        marks[image].append(Mark(categories[category], _draw(where, entry.get("segmentation"))))
    found = Annotations(structures=list(categories.values()))
    known: set[int] = set()
    for entry in list_of(source, tree, "images"):
        number, name = _id(source, entry, "id"), image_path(source, entry.get("file_name"))
        if number in known:
            raise refuse(source, f"the image {number} is listed twice")
        known.add(number)
        shape = stated_shape(source, entry.get("width"), entry.get("height"))
        told = next((str(entry[key]) for key in _GROUP_KEYS if entry.get(key) not in (None, "")), None)
        found.images.append(Marked(name, shape, tuple(marks[number]), told or folder_group(name)))
    if strange := sorted(marks.keys() - known):
        raise refuse(source, f"annotations are of image {strange[0]}, which is not listed")
    return found


def _id(source: Path, entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise refuse(source, f"wanted a whole number as {key}, got {brief(value)}")
    return value


def _draw(where: str, segmentation: Any) -> Draw:
    if not segmentation:
        raise refuse(
            where,
            "has a box or points and no outline, and a box says nothing of an outline",
            "outline the object, or remove the annotation",
        )
    if isinstance(segmentation, dict):
        return _draw_runs(where, segmentation)
    if not isinstance(segmentation, list):
        raise refuse(where, f"a segmentation is polygons or run lengths, got {brief(segmentation)}")
    outlines = [_outline(where, sides) for sides in segmentation]

    def union(shape: tuple[int, int]) -> BoolMask:
        return np.logical_or.reduce([fill_polygon(outline, shape) for outline in outlines])

    return union


def _outline(where: str, sides: Any) -> Points:
    if not isinstance(sides, list) or len(sides) % 2 or len(sides) > 2 * MAX_POINTS:
        raise refuse(where, f"a polygon is a list x, y, x, y, ..., got {brief(sides)}")
    return check_points(where, [list(pair) for pair in zip(sides[::2], sides[1::2], strict=True)])


def _draw_runs(where: str, segmentation: dict[str, Any]) -> Draw:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise refuse(where, f"run lengths need a size, height and width, got {brief(size)}")
    stated = stated_shape(where, size[1], size[0])
    runs = _decompress(where, counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run < 2**31 for run in runs):
        raise refuse(where, f"run lengths are whole numbers or a text, got {brief(counts)}")

    def draw(shape: tuple[int, int]) -> BoolMask:
        mask = fill_runs(runs, shape, by_column=True) if stated == shape else None
        if mask is None:
            raise refuse(where, f"its run lengths are not of an image of {shape[1]} x {shape[0]} px")
        return mask

    return draw


def _decompress(where: str, text: str) -> list[int]:
    """Return the runs of a compressed text.

    Five bits a letter, signed; from the fourth run on, what is written is the change from the run two before.
    """
    if len(text) > _LONGEST_TEXT:
        raise refuse(where, "has run lengths of too many letters")
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise refuse(where, "has run lengths that are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise UserError(f"{where}: its run lengths end early; export the annotations again")
    return runs

"""LabelMe: a folder with one JSON file an image.

Polygons, circles and masks are read. Rectangles, lines and points outline nothing and are refused. The image
is ``imagePath``, relative to the JSON file's folder below the source; the copy of the image inside the file
is not used. The group of an image is its folder.

Source: https://github.com/wkentaro/labelme, the JSON files of versions 4 and 5.
"""

import base64
import binascii
import io
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from usrl.data.importing.marks import (
    Annotations,
    Draw,
    Mark,
    Marked,
    check_points,
    folder_group,
    image_path,
    list_of,
    polygon,
    read_tree,
    refuse,
    stated_shape,
    structure_name,
)
from usrl.data.importing.shapes import draw_ellipse, fill_polygon
from usrl.data.sample import BoolMask
from usrl.errors import UserError, brief


def read_labelme(source: Path) -> Annotations:
    """Read a folder of LabelMe annotations, with its subfolders."""
    files = sorted(source.rglob("*.json")) if source.is_dir() else []
    if not files:
        raise UserError(f"{source}: holds no JSON file; name the folder of LabelMe's annotations")
    found = Annotations()
    for path in files:
        tree = read_tree(path)
        told = tree.get("imagePath")
        if isinstance(told, str) and ".." in told:  # LabelMe writes ../images/a.png: its name counts
            told = told.replace("\\", "/").rpartition("/")[2]
        folder = PurePosixPath(path.parent.relative_to(source).as_posix())
        name = str(folder / image_path(path, told))
        shape = stated_shape(path, tree.get("imageWidth"), tree.get("imageHeight"))
        marks = tuple(_mark(path, entry) for entry in list_of(path, tree, "shapes"))
        found.images.append(Marked(name, shape, marks, folder_group(name)))
    found.structures = sorted({mark.structure for image in found.images for mark in image.marks})
    return found


def _mark(path: Path, entry: dict[str, Any]) -> Mark:
    structure, kind = structure_name(path, entry.get("label")), entry.get("shape_type", "polygon")
    where, points = f"{path}: {structure!r}", entry.get("points")
    if kind == "polygon":
        return Mark(structure, polygon(where, points))
    if kind == "circle":
        return Mark(structure, _circle(where, points))
    if kind == "mask":
        return Mark(structure, _mask(where, points, entry.get("mask")))
    raise refuse(
        where,
        f"is of the shape {brief(kind)}, and polygon, circle and mask are read, which outline something",
        "outline the object, or remove it",
    )


def _circle(where: str, points: Any) -> Draw:
    centre, rim = check_points(where, points, least=2)[:2]
    radius = math.dist(centre, rim)
    outline = draw_ellipse(centre[0], centre[1], radius, radius)
    return lambda shape: fill_polygon(outline, shape)


def _mask(where: str, points: Any, text: Any) -> Draw:
    """Return what draws a mask whose box, corners included, is given by two points."""
    (x0, y0), (x1, y1) = check_points(where, points, least=2)[:2].round().astype(int)
    if not isinstance(text, str) or x1 < x0 or y1 < y0:
        raise refuse(where, "a mask has the two corners of its box and a picture as text")
    size = (int(x1 - x0 + 1), int(y1 - y0 + 1))
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as picture:
            if picture.size != size:
                raise refuse(where, f"its mask is {picture.size} px and its box {size} px")
            held = np.asarray(picture.convert("L")) > 0 if picture.mode != "1" else np.asarray(picture)
    except UserError:
        raise
    except Exception as error:  # decoders raise anything at damaged files
        told = "not base64" if isinstance(error, binascii.Error) else brief(str(error))
        raise refuse(where, f"its mask cannot be read ({told})") from None

    def draw(shape: tuple[int, int]) -> BoolMask:
        if x0 < 0 or y0 < 0 or x1 >= shape[1] or y1 >= shape[0]:
            raise refuse(where, f"its mask is outside the image of {shape[1]} x {shape[0]} px")
        whole = np.zeros(shape, np.bool_)
        whole[y0 : y1 + 1, x0 : x1 + 1] = held
        return whole

    return draw

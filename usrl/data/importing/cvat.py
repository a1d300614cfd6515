"""CVAT: the XML file of the format "CVAT for images 1.1".

Polygons, ellipses and masks are read, in the order of ``z_order`` and then of the file. Boxes, lines, points,
cuboids and skeletons outline nothing and are refused. Tags are of whole images; a note counts them. The
group of an image is its folder.

Source: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/
"""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from usrl.data.importing.marks import (
    MAX_POINTS,
    Annotations,
    Draw,
    Mark,
    Marked,
    folder_group,
    image_path,
    number,
    polygon,
    read_xml,
    refuse,
    stated_shape,
    structure_name,
)
from usrl.data.importing.shapes import draw_ellipse, fill_polygon, fill_runs
from usrl.data.sample import BoolMask
from usrl.errors import brief

_MAX_RUNS = 1 << 22


def read_cvat(source: Path) -> Annotations:
    """Read a file of CVAT annotations of images."""
    root = read_xml(source)
    if root.tag != "annotations" or root.find("track") is not None:
        raise refuse(source, "is not of CVAT for images", "export the annotations as CVAT for images 1.1")
    found, tags = Annotations(), 0
    for image in root.findall("image"):
        name = image_path(source, image.get("name"))
        where, layers = f"{source}: {name}", []
        for shape in image:
            if shape.tag == "tag":
                tags += 1
                continue
            mark = Mark(structure_name(where, shape.get("label")), _draw(where, shape))
            layers.append((number(where, shape.get("z_order", 0), "z_order"), mark))
        layers.sort(key=lambda layer: layer[0])
        size = stated_shape(where, image.get("width"), image.get("height"))
        marks = tuple(mark for _, mark in layers)
        found.images.append(Marked(name, size, marks, folder_group(name)))
    found.structures = sorted({mark.structure for image in found.images for mark in image.marks})
    found.notes += [f"{tags} tags of images are not used"] if tags else []
    return found


def _draw(where: str, shape: Element) -> Draw:
    if shape.tag == "polygon":
        texts = (shape.get("points") or "").split(";", MAX_POINTS + 1)
        return polygon(where, [text.split(",", 2) for text in texts])
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y, degrees = (
            number(where, shape.get(key, 0 if key == "rotation" else None), key)
            for key in ("cx", "cy", "rx", "ry", "rotation")
        )
        outline = draw_ellipse(x, y, radius_x, radius_y, degrees)
        return lambda size: fill_polygon(outline, size)
    if shape.tag == "mask":
        return _draw_runs(where, shape)
    raise refuse(
        where,
        f"has a {brief(shape.tag)}, and polygon, ellipse and mask are read, which outline something",
        "outline the object, or remove it",
    )


def _draw_runs(where: str, shape: Element) -> Draw:
    """Return what draws a mask: run lengths by row, outside first, within a box."""
    left, top, width, height = (
        int(number(where, shape.get(key), key)) for key in ("left", "top", "width", "height")
    )
    texts = (shape.get("rle") or "").split(",", _MAX_RUNS)
    if not all(text.strip().isascii() and text.strip().isdigit() and len(text) < 12 for text in texts):
        raise refuse(where, "the run lengths of a mask are whole numbers between commas")
    runs = [int(text) for text in texts]

    def draw(size: tuple[int, int]) -> BoolMask:
        is_inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
        held = fill_runs(runs, (height, width), by_column=False) if is_inside and width > 0 < height else None
        if held is None:
            raise refuse(where, "the run lengths of a mask do not fill its box inside the image")
        whole = np.zeros(size, np.bool_)
        whole[top : top + height, left : left + width] = held
        return whole

    return draw

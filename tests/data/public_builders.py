"""Tiny copies of public data sets, in their published layouts."""

import json

from sample_builders import noise, write

SHAPE = (90, 140)
SQUARE = [(20, 10), (40, 10), (40, 30), (20, 30)]
OTHER = [(80, 50), (110, 50), (110, 70), (80, 70)]


def region(points, kind="freehand"):
    """Return a region of a mark of DDTI."""
    return {"points": [{"x": x, "y": y} for x, y in points], "annotation": {}, "regionType": kind}


def write_case(root, case, marks, tirads=""):
    """Write a case of DDTI: a mark for each image, and the images."""
    root.mkdir(parents=True, exist_ok=True)
    texts = {number: mark if isinstance(mark, str) else json.dumps(mark) for number, mark in marks.items()}
    lines = "".join(
        f"<mark><image>{number}</image><svg>{text}</svg></mark>" for number, text in texts.items()
    )
    (root / f"{case}.xml").write_text(
        f"<case><number>{case}</number><age></age><tirads>{tirads}</tirads>{lines}</case>"
    )
    for number in marks:
        write(root / f"{case}_{number}.jpg", noise(1000 * case + number, SHAPE), "RGB")


def make_ddti(root):
    """Write three cases: two images of one, two regions in an image, the same region twice."""
    write_case(root, 2, {1: [region(SQUARE)], 2: [region(SQUARE), region(OTHER)]}, "4a")
    write_case(root, 10, {1: [region(OTHER)]}, "2")
    write_case(root, 11, {1: [region(SQUARE), region(SQUARE)]})
    return root


PUBLIC = {"ddti": make_ddti}
"""How to write each, by its name."""

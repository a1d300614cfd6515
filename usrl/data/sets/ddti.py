"""DDTI: thyroid nodules with outlines drawn by radiologists.

Origin: Instituto de Diagnóstico Médico (IDIME), Bogotá; TOSHIBA Nemio 30 and Nemio MX scanners.

Licence: not established; read the terms of your copy. Meant for research; this package does not redistribute
it.

Citation: Pedraza, Vargas, Narváez, Durán, Muñoz and Romero (2015), An open access thyroid ultrasound image
database, 10th International Symposium on Medical Information Processing and Analysis, Proc. SPIE 9287,
92870W, doi:10.1117/12.2073532.

Expected counts: 390 cases in the full set. Other counts load, as reduced copies are common.

Layout: ``106.xml`` for each case, with one ``mark`` for each image, and ``106_1.jpg``, ``106_2.jpg`` and so
on. A mark's ``svg`` is JSON: a list of regions whose ``points`` are pixels of the image. All regions of an
image are nodules; they are united. The source of an image is its case's TI-RADS class, as ``"ddti/4a"``.

Known-bad cases:

- Some marks end after 2,500 letters, in the middle of an outline. What is missing is unknown, so these
  images are left out, and a warning names them.
- Some marks are empty. These images show nodules too, so they are left out in the same way.
- Regions of the type ``arrow`` point at something and outline nothing. They are not used.
- A region that leaves the image by more than ``MAX_OUTSIDE_PX`` circles the text below it. It is not used.
- The same outline may occur twice or more often in a mark.
- Images carry burned-in text and callipers, and two views next to each other, with the same nodule in both.
- Pixel size is unknown. The case is the group; near duplicates join cases.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usrl.data.components import fill_holes
from usrl.data.dataset import Found, image_files
from usrl.data.duplicates import duplicate_pairs
from usrl.data.reading.files import list_images
from usrl.data.reading.pairs import Pair, join_duplicates, listed, read_pairs
from usrl.data.reading.tables import clean
from usrl.data.sample import BoolMask, Sample
from usrl.errors import UserError
from usrl.strict import read_json

CUT_LETTERS = 2500
"""The published marks end here, whole or not."""
MAX_OUTSIDE_PX = 2

_LARGEST = 1_000_000  # bytes of a case; published ones have up to 10,000
_CUT = f"marks cut off after {CUT_LETTERS} letters"
_EMPTY = "empty marks"
_ARROWS, _OUTSIDE = "regions not used: arrows", "regions not used: outside the image"
Outline = NDArray[np.float64]
"""Points of an outline, (P, 2), x and y in pixels."""


@dataclass(frozen=True)
class _Case:
    """What a case's file says: its class and the text of each image's mark."""

    tirads: str
    marks: dict[str, str]


def _find(root: Path) -> Path:
    if not any(root.glob("*.xml")) or not list_images(root):
        raise UserError(
            f"{root}: no DDTI found; wanted files such as 106.xml and 106_1.jpg; unpack the archive of all "
            "cases there, or name the folder that holds them"
        )
    return root


def _read(root: Path) -> Found:
    """Read samples named like ``"106_1"``, of sources like ``"ddti/4a"``, grouped by case."""
    pairs, marks, faults = _list_pairs(root)
    names: dict[str, list[str]] = defaultdict(list)  # of images, by what is said of them
    outlines: dict[str, list[Outline]] = {}
    for pair in pairs:
        text = marks[pair.name]
        try:
            outlines[pair.name] = _parse_regions(text, pair, names)
        except UserError as error:
            if not text.strip():
                names[_EMPTY].append(pair.name)
            elif len(text) == CUT_LETTERS:
                names[_CUT].append(pair.name)
            else:
                faults.append(str(error))
    images, unread = read_pairs([pair for pair in pairs if pair.name in outlines], "Reading DDTI", _no_mask)
    samples = []
    for image in images:
        kept = [outline for outline in outlines[image.name] if _is_inside(outline, image)]
        names[_OUTSIDE] += [image.name] * (len(outlines[image.name]) - len(kept))
        if kept:
            samples.append(_fill(image, kept))
        else:
            faults.append(
                f"{root / image.name}.jpg: its mark outlines nothing inside the image; restore the mark, or "
                "remove it with the image"
            )
    duplicates = duplicate_pairs(sample.image for sample in samples)
    samples = join_duplicates(samples, [s.name.partition("_")[0] for s in samples], duplicates)
    left_out = [f"{what}: {listed(names[what])}" for what in (_CUT, _EMPTY) if names[what]]
    notes = [f"{what}: {listed(names[what])}" for what in (_ARROWS, _OUTSIDE) if names[what]]
    facts: dict[str, int | str] = {
        "images left out: marks cut off": len(names[_CUT]),
        "images left out: empty marks": len(names[_EMPTY]),
        _ARROWS: len(names[_ARROWS]),
        _OUTSIDE: len(names[_OUTSIDE]),
    }
    return Found(samples, faults + unread, facts, duplicates, notes=notes, left_out=left_out)


def _list_pairs(root: Path) -> tuple[list[Pair], dict[str, str], list[str]]:
    """Return the images that have a mark, the marks' texts by the images' names, and faults."""
    images = {clean(path.stem): path for path in list_images(root)}
    pairs: list[Pair] = []
    texts: dict[str, str] = {}
    faults: list[str] = []
    for path in sorted(root.glob("*.xml"), key=lambda path: (len(path.stem), path.stem)):
        try:
            case = _read_case(path)
        except UserError as error:
            faults.append(str(error))
            continue
        for number, text in sorted(case.marks.items()):
            name = f"{clean(path.stem)}_{number}"
            if name not in images:
                faults.append(
                    f"{path}: marks image {number}, and {name}.jpg is missing; restore it, or remove the mark"
                )
                continue
            pairs.append(Pair(images.pop(name), (), f"ddti/{case.tirads}"))
            texts[name] = text
    faults += [
        f"{path}: no mark for this image; restore its case's XML or remove it" for path in images.values()
    ]
    return pairs, texts, faults


def _read_case(path: Path) -> _Case:
    """Read a case's file. Documents that define entities, which can grow without end, are refused."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: has more than {_LARGEST} bytes, far more than a case; restore it")
        data = path.read_bytes()
        if b"<!" in data:
            raise UserError(f"{path}: holds declarations, which no case of DDTI has; restore it")
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is not XML ({error}); restore it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore it") from None
    marks: dict[str, str] = {}
    for mark in tree.findall("mark"):
        number = clean(mark.findtext("image") or "")
        if not number.isdecimal() or number in marks:
            raise UserError(
                f"{path}: each mark wants a new number of an image, got {number[:20]!r}; restore it"
            )
        marks[number] = mark.findtext("svg") or ""
    if not marks:
        raise UserError(f"{path}: has no mark; restore it, or remove the case")
    tirads = clean(tree.findtext("tirads") or "")
    return _Case(tirads if re.fullmatch(r"\w{1,3}", tirads) else "unknown", marks)


def _parse_regions(text: str, pair: Pair, names: dict[str, list[str]]) -> list[Outline]:
    """Return the outlines of a mark; add the image to those with arrows for each arrow."""
    remedy = "restore its case's XML"
    source = f"the mark of {pair.image}"
    regions = read_json(text, source, remedy)
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise UserError(f"{source}: wanted a list of regions; {remedy}")
    outlines = []
    for region in regions:
        points = _parse_points(region.get("points"))
        if region.get("regionType") == "arrow":
            names[_ARROWS].append(pair.name)
        elif points is None or len(points) < 3:
            raise UserError(f"{source}: a region wants three points or more with finite x and y; {remedy}")
        else:
            outlines.append(points)
    return outlines


def _parse_points(points: Any) -> Outline | None:
    try:
        found = np.array([(float(point["x"]), float(point["y"])) for point in points], np.float64)
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return found if np.isfinite(found).all() and np.abs(found).max(initial=0) < 1e6 else None


def _no_mask(path: Path) -> BoolMask:
    raise AssertionError(f"{path}: outlines are not files")


def _is_inside(outline: Outline, image: Sample) -> bool:
    height, width = image.image.shape
    limit = np.array([width - 1, height - 1]) + MAX_OUTSIDE_PX
    return bool((outline >= -MAX_OUTSIDE_PX).all() and (outline <= limit).all())


def _fill(image: Sample, outlines: list[Outline]) -> Sample:
    """Return a sample whose mask is what outlines enclose, and their own pixels.

    Outlines are drawn by hand: some cross themselves or go round twice. So what they enclose is what cannot
    be reached from outside, where rules of polygons would leave holes.
    """
    mask = np.zeros(image.image.shape, np.bool_)
    for outline in outlines:
        drawn = np.zeros(mask.shape, np.uint8)
        cv2.polylines(drawn, [np.rint(outline).astype(np.int32)], isClosed=True, color=1)
        mask |= fill_holes(drawn.view(np.bool_))
    return replace(image, labels=mask)


DDTI = image_files(_find, _read)

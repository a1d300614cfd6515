"""HC18: fetal heads with fitted ellipses, for measuring the head circumference.

Origin: Radboud University Medical Center, Nijmegen, 2014 and 2015; standard planes of the head in scans of
551 women; the HC18 challenge.

Licence: CC BY 4.0 by a card of a mirror; the data's own page is doi:10.5281/zenodo.1322001. Read the terms
of your copy.

Citation: van den Heuvel, de Bruijn, de Korte and van Ginneken (2018), Automated measurement of fetal head
circumference using 2D ultrasound images, PLoS ONE 13(8):e0200412, doi:10.1371/journal.pone.0200412.

Expected counts: 999 images in ``training_set``. Other counts load, if the table fits them. The challenge's
``test_set`` has no annotations and is not read.

Layout: ``training_set/000_HC.png`` and ``000_HC_Annotation.png``, and
``training_set_pixel_size_and_HC.csv`` with the header ``filename,pixel size(mm),head circumference (mm)``.

Known-bad cases:

- An annotation is the thin outline of an ellipse. The target is the filled ellipse that fits it: where the
  border cuts the outline, there is no closed contour to fill.
- Several images of one exam (``010_HC``, ``010_2HC``) share the leading number, which is their group.
- Pixel size differs from image to image, and is the same along rows and columns.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.special import ellipe

from usrl.data.dataset import Found, image_files
from usrl.data.reading.files import list_images, read_mask
from usrl.data.reading.pairs import Pair, listed, read_pairs
from usrl.data.reading.tables import clean, read_rows
from usrl.data.sample import BoolMask, Sample
from usrl.errors import UserError

TOLERANCE = 0.005
"""Largest relative difference between the circumference of a fitted ellipse and the table's.

An outline that is drawn one px too wide round a head of 200 px of radius differs by this much. The
annotations of 200 images (radii of 70 to 284 px) differ by 0.04% at most; if a row of the table were in
another's place, 98.5% of them would differ by more than this."""

_FOLDER = "training_set"
_TABLE = "training_set_pixel_size_and_HC.csv"
_HEADER = ("filename", "pixel size(mm)", "head circumference (mm)")
_OUTLINE = "_Annotation"
_NAME = re.compile(r"(?P<exam>\d+)_\d*HC")
_Row = tuple[float, float]
"""An image's pixel size and head circumference in the table, mm."""


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in an image, whose pixel centres lie at integer coordinates."""

    centre: tuple[float, float]  # (x, y), px
    semi_axes: tuple[float, float]  # half of both axes, px; the first lies at the angle
    angle: float  # from the x axis towards the y axis, radians

    @property
    def circumference(self) -> float:
        """Length of the whole curve, px, by the complete elliptic integral of the second kind."""
        minor, major = sorted(self.semi_axes)
        return float(4 * major * ellipe(1 - (minor / major) ** 2))

    def fill(self, shape: tuple[int, int]) -> BoolMask:
        """Return the pixels of an image whose centres lie inside, bool, shape (H, W)."""
        y, x = np.mgrid[: shape[0], : shape[1]]
        x, y = x - self.centre[0], y - self.centre[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along = (x * cos + y * sin) / self.semi_axes[0]
        across = (y * cos - x * sin) / self.semi_axes[1]
        return np.asarray(along**2 + across**2 <= 1.0, np.bool_)


def fit_ellipse(outline: BoolMask) -> Ellipse:
    """Return the ellipse that fits the pixels of an outline, bool, (H, W), best, by least squares.

    A stroke of several px is followed along its middle, and an outline that the border cuts is continued.

    Source:
        Fitzgibbon and Fisher (1995), A buyer's guide to conic fitting, British Machine Vision Conference,
        513-522, doi:10.5244/C.9.51; OpenCV's ``fitEllipse``.
    """
    points = np.argwhere(outline)[:, ::-1].astype(np.float32)  # (P, 2), x and y
    if len(points) < 5:  # an ellipse has five parameters
        raise UserError(f"an ellipse needs an outline of 5 px or more, got {len(points)}; draw it again")
    (x, y), (first, second), degrees = cv2.fitEllipse(points)
    values = (x, y, first, second, degrees)
    # The points of an ellipse that is thinner than two px lie on a line.
    if not all(map(math.isfinite, values)) or min(first, second) < 2 or max(first, second) > 1e6:
        raise UserError(
            f"an outline must enclose an area, and the ellipse that fits this one is {first:.3g} x "
            f"{second:.3g} px; draw it again"
        )
    return Ellipse((x, y), (first / 2, second / 2), math.radians(degrees))


def _find(root: Path) -> Path:
    if not (root / _FOLDER).is_dir() or not list_images(root / _FOLDER):
        raise UserError(
            f"{root}: no HC18 found; wanted {_FOLDER}/ with images and {_TABLE}; unpack training_set.zip "
            "there, or name the folder that holds them"
        )
    return root


def _read(root: Path) -> Found:
    """Read samples named like ``"010_2HC"``, of source ``"hc18"``, grouped by exam, with pixel sizes."""
    pairs, faults = _list_pairs(root / _FOLDER)
    rows, bad_rows = _read_table(root / _TABLE)
    faults += bad_rows
    if unknown := sorted(rows.keys() - {clean(pair.image.name) for pair in pairs}):
        faults.append(
            f"{root / _TABLE}: no annotated image for {listed(unknown)}; restore them or remove their rows"
        )
    known = {pair.name: pair for pair in pairs if clean(pair.image.name) in rows}
    if missing := [pair.image.name for pair in pairs if pair.name not in known]:
        faults.append(f"{root / _TABLE}: no sound row for {listed(missing)}; restore it or remove the images")
    outlines, unread = read_pairs(list(known.values()), "Reading HC18", read_mask)
    faults += unread
    samples: list[Sample] = []
    differences = [0.0]
    for outline in outlines:
        pair = known[outline.name]
        row = rows[clean(pair.image.name)]
        try:
            sample, difference = _fill(outline, row)
        except UserError as error:
            faults.append(f"{pair.masks[0]}: {error}")
            continue
        differences.append(difference)
        if difference > TOLERANCE:
            faults.append(
                f"{pair.image}: the ellipse fitted to its annotation differs by {difference:.1%} from the "
                f"circumference of {row[1]:g} mm in the table, more than {TOLERANCE:.1%}; restore "
                "annotation and row"
            )
        else:
            samples.append(sample)
    return Found(samples, faults, {"largest difference of circumference": f"{max(differences):.3%}"})


def _list_pairs(folder: Path) -> tuple[list[Pair], list[str]]:
    files = list_images(folder)
    outlines = {clean(path.name): path for path in files if clean(path.stem).endswith(_OUTLINE)}
    pairs: list[Pair] = []
    faults: list[str] = []
    for path in [path for path in files if clean(path.name) not in outlines]:
        name = clean(f"{path.stem}{_OUTLINE}{path.suffix}")
        outline = outlines.pop(name, None)
        if not _NAME.fullmatch(path.stem):
            faults.append(f"{path}: is not named like 010_HC.png or 010_2HC.png; rename or remove it")
        elif outline is None:
            faults.append(f"{path}: has no annotation {name}; restore it or remove the image")
        else:
            pairs.append(Pair(path, (outline,), "hc18"))
    faults += [f"{path}: has no image; restore the image or remove it" for path in outlines.values()]
    return pairs, faults


def _read_table(path: Path) -> tuple[dict[str, _Row], list[str]]:
    rows: dict[str, _Row] = {}
    faults: list[str] = []
    try:
        cells = read_rows(path, _HEADER)
    except UserError as error:
        return {}, [str(error)]
    for line, (name, *texts) in cells:
        pixel, circumference = map(_parse_size, texts)
        if not name or name in rows or pixel is None or circumference is None:
            faults.append(
                f"{path}: line {line} must give a new file name and two positive sizes in mm, got "
                f"{','.join([name, *texts])}; fix it"
            )
        else:
            rows[name] = pixel, circumference
    return rows, faults


def _parse_size(text: str) -> float | None:
    try:
        size = float(text)
    except ValueError:
        return None
    return size if math.isfinite(size) and size > 0 else None


def _fill(outline: Sample, row: _Row) -> tuple[Sample, float]:
    """Return the sample with the filled ellipse, and how far its circumference is from the table's."""
    ellipse, (pixel, circumference) = fit_ellipse(outline.target), row
    match = _NAME.fullmatch(outline.name)
    group = match["exam"] if match else outline.name
    labels = ellipse.fill(outline.image.shape)
    own = {"circumference_mm": circumference}
    sample = replace(outline, labels=labels, spacing_mm=(pixel, pixel), group=group, measured=own)
    return sample, abs(ellipse.circumference * pixel / circumference - 1)


HC18 = image_files(_find, _read)

"""What the page reads and writes: a folder of images, and a folder of what was made of them.

Of the labels, each file is replaced whole or not at all::

    images/NAME.png     the image as 8-bit gray, without any tag of the file that it came from
    masks/NAME.png      0 and 255, or class numbers if there are several structures
    masks/NAME.json     how the mask came about
    structures.csv      if the structures have names
    groups.csv          if the patients or exams are known
    spacing.csv         if pixel sizes are known
    drafts/NAME.json    marks on an image, and what can be undone
    .accepting.json     what a killed process was about to write

All but the last two make a data set that `usrl.data.sets.folder` reads.
"""

import base64
import binascii
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from PIL import Image
from pydantic import Field

from usrl.data.reading.files import check_name, kind_of, list_images, read_classes, read_mask
from usrl.data.reading.images import list_readable, open_image, read_image
from usrl.data.reading.nifti import stem_of
from usrl.data.reading.tables import clean, format_rows, read_rows
from usrl.data.reading.windows import Window
from usrl.data.sample import BoolMask, Box, GrayImage, Labels, Spacing
from usrl.data.sets.folder import format_spacings, read_groups, read_spacings
from usrl.errors import UserError
from usrl.files import locked, write_atomically, writing_to
from usrl.strict import Strict, check, read_json

PALETTE = ((0, 0, 0), (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167))
"""Background and structures, as RGB: colours of Okabe and Ito (2008), used again after the fifth."""
MOST_STRUCTURES = 32
MOST_STEPS = 50
"""Steps that can be undone after a restart."""
_LONGEST_DRAFT = 64 << 20
_HEAD = 4096
"""What is read of a draft for the list of images; masks come after it."""
_PARTS = ("images", "masks", "drafts")
Kind = Literal["border", "inside", "outside"]


class Mark(Strict):
    """A point that a person has put down, (x, y) in pixels of the image."""

    kind: Kind
    x: float
    y: float


class Script(Strict):
    """What a person has done with one structure of an image. It says all that a session needs.

    Attributes:
        boxes: Around lesions.
        mask: What the session began with instead of boxes, a PNG as text, or None.
        source: Where that mask was from.
        marks: Corrections, in order.
    """

    boxes: Annotated[tuple[Annotated[Box, Field(strict=False)], ...], Field(strict=False)] = ()
    mask: str | None = None
    source: str = ""
    marks: Annotated[tuple[Mark, ...], Field(strict=False)] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has begun."""
        return not self.boxes and self.mask is None


class Step(Strict):
    """What was shown after a script.

    Attributes:
        script: What a person had done.
        shown: The mask, a PNG as text; None if nothing has begun.
        method: That made it; empty if none did.
    """

    script: Script = Script()
    shown: str | None = None
    method: str = ""


class Work(Strict):
    """All steps on one structure of an image, of which ``place`` is the present one."""

    steps: Annotated[tuple[Step, ...], Field(strict=False, min_length=1)] = (Step(),)
    place: int = Field(default=0, ge=0)

    @property
    def now(self) -> Step:
        """The present step."""
        return self.steps[min(self.place, len(self.steps) - 1)]


class Draft(Strict):
    """What is kept of an image that a person has begun.

    Attributes:
        revision: Counts changes, so that two tabs do not overwrite each other.
        seconds: That a person has spent on the image.
        is_open: Whether something has changed since the mask was accepted.
        works: By structure.
    """

    revision: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    is_open: bool = False
    works: dict[str, Work] = Field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """An image file.

    Attributes:
        path: The file.
        spacing_mm: (row, column) pixel size in millimetres, or None if it is unknown.
        group: Patient or exam; None if it is unknown.
        fault: Why the file cannot be used; empty if it can.
    """

    path: Path
    spacing_mm: Spacing | None = None
    group: str | None = None
    fault: str = ""


class ImageFolder:
    """The images that are to be segmented: those of a folder, or of ``images/`` in a data set.

    Args:
        root: The folder.
        masks: A folder of masks of these images, by name; ``masks/`` of a data set if None.
        spacing_mm: (row, column) pixel size of images that do not tell theirs.
        window: As in `usrl.data.reading.images.read_image`.

    Raises:
        UserError: If there are no images, or two have the same name.
    """

    def __init__(
        self,
        root: Path,
        masks: Path | None = None,
        spacing_mm: Spacing | None = None,
        window: Window | None = None,
    ) -> None:
        for folder in (root, masks or root):
            if not folder.is_dir():
                raise UserError(f"{folder}: is not a folder; name a folder of images")
        is_set = not list_readable(root) and (root / "images").is_dir()
        self.root, self.path, self._spacing = root, root / "images" if is_set else root, spacing_mm
        beside = root / "masks"
        self._window = window
        self._masks = masks or (beside if is_set and beside.is_dir() else None)
        self.sources: dict[str, Source] = {}
        self._patients: set[str] = set()
        self.scan()
        if not self.sources:
            raise UserError(
                f"{root}: holds no images; put PNG, TIFF, BMP, JPEG, DICOM, NIfTI or NRRD files there"
            )
        names: dict[str, Path] = {}
        for path in list_readable(self.path):
            other = names.setdefault(_fold(path), path)
            if other is not path:
                raise UserError(f"{other} and {path} would have the same mask; rename one")

    def scan(self) -> None:
        """Look for files that are new or gone."""
        names = [clean(stem_of(path)) for path in list_readable(self.path)]
        groups = read_groups(self.root / "groups.csv", names)
        spacings = read_spacings(self.root / "spacing.csv", names)
        found: dict[str, Source] = {}
        for path in list_readable(self.path):
            name = clean(stem_of(path))
            known = self.sources.get(name)
            if known is None or known.path != path:
                known = self._look(path, groups.get(name), spacings.get(name))
            found[name] = known
        self.sources = found

    def groups(self) -> dict[str, str]:
        """Return patient or exam of the images where it is known. Patients of DICOM files are numbered."""
        known = {name: source.group for name, source in self.sources.items() if source.group is not None}
        patients = [group for group in dict.fromkeys(known.values()) if group in self._patients]
        numbered = {group: f"patient-{number}" for number, group in enumerate(patients, 1)}
        return {name: numbered.get(group, group) for name, group in known.items()}

    def spacings(self) -> dict[str, Spacing]:
        """Return the pixel size of the images where it is known, (row, column) in millimetres."""
        known = {name: source.spacing_mm for name, source in self.sources.items()}
        return {name: spacing for name, spacing in known.items() if spacing is not None}

    def read(self, name: str) -> GrayImage:
        """Return an image, uint8, (H, W)."""
        source = self.sources[name]
        if source.fault:
            raise UserError(source.fault)
        return read_image(self._confine(source.path), self._window)[0]

    def has_mask(self, name: str) -> bool:
        """Return whether there is a mask of an image to start from."""
        return self._find_mask(name) is not None

    def read_mask(self, name: str, number: int, structures: int, shape: tuple[int, ...]) -> BoolMask:
        """Return the mask of a structure, bool, of the image's shape (H, W).

        Args:
            name: Of the image.
            number: Of the structure, from 1 on.
            structures: How many there are: masks of one have two values, those of several class numbers.
            shape: Of the image.
        """
        path = self._find_mask(name)
        if path is None:
            raise UserError(f"there is no mask of {name} to start from; draw a box")
        source = self.sources[name].path
        return read_structure(self._confine(path, path.parent), number, structures, shape, source)

    def _look(self, path: Path, group: str | None, spacing: Spacing | None) -> Source:
        try:
            check_name(path)
            if clean(stem_of(path)).startswith("."):
                raise UserError(f"{path}: its name begins with a dot after a space; rename it")
            self._confine(path)
            if kind_of(path) == "picture":  # whose header says nothing of it
                return Source(path, spacing or self._spacing, group)
            header = open_image(path)
            if group is None and header.patient:
                self._patients.add(header.patient)
            return Source(path, spacing or header.spacing_mm or self._spacing, group or header.patient)
        except UserError as error:
            return Source(path, fault=str(error))

    def _confine(self, path: Path, folder: Path | None = None) -> Path:
        """Return a path; refuse a link that leads out of the folder."""
        if not path.resolve().is_relative_to((folder or self.path).resolve()):
            raise UserError(f"{path}: is a link that leads out of the folder; copy the file")
        return path

    def _find_mask(self, name: str) -> Path | None:
        if self._masks is None:
            return None
        return next((path for path in list_readable(self._masks) if clean(stem_of(path)) == name), None)


class LabelFolder:
    """What has been accepted and begun.

    Args:
        path: The folder.
        structures: Names of the structures; empty for lesions.
    """

    def __init__(self, path: Path, structures: Sequence[str] = ()) -> None:
        self.path, self._named = path, tuple(structures)
        self.structures = self._named or ("lesion",)
        if len(set(self.structures)) < len(self.structures) or not all(map(str.strip, self.structures)):
            raise UserError(f"structures need names that differ, got {', '.join(self.structures)}")
        if len(self.structures) > MOST_STRUCTURES:
            raise UserError(
                f"at most {MOST_STRUCTURES} structures are told apart, got {len(self.structures)}"
            )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folder, keep other processes from writing into it, and finish what a killed one began.

        Raises:
            UserError: If it holds masks that were not made here, or other structures.
        """
        with ExitStack() as stack:
            for folder in (self.path, *(self.path / part for part in _PARTS)):
                stack.enter_context(locked(folder))
            self._finish()
            self._check()
            yield

    def accepted(self) -> set[str]:
        """Return the names of the images whose masks have been accepted."""
        found = (path for path in (self.path / "masks").glob("*.json") if not path.name.startswith("."))
        return {clean(path.stem) for path in found if path.with_suffix(".png").exists()}

    def accepted_in_order(self) -> list[str]:
        """Return the names of the accepted images, the first accepted first."""

        def time_of(name: str) -> str:
            path = self.path / "masks" / f"{name}.json"
            record = read_json(path.read_bytes(), str(path), "accept the image again")
            return str(record.get("accepted", "")) if isinstance(record, dict) else ""

        return sorted(sorted(self.accepted()), key=time_of)

    def begun(self) -> dict[str, bool]:
        """Return which images have a draft, and whether it has changed since the last acceptance."""
        found = {}
        for path in (self.path / "drafts").glob("*.json"):
            if not path.name.startswith("."):
                with path.open("rb") as file:
                    found[clean(path.stem)] = b'"is_open":true' in file.read(_HEAD)
        return found

    def read_draft(self, name: str) -> Draft:
        """Return what was begun on an image; an empty draft if nothing was."""
        path = self.path / "drafts" / f"{name}.json"
        if not path.exists():
            return Draft()
        remedy = "move the file away to begin the image anew"
        if path.stat().st_size > _LONGEST_DRAFT:
            raise UserError(f"{path}: is too long for a draft; {remedy}")
        try:
            return check(Draft, read_json(path.read_bytes(), str(path), remedy), str(path))
        except UserError as error:
            raise UserError(f"{error}; {remedy}") from None

    def write_draft(self, name: str, draft: Draft) -> None:
        """Keep what was begun on an image."""
        with writing_to(self.path):
            write_atomically(self.path / "drafts" / f"{name}.json", draft.model_dump_json().encode())

    def read_mask(self, name: str, number: int, shape: tuple[int, ...]) -> BoolMask:
        """Return the accepted mask of a structure, numbered from 1 on, bool, of the image's shape (H, W)."""
        path = self.path / "masks" / f"{name}.png"
        return read_structure(path, number, len(self.structures), shape)

    def accept(
        self,
        name: str,
        image: GrayImage,
        labels: Labels,
        record: Mapping[str, Any],
        draft: Draft,
        groups: Mapping[str, str],
        spacings: Mapping[str, Spacing],
    ) -> None:
        """Write an image's mask and what belongs to it. A killed process is completed by the next.

        Args:
            name: Of the image.
            image: uint8, (H, W).
            labels: Number of each pixel's structure, from 1 on, uint8, (H, W), 0 on the background.
            record: How the mask came about.
            draft: What is kept of the marks.
            groups: Patient or exam by name of an image, where they are known.
            spacings: Pixel size by name of an image, likewise, mm.
        """
        files = {
            f"drafts/{name}.json": draft.model_dump_json().encode(),
            f"masks/{name}.png": self._encode_labels(labels),
            f"masks/{name}.json": json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False).encode(),
        }
        copy, content = self.path / "images" / f"{name}.png", encode_png(image)
        if not copy.exists() or copy.read_bytes() != content:
            files[f"images/{name}.png"] = content
        if self._named:
            files["structures.csv"] = self._table()
        names = sorted(self.accepted() | {name})
        if known := {each: spacings[each] for each in names if each in spacings}:
            files["spacing.csv"] = format_spacings(known)
        if groups:
            files["groups.csv"] = format_rows(
                ("name", "group"), [(each, groups.get(each, each)) for each in names]
            )
        texts = {path: base64.b64encode(content).decode() for path, content in files.items()}
        with writing_to(self.path):
            write_atomically(self._journal, json.dumps(texts).encode())
        self._finish()

    @property
    def _journal(self) -> Path:
        return self.path / ".accepting.json"

    def _finish(self) -> None:
        """Write what the journal holds."""
        if not self._journal.exists():
            return
        remedy = "remove it, and look whether the last mask is there"
        content = read_json(self._journal.read_bytes(), str(self._journal), remedy)
        for path, text in content.items() if isinstance(content, dict) else ():
            with writing_to(self.path):
                write_atomically(self._inside(path), _decode(text, str(self._journal)))
        self._journal.unlink()

    def _inside(self, path: str) -> Path:
        """Return the path of a file that the page writes; refuse any other."""
        folder, _, name = path.rpartition("/")
        is_table = not folder and name in ("structures.csv", "groups.csv", "spacing.csv")
        if not is_table and (folder not in _PARTS or Path(name).name != name or name.startswith(".")):
            raise UserError(
                f"{self._journal}: names {path!r}, which the page does not write; remove the file"
            )
        return self.path / folder / name

    def _check(self) -> None:
        table = self.path / "structures.csv"
        found = [name for _, (_, name) in read_rows(table, ("number", "name"))] if table.exists() else []
        accepted = self.accepted()
        if accepted and found != list(self._named):
            given = " ".join(f"--structure {name}" for name in found) or "no --structure"
            raise UserError(f"{self.path}: its masks are of other structures; give {given}, or another --out")
        strange = [path for path in list_images(self.path / "masks") if clean(path.stem) not in accepted]
        if strange:
            raise UserError(
                f"{strange[0]}: was not made here; choose another --out, or start from it (--masks)"
            )

    def _encode_labels(self, labels: Labels) -> bytes:
        if len(self.structures) == 1:
            return encode_png(labels * np.uint8(255))
        picture, buffer = Image.fromarray(labels), io.BytesIO()
        colours = [PALETTE[1 + (number - 1) % (len(PALETTE) - 1)] for number in range(1, 256)]
        picture.putpalette([level for colour in (PALETTE[0], *colours) for level in colour])
        picture.save(buffer, "PNG")
        return buffer.getvalue()

    def _table(self) -> bytes:
        numbers = range(1, len(self._named) + 1) if len(self._named) > 1 else (255,)
        return format_rows(("number", "name"), list(zip(map(str, numbers), self._named, strict=True)))


def read_structure(
    path: Path, number: int, structures: int, shape: tuple[int, ...], image: Path | None = None
) -> BoolMask:
    """Return one of several structures of a mask file, bool, (H, W), which must have the image's shape.

    If the image's file is given, the mask may be of the whole frame, of which the image is a region.
    """
    if structures == 1:
        mask = read_mask(path)
    else:
        mask = np.asarray(read_classes(path, tuple(range(1, structures + 1))) == number, np.bool_)
    if mask.shape != shape[:2] and image is not None:
        mask = np.asarray(open_image(image).frame.crop(mask), np.bool_)
    if mask.shape != shape[:2]:
        raise UserError(f"{path}: has shape {mask.shape}, and its image {shape[:2]}; export both again")
    return mask


def encode_png(gray: GrayImage) -> bytes:
    """Return an image, uint8, (H, W), as PNG without any text or tag."""
    return bytes(cv2.imencode(".png", gray)[1])


def encode_mask(mask: BoolMask) -> str:
    """Return a mask, bool, (H, W), as the text of a PNG with one bit for a pixel."""
    bilevel = [cv2.IMWRITE_PNG_BILEVEL, 1]
    return base64.b64encode(
        bytes(cv2.imencode(".png", mask.view(np.uint8) * np.uint8(255), bilevel)[1])
    ).decode()


def decode_mask(text: str, shape: tuple[int, ...]) -> BoolMask:
    """Return the mask of a text, bool, (H, W)."""
    content = _decode(text, "a draft")
    told = tuple(int.from_bytes(content[at : at + 4], "big") for at in (20, 16))  # of the PNG's header
    levels = (
        None if told != shape[:2] else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    )
    if levels is None:
        raise UserError(f"a draft holds a mask that is not of its image, {shape[:2]}; remove the draft")
    return np.asarray(levels > 127, np.bool_)


def _decode(text: Any, source: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise UserError(f"{source}: holds a damaged file; remove it") from None


def _fold(path: Path) -> str:
    return clean(stem_of(path)).casefold()

"""Pascal VOC: a folder with ``SegmentationClass/NAME.png`` and ``Annotations/NAME.xml``.

Only masks are read, class numbers as indices of a palette or as colours. Names of classes are those of
``labelmap.txt`` (``name:r,g,b::``, as CVAT writes it) or ``class_names.txt`` (a name a line from class 0 on,
as LabelMe writes it); without them classes are called by their numbers. The value 255, or the colour of
``ignored``, is a border that nobody has judged: it becomes background, and a note counts these pixels. An
XML file with objects and no mask has boxes alone and is refused: a box says nothing of an outline.

Source: Everingham et al. (2010), The PASCAL Visual Object Classes (VOC) challenge, IJCV 88:303-338,
doi:10.1007/s11263-009-0275-4.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from usrl.data.importing.marks import Annotations, Mark, Marked, read_text, read_xml, refuse, structure_name
from usrl.data.reading.files import list_images
from usrl.data.reading.pairs import listed
from usrl.data.reading.tables import clean
from usrl.data.sample import BoolMask
from usrl.errors import UserError, brief

_IGNORED = ("ignored", "__ignore__")
_BACKGROUND = ("background", "_background_")
VOID = 255


def read_voc(source: Path, images: list[str]) -> Annotations:
    """Read a folder of VOC masks of some images, which are found by their names."""
    folder = source / "SegmentationClass"
    masks = {clean(path.stem): path for path in list_images(folder)} if folder.is_dir() else {}
    boxes = [path for path in sorted((source / "Annotations").glob("*.xml")) if clean(path.stem) not in masks]
    boxes = [path for path in boxes if read_xml(path).find("object") is not None]
    if boxes:
        raise refuse(
            boxes[0],
            f"{len(boxes)} images have boxes and no mask in SegmentationClass, and a box says nothing of "
            "an outline "
            f"({listed([path.stem for path in boxes])})",
            "outline the objects and export segmentation masks",
        )
    if not masks:
        raise UserError(
            f"{source}: no VOC masks found; wanted SegmentationClass/NAME.png; name the folder of it"
        )
    colours, names = _read_names(source)
    stems = {clean(Path(image).stem): image for image in images}
    if len(stems) < len(images):
        raise refuse(source, "two images have the same name, and masks are found by names", "rename one")
    if strange := sorted(masks.keys() - stems.keys()):
        raise refuse(folder, f"no image for {listed(strange)}", "add the images, or remove the masks")
    found, void = Annotations(structures=list(names.values())), 0
    for stem, path in masks.items():
        numbers = _read_numbers(path, colours)
        void += int((numbers == VOID).sum())
        marks = []
        for value in sorted(set(np.unique(numbers).tolist()) - {0, VOID}):
            if names and value not in names:
                raise refuse(
                    path, f"holds class {value}, which the list of classes does not name", "name it there"
                )
            name = names.get(value, str(value))
            marks.append(Mark(name, partial(_draw, path, numbers.shape, value, colours)))
        found.images.append(Marked(stems[stem], (numbers.shape[0], numbers.shape[1]), tuple(marks)))
    if not names:
        used = {int(mark.structure) for image in found.images for mark in image.marks}
        found.structures = [str(value) for value in sorted(used)]
    found.notes += [f"{void} pixels that nobody has judged became background"] if void else []
    return found


def _draw(
    path: Path, held: tuple[int, ...], value: int, colours: dict[int, int], shape: tuple[int, int]
) -> BoolMask:
    if held != shape:
        raise refuse(path, f"is of shape {held} and its image of {shape}", "export both again")
    return np.asarray(_read_numbers(path, colours) == value, np.bool_)


def _read_numbers(path: Path, colours: dict[int, int]) -> NDArray[np.uint8]:
    """Return class numbers, (H, W): by colour if the classes have colours, or as indices or gray levels."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            limit = Image.MAX_IMAGE_PIXELS or 0
            if picture.width * picture.height > limit:
                raise refuse(path, "has too many pixels", "shrink it")
            if not colours and picture.mode not in ("P", "L"):
                raise refuse(path, f"is of mode {picture.mode}, and colours are named by no labelmap.txt")
            values = np.asarray(picture if not colours else picture.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # decoders raise anything at damaged files
        raise refuse(path, f"cannot be read ({brief(str(error))})") from None
    if not colours:
        return values.astype(np.uint8)
    packed = values.astype(np.int64) @ np.array([65536, 256, 1])
    numbers = np.zeros(packed.shape, np.uint8)
    is_known = np.zeros(packed.shape, np.bool_)
    for colour, value in colours.items():
        numbers[packed == colour] = value
        is_known |= packed == colour
    if not is_known.all():
        odd = int(packed[~is_known][0])
        raise refuse(path, f"has the colour {odd >> 16, odd >> 8 & 255, odd & 255}, which labelmap.txt lacks")
    return numbers


def _read_names(source: Path) -> tuple[dict[int, int], dict[int, str]]:
    """Return class numbers by packed colour, empty without colours, and names by class number."""
    colours: dict[int, int] = {}
    names: dict[int, str] = {}
    if (path := source / "labelmap.txt").is_file():
        for line in _lines(path):
            name, _, rest = line.partition(":")
            levels = rest.partition(":")[0].split(",")
            if len(levels) != 3 or not all(level.strip().isdecimal() and len(level) < 4 for level in levels):
                raise refuse(path, f"a line is name:r,g,b::, got {brief(line)}", "restore it")
            red, green, blue = map(int, levels)
            name = structure_name(path, name)
            is_void, is_background = name in _IGNORED, name in _BACKGROUND
            value = VOID if is_void else 0 if is_background else len(names) + 1
            if not is_void and not is_background:
                names[value] = name
            colours[(red << 16) + (green << 8) + blue] = value
    elif (path := source / "class_names.txt").is_file():
        classes = [name for name in _lines(path) if name not in _IGNORED]
        names = {value: structure_name(path, name) for value, name in enumerate(classes) if value}
    if len(names) >= VOID or len(set(names.values())) < len(names):
        raise refuse(source, "names a class twice, or more than 254 classes", "correct the list of classes")
    return colours, names


def _lines(path: Path) -> list[str]:
    lines = read_text(path).decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

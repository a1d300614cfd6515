"""A folder of images and masks of any kind.

Origin, licence and citation are the owner's. Layout: ``images/NAME.EXT`` with ``masks/NAME.EXT``, matched
by stem; the extensions may differ. An optional ``groups.csv`` with the header ``name,group`` gives each image
its patient or exam, which splits keep together; without it, every image is a group of its own. Expected
counts: one mask per image, one image per mask. Masks: foreground is where the luminance exceeds 127; several
components are several lesions, an empty mask is an image without one. Pixel size is unknown.
"""

from dataclasses import replace
from pathlib import Path

from usrl.data.files import has_more_than_8_bits, list_images
from usrl.data.pairs import Pair, listed, raise_faults, read_pairs
from usrl.data.reports import DataReport, report_samples
from usrl.data.sample import Sample
from usrl.data.tables import read_rows
from usrl.errors import UserError

_DEEP = "images of over 8 bits (largest value to 255)"


def load_folder(root: Path | str, show_progress: bool = False) -> list[Sample]:
    """Load a folder with ``images/`` and ``masks/``.

    Args:
        root: The folder that contains both.
        show_progress: Show a progress bar.

    Returns:
        Samples by name (the files' stem), of source ``"folder"``.

    Raises:
        UserError: If a folder is absent or empty, files do not pair, sizes differ, a file is damaged, or
            ``groups.csv`` does not name every image once.
    """
    root = Path(root)
    pairs, faults = _pair_files(root)
    raise_faults(faults)
    outcomes = read_pairs(pairs, "Reading images", show_progress)
    raise_faults([str(outcome) for outcome in outcomes if isinstance(outcome, UserError)])
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    groups = _read_groups(root / "groups.csv", [sample.name for sample in samples])
    return [replace(sample, group=groups.get(sample.name, sample.name)) for sample in samples]


def check_folder(root: Path | str, show_progress: bool = False) -> DataReport:
    """Check a folder with ``images/`` and ``masks/`` without stopping at its faults.

    Args:
        root: The folder that contains both.
        show_progress: Show a progress bar.

    Returns:
        Counts, groups, near-duplicate pairs, images of more than 8 bits, and faults.

    Raises:
        UserError: If a folder is absent or empty.
    """
    root = Path(root)
    pairs, faults = _pair_files(root)
    outcomes = read_pairs(pairs, "Reading images", show_progress)
    faults += [str(outcome) for outcome in outcomes if isinstance(outcome, UserError)]
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    try:
        groups = _read_groups(root / "groups.csv", [pair.image.stem for pair in pairs])
    except UserError as error:
        groups = {}
        faults.append(str(error))
    samples = [replace(sample, group=groups.get(sample.name, sample.name)) for sample in samples]
    report = report_samples("folder", str(root), samples, faults)
    read = {sample.name for sample in samples}
    deep = sum(has_more_than_8_bits(pair.image) for pair in pairs if pair.image.stem in read)
    return replace(report, facts=report.facts | ({_DEEP: deep} if deep else {}))


def _pair_files(root: Path) -> tuple[list[Pair], list[str]]:
    """Match images with masks by stem; return what does not match as faults."""
    images, masks = _by_stem(root / "images"), _by_stem(root / "masks")
    faults = [
        f"{files[1]}: the name {stem!r} occurs twice in its folder; rename or remove one"
        for stem, files in [*images.items(), *masks.items()]
        if len(files) > 1
    ]
    pairs = [Pair(images[s][0], (masks[s][0],), "folder") for s in sorted(images.keys() & masks.keys())]
    if lonely := sorted(images.keys() - masks.keys()):
        faults.append(f"{root / 'images'}: no mask for {listed(lonely)}; add masks/NAME or remove the images")
    if lonely := sorted(masks.keys() - images.keys()):
        faults.append(f"{root / 'masks'}: no image for {listed(lonely)}; add images/NAME or remove the masks")
    return pairs, faults


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of a folder by stem; raise where there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: does not exist; a dataset folder holds images/ and masks/")
    files: dict[str, list[Path]] = {}
    for path in list_images(folder):
        files.setdefault(path.stem, []).append(path)
    if not files:
        raise UserError(f"{folder}: holds no images; put PNG, TIFF, BMP or JPEG files there")
    return files


def _read_groups(path: Path, names: list[str]) -> dict[str, str]:
    """Return the group of every name, or nothing where the file is absent."""
    if not path.exists():
        return {}
    groups: dict[str, str] = {}
    for line, (name, group) in read_rows(path, ("name", "group")):
        if not name or not group or name in groups:
            raise UserError(f"{path}: line {line} must give a new name and its group; fix it")
        groups[name] = group
    if unmatched := sorted(set(names) ^ groups.keys()):
        raise UserError(f"{path}: must name every image once and nothing else; see {listed(unmatched)}")
    return groups

"""The datasets by name, and where they are looked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from usrl.data.busi import check_busi, load_busi
from usrl.data.folder import check_folder, load_folder
from usrl.data.hc18 import check_hc18, load_hc18
from usrl.data.phantom.dataset import load_phantom
from usrl.data.recipe import DataRecipe
from usrl.data.reports import DataReport, report_samples
from usrl.data.sample import Sample
from usrl.data.splits import DEFAULT_FRACTIONS, draw_labelled, split_samples, write_split
from usrl.data.usgra import check_usgra, load_usgra
from usrl.errors import UserError, suggest

PHANTOM = "phantom"
UNUSED = "unused"
"""Training images without labels, as a run's ``split.tsv`` calls them."""


@dataclass(frozen=True)
class _Files:
    """How a dataset of files is loaded and checked, and the folder that it shares with another."""

    load: Callable[[Path, bool], list[Sample]]  # of root and show_progress, as check
    check: Callable[[Path, bool], DataReport]
    folder: str | None = None


_FILES = {
    "busi": _Files(load_busi, check_busi),
    "folder": _Files(load_folder, check_folder),
    "hc18": _Files(load_hc18, check_hc18),
    "usgra": _Files(load_usgra, check_usgra),
    "usgra-vessels": _Files(
        partial(load_usgra, structure="vessel"), partial(check_usgra, structure="vessel"), folder="usgra"
    ),
}
DATASETS = (PHANTOM, *_FILES)
"""Names that ``load_dataset`` knows."""


def load_dataset(
    name: str,
    root: Path | str | None = None,
    *,
    count: int = 200,
    seed: int = 0,
    variety: float = 0.0,
    show_progress: bool = False,
) -> list[Sample]:
    """Load a dataset by name.

    Args:
        name: One of ``DATASETS``.
        root: Folder of the dataset; ``$USRL_DATA/<name>`` if None. The phantom has none, and takes None.
        count: Number of phantom images; other datasets ignore it.
        seed: Seed of the phantom; other datasets ignore it.
        variety: Of the phantom (`usrl.data.phantom.dataset.load_phantom`); other datasets ignore it.
        show_progress: Show a progress bar.

    Returns:
        The samples.

    Raises:
        UserError: If the name is unknown, no folder is found or the phantom is given one, or the dataset
            has faults.
    """
    _check_name(name, root)
    if name == PHANTOM:
        return load_phantom(count, seed, variety=variety, show_progress=show_progress)
    return _FILES[name].load(find_root(name, root), show_progress)


def load_split(
    name: str,
    root: Path | str | None,
    split: str,
    split_seed: int = 0,
    *,
    count: int = 200,
    seed: int = 0,
    variety: float = 0.0,
    labels: float = 1.0,
    show_progress: bool = False,
) -> list[Sample]:
    """Load one part of a dataset's default split.

    Args:
        name: One of ``DATASETS``.
        root: As ``load_dataset``.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        split_seed: Seed of the split.
        count: As ``load_dataset``.
        seed: As ``load_dataset``.
        variety: As ``load_dataset``.
        labels: Share of the groups of ``"train"`` that are loaded (`usrl.data.splits.draw_labelled`).
        show_progress: Show a progress bar.

    Returns:
        The samples of that part, in the dataset's order.

    Raises:
        UserError: If the part is unknown, or as ``load_dataset``.
    """
    known = (*DEFAULT_FRACTIONS, "all")
    if split not in known:
        raise UserError(f"unknown split {split!r}: {suggest(split, known)}")
    samples = load_dataset(name, root, count=count, seed=seed, variety=variety, show_progress=show_progress)
    if split == "all":
        return samples
    return [samples[index] for index in _split(samples, split_seed, labels)[split]]


def load_recipe_split(data: DataRecipe, split: str) -> list[Sample]:
    """Load one part of a recipe's data set, with a progress bar; see `load_split`."""
    return load_split(split=split, **data.model_dump(exclude={"size"}), show_progress=True)


def load_train_and_val(data: DataRecipe, split_path: Path) -> tuple[list[Sample], list[Sample]]:
    """Load a recipe's data set, write its split and return the parts that training may see.

    Training images beyond the recipe's share of labels are ``unused`` in the file.
    """
    options = data.model_dump(include={"name", "root", "count", "seed", "variety"})
    samples = load_dataset(**options, show_progress=True)
    split = _split(samples, data.split_seed, data.labels)
    write_split(split_path, samples, split)
    return [samples[index] for index in split["train"]], [samples[index] for index in split["val"]]


def check_dataset(
    name: str,
    root: Path | str | None = None,
    *,
    count: int = 200,
    show_progress: bool = False,
) -> DataReport:
    """Check a dataset by name.

    Args:
        name: One of ``DATASETS``.
        root: As ``load_dataset``.
        count: As ``load_dataset``.
        show_progress: Show a progress bar.

    Returns:
        Counts, groups, duplicates and faults; ``lines()`` gives them as text.

    Raises:
        UserError: If the name is unknown, no folder is found or the phantom is given one.
    """
    _check_name(name, root)
    if name == PHANTOM:
        return report_samples(PHANTOM, None, load_phantom(count, show_progress=show_progress))
    return _FILES[name].check(find_root(name, root), show_progress)


def find_root(name: str, root: Path | str | None = None) -> Path:
    """Return the folder of a dataset.

    Args:
        name: Name of the dataset.
        root: The folder, or None for ``$USRL_DATA/<name>`` (``usgra-vessels`` lies in ``usgra``).

    Returns:
        An existing folder.

    Raises:
        UserError: If none is given and ``USRL_DATA`` is not set, or it does not exist.
    """
    base, home = os.environ.get("USRL_DATA"), _name_folder(name)
    if root is None and not base:
        raise UserError(
            f"dataset {name!r} is read from a folder and none is given; pass --root DIR, "
            f"or set USRL_DATA to the folder that holds {home}/"
        )
    folder = Path(root) if root is not None else Path(base or "") / home
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; pass the folder of dataset {name!r} with --root DIR, "
            f"or set USRL_DATA to the folder that holds {home}/"
        )
    return folder


def require_dataset(data: DataRecipe) -> None:
    """Raise a `UserError` if the data set of a recipe is unknown, or its folder not there or not wanted."""
    _check_name(data.name, data.root)
    if data.name != PHANTOM:
        find_root(data.name, data.root)


def resolve_root(data: DataRecipe) -> Path:
    """Return the absolute folder of a recipe's data set, whether or not it is there."""
    return Path(data.root or Path(os.environ.get("USRL_DATA", "")) / _name_folder(data.name)).resolve()


def has_same_images(first: DataRecipe, second: DataRecipe) -> bool:
    """Return whether equal names of images mean equal images in two recipes' data sets."""
    if _name_folder(first.name) != _name_folder(second.name):
        return False
    if first.name == PHANTOM:
        return (first.seed, first.variety) == (second.seed, second.variety)
    # Folders of different places may use the same file names.
    return first.name != "folder" or resolve_root(first) == resolve_root(second)


def _name_folder(name: str) -> str:
    """Return the folder of a dataset in ``$USRL_DATA``; datasets of one folder have the same images."""
    return (_FILES[name].folder if name in _FILES else None) or name


def _split(samples: list[Sample], seed: int, labels: float) -> dict[str, list[int]]:
    split = split_samples(samples, seed=seed)
    kept = draw_labelled(samples, split["train"], labels, seed)
    unused = sorted(set(split["train"]) - set(kept))
    return split | {"train": kept} | ({UNUSED: unused} if unused else {})


def _check_name(name: str, root: Path | str | None) -> None:
    """Raise where there is no such dataset, or a folder is given for one that has none."""
    if name not in DATASETS:
        raise UserError(f"unknown dataset {name!r}: {suggest(name, DATASETS)}")
    if name == PHANTOM and root is not None:
        raise UserError(
            f"dataset {PHANTOM!r} is simulated and reads no folder, got the root {root}; leave the root out, "
            f"or name the dataset that lies there: {', '.join(_FILES)}"
        )

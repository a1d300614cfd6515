"""The data sets by name; `register_dataset` adds a foreign one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usrl.data.bodies.dataset import check_bodies, list_bodies, load_bodies
from usrl.data.bodies.folder import VOLUME_FILES
from usrl.data.bodies.slices import check_slices, load_slices
from usrl.data.bodies.volumes import VOLUMES
from usrl.data.clips.clips import CLIPS
from usrl.data.clips.covid_blues import COVID_BLUES
from usrl.data.clips.folder import CLIP_FOLDER
from usrl.data.clips.lung import check_lung, list_lung, load_lung
from usrl.data.clips.sweeps import check_sweeps, list_sweeps, load_sweeps
from usrl.data.dataset import IMAGES, DataReport, Dataset, find_root, report_samples, usual_root
from usrl.data.phantom.dataset import load_phantom
from usrl.data.recipe import DataRecipe
from usrl.data.sample import LESION, Sample, choose_structure
from usrl.data.sets.bus_bra import BUS_BRA
from usrl.data.sets.busi import BUSI
from usrl.data.sets.camus import CAMUS
from usrl.data.sets.cva_net import CVA_NET
from usrl.data.sets.ddti import DDTI
from usrl.data.sets.folder import FOLDER
from usrl.data.sets.hc18 import HC18
from usrl.data.sets.mus_v import MUS_V
from usrl.data.sets.stu import STU
from usrl.data.sets.us_simulation import US_SIMULATION
from usrl.data.sets.usgra import USGRA
from usrl.data.split_files import read_split, write_table
from usrl.data.splits import DEFAULT_FRACTIONS, draw_labelled, split_fold, split_samples, write_split
from usrl.errors import UserError, suggest
from usrl.strict import check

SIMULATED = ("phantom", "bodies", "slices", "lung", "sweeps")
"""Data sets that ``count``, ``seed`` and ``variety`` of a recipe describe; they read no folder."""
_OWN = ("folder", "volumes", "clips")
"""Data sets that read a user's folder of any name."""
UNUSED = "unused"
"""Training images without labels, as a run's ``split.tsv`` calls them."""


def _simulate(data: DataRecipe, split: str = "all") -> list[Sample]:
    return load_phantom(data.count, data.seed, variety=data.variety, show_progress=True)


DATASETS: dict[str, Dataset] = {
    "phantom": Dataset(_simulate, lambda d: report_samples(d.name, None, _simulate(d)), structures=LESION),
    "busi": BUSI,
    "hc18": HC18,
    "usgra": USGRA,
    "ddti": DDTI,
    "bus-bra": BUS_BRA,
    "stu": STU,
    "camus": CAMUS,
    "us-simulation": US_SIMULATION,
    "mus-v": MUS_V,
    "cva-net": CVA_NET,
    "folder": FOLDER,
    "bodies": Dataset(load_bodies, check_bodies, kind=VOLUMES, members=list_bodies),
    "slices": Dataset(load_slices, check_slices, structures=LESION),
    "volumes": VOLUME_FILES,
    "lung": Dataset(load_lung, check_lung, kind=CLIPS, members=list_lung),
    "sweeps": Dataset(load_sweeps, check_sweeps, kind=CLIPS, members=list_sweeps),
    "covid-blues": COVID_BLUES,
    "clips": CLIP_FOLDER,
}


def register_dataset(
    name: str,
    load: Callable[[DataRecipe, str], Any],
    *,
    kind: str,
    check: Callable[[DataRecipe], DataReport] | None = None,
    reads_folder: bool = False,
) -> None:
    """Add a data set, which recipes and the command line then know by its name.

    Args:
        name: As recipes write it in ``data.name``.
        load: Returns the cases of a part; see `usrl.data.dataset.Dataset`, as for the other arguments.
        kind: Kind of the cases: ``"images"``, or the word that your environment uses.
        check: Returns a report on the user's copy.
        reads_folder: Whether ``data.root`` must name an existing folder.
    """
    if name in DATASETS:
        raise UserError(f"data set {name!r} is registered already; choose another name")
    DATASETS[name] = Dataset(load, check, kind, reads_folder)


def kind_of(name: str) -> str:
    """Return the kind of a data set's cases, such as ``"images"``."""
    return _find(name).kind


def load_split(data: DataRecipe | str, split: str = "train", **fields: Any) -> list[Sample]:
    """Load one part of a data set of images, such as ``load_split("busi", "train", root="data/busi")``.

    Args:
        data: The recipe of the data; or the name of a data set, with the other fields of a
            `usrl.data.recipe.DataRecipe` as keywords.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        fields: Fields of the recipe if ``data`` is a name.

    Returns:
        The samples of that part with one structure each, in the order of the data set.

    Raises:
        UserError: If a name is unknown, or the data set is not there, has faults or does not consist of
            images.
    """
    recipe = check(DataRecipe, {"name": data, **fields}, "load_split") if isinstance(data, str) else data
    _check_split(split)
    samples = _load_images(recipe)
    return samples if split == "all" else _take(samples, _split(samples, recipe), split)


def load_train_and_val(data: DataRecipe, split_path: Path) -> tuple[list[Sample], list[Sample]]:
    """Load a recipe's images, write their split and return the parts that training may see."""
    samples = _load_images(data)
    split = _split(samples, data)
    write_split(split_path, samples, split)
    return _take(samples, split, "train"), _take(samples, split, "val")


def export_split(data: DataRecipe, path: Path) -> dict[str, int]:
    """Write the split of a recipe's images as a table (`usrl.data.split_files`); return each part's size.

    Raises:
        UserError: As `load_split`; if the file is there already; or if labels are left out, as a table has
            no place for images that nobody sees.
    """
    if data.labels != 1:
        raise UserError(f"a published split has every image, got labels {data.labels:g}; leave them out")
    samples = _load_samples(data)
    split = _split(samples, data)
    write_table(path, samples, split)
    return {part: len(indices) for part, indices in split.items()}


def load_cases(data: DataRecipe, split: str) -> Any:
    """Load one part of a data set of any kind: a list of `Sample`, or what its ``load`` returns."""
    if kind_of(data.name) == IMAGES:
        return load_split(data, split)
    _check_split(split)
    _refuse_unused(data)
    return _find(data.name).load(data, split)


def list_parts(data: DataRecipe) -> dict[str, list[str]]:
    """Return the names of the cases of each part of a data set of another kind than images."""
    if (list_members := _find(data.name).members) is None:
        return {part: list(dict.fromkeys(load_cases(data, part).names)) for part in DEFAULT_FRACTIONS}
    members = list_members(data)
    split = split_samples(members, seed=data.split_seed)
    return {part: [members[index].name for index in rows] for part, rows in split.items()}


def check_dataset(data: DataRecipe) -> DataReport:
    """Return counts, groups, duplicates and faults of a recipe's data set; ``lines()`` gives them as text."""
    _require_folder(data)
    if (look := _find(data.name).check) is None:
        raise UserError(f"data set {data.name!r} has no check; leave it out")
    return look(data)


def require_dataset(data: DataRecipe) -> None:
    """Refuse a recipe whose data set, folder or structure is unknown, before images are read."""
    _require_folder(data)
    _refuse_unused(data)
    if (structures := _find(data.name).structures) is not None:
        choose_structure(structures, data.structure)


def _check_split(split: str) -> None:
    if split not in (known := (*DEFAULT_FRACTIONS, "all")):
        raise UserError(f"unknown split {split!r}: {suggest(split, known)}")


_UNUSED_FIELDS = {
    VOLUMES: ("structure", "size", "labels", "folds", "fold", "split_file"),
    CLIPS: ("structure", "labels", "folds", "fold", "split_file"),
}
"""What a recipe says about images and these kinds of cases do not have; clips have a size."""


def _refuse_unused(data: DataRecipe) -> None:
    """Refuse what a recipe says about images of a data set of volumes or clips."""
    if data.window is not None and data.name != "folder":
        raise UserError(
            f"data.window is of the data set 'folder', got it with {data.name!r}; leave it out, or put the "
            "images into a folder"
        )
    kind = kind_of(data.name)
    for name in _UNUSED_FIELDS.get(kind, ()):
        if getattr(data, name) != DataRecipe.model_fields[name].default:
            raise UserError(
                f"data.{name}: data set {data.name!r} consists of {kind}, which have none, got "
                f"{getattr(data, name)!r}; leave it out"
            )


def _require_folder(data: DataRecipe) -> None:
    dataset = _find(data.name)
    if dataset.reads_folder:
        find_root(data)
    elif data.root is not None and data.name in SIMULATED:
        folders = [name for name, other in DATASETS.items() if other.reads_folder]
        raise UserError(
            f"data set {data.name!r} is simulated and reads no folder, got the root {data.root}; leave it "
            f"out, or name the data set that is there: {', '.join(folders)}"
        )


def resolve_root(data: DataRecipe) -> Path:
    """Return the absolute folder of a recipe's data set, which need not exist."""
    return Path(os.path.realpath(data.root or usual_root(data.name)))


def describe_data(data: DataRecipe) -> str:
    """Return the name of a recipe's data in reports: data set, name of the folder, and structure."""
    name = f"{data.name} {resolve_root(data).name}" if data.name in _OWN else data.name
    name = name if data.structure is None else f"{name}, {data.structure}"
    return name if data.folds is None else f"{name}, fold {data.fold} of {data.folds}"


def has_same_images(first: DataRecipe, second: DataRecipe) -> bool:
    """Return whether images, or other cases, of equal names are equal in two recipes' data sets."""
    if first.name != second.name:
        return False
    if first.name in SIMULATED:
        # A body of another variety has nearly the same voxels; images and lungs look otherwise.
        is_alike = first.variety == second.variety or first.name not in ("phantom", "lung", "sweeps")
        return first.seed == second.seed and is_alike
    # Folders of different places may use the same file names.
    return first.name not in _OWN or resolve_root(first) == resolve_root(second)


def _load_images(data: DataRecipe) -> list[Sample]:
    require_dataset(data)
    return [sample.select(data.structure) for sample in _load_samples(data)]


def _load_samples(data: DataRecipe) -> list[Sample]:
    """Load images with all their structures."""
    _require_folder(data)
    _refuse_unused(data)
    if kind_of(data.name) != IMAGES:
        raise UserError(
            f"data set {data.name!r} consists of {kind_of(data.name)}, and {IMAGES} are wanted here; name "
            "another"
        )
    samples: list[Sample] = _find(data.name).load(data, "all")
    return samples


def _split(samples: list[Sample], data: DataRecipe) -> dict[str, list[int]]:
    if data.split_file is not None:
        split = read_split(data.split_file, samples)
    elif data.folds is not None and data.fold is not None:
        split = split_fold(samples, data.folds, data.fold, data.split_seed)
    else:
        split = split_samples(samples, seed=data.split_seed)
    kept = draw_labelled(samples, split["train"], data.labels, data.split_seed)
    unused = sorted(set(split["train"]) - set(kept))
    return split | {"train": kept} | ({UNUSED: unused} if unused else {})


def _take(samples: list[Sample], split: dict[str, list[int]], part: str) -> list[Sample]:
    """Return the samples of a part, which only a split file can leave empty."""
    if not split[part]:
        raise UserError(f"the split file gives no image to {part!r}; ask for another part, or give it some")
    return [samples[index] for index in split[part]]


def _find(name: str) -> Dataset:
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}: {suggest(name, DATASETS)}")
    return DATASETS[name]

"""Labels that weights have learned from and a run must not: parts of one split held against another's.

Weights that a training starts from, or a judge refines with, bring along what they have learned, and so do
those that they started from themselves. Where that was images of the same data set, these must be images that
the training may learn from too.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from usrl.data.catalogue import UNUSED, has_same_images
from usrl.data.recipe import DataRecipe
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run
from usrl.runs.shipped import locate

FORBIDDEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"val": ("train",), "test": ("train", "val"), UNUSED: ("train", "val")}
)
"""Where weights come from, an image must not be in one of these parts if it is of the part before the colon
here. A validation image has chosen weights, and so its label has been used too."""


def find_parts(run: Run, data: DataRecipe, names: Iterable[str]) -> dict[str, str]:
    """Return the part of each image, by name, that a run has or had.

    Args:
        run: Whose ``split.tsv`` is read.
        data: Whose images are meant.
        names: The images that are asked for.

    Returns:
        Empty if the run was trained on other images.

    Raises:
        UserError: If the images are the same, and the file is malformed, missing, or without some of them.
    """
    if not has_same_images(run.recipe.data, data):
        return {}
    if not run.split_path.is_file():
        raise UserError(
            f"{run.path} was trained on the same data set {data.name!r} and has no {run.split_path.name} "
            "that tells on which images; put back the file that its training wrote there, or train it again"
        )
    parts = read_parts(run.split_path)
    unknown = [name for name in names if name not in parts and not _is_beyond(name, run.recipe.data)]
    if unknown:
        raise UserError(
            f"{run.split_path} does not name {len(unknown)} of the images, such as {unknown[0]!r}: what the "
            "run has learned from is not known; put back the file that its training wrote, or train it again"
        )
    return parts


def _is_beyond(name: str, data: DataRecipe) -> bool:
    """Return whether a phantom image comes after those of a run: it has not seen it for certain."""
    number = name.removeprefix("phantom-")
    return data.name == "phantom" and number.isdecimal() and int(number) >= data.count


def trace(run: Run) -> Iterator[Run]:
    """Yield a run and, nearest first, those whose weights it goes back to: recipes and splits only.

    Raises:
        UserError: If neither the run (`keep_source`) nor what its ``init_from`` names tells what they are.
    """
    met = set()
    yield run
    while init_from := getattr(run.recipe, "init_from", None):  # a judge starts from nothing
        path = run.source_path if run.source_path.is_dir() else locate(init_from)
        try:
            source = Run(path, load_recipe(path))
        except UserError as error:
            raise UserError(
                f"{run.path} started from weights of which nothing tells what they had seen: {error}"
            ) from None
        if path.resolve() in met:
            raise UserError(f"{path} says that it started from itself; correct init_from in its recipe.yaml")
        met.add(path.resolve())
        yield (run := source)


def keep_source(source: Run, run: Run) -> None:
    """Keep in a run which images its source, and all that this one goes back to, have learned from."""
    links, folder = list(trace(source)), run.source_path
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was refused
    for link in links:
        folder.mkdir()
        for path in (link.path / "recipe.yaml", link.split_path):
            if path.is_file():  # what learned from other images may lack its split
                shutil.copyfile(path, folder / path.name)
        folder = Run(folder, link.recipe).source_path


def check_source(key: str, source: Run, run: Run) -> None:
    """Check that what a run makes use of has learned from no label that the run must not see.

    Allowed are weights that learned from other images, from the run's own training images, or from fewer of
    them. What the source itself started from is checked as well, whatever came between.

    Args:
        key: Names the source in the run's recipe.
        source: Gives weights, or the probabilities of a network.
        run: A run with its ``split.tsv``.

    Raises:
        UserError: If the source learned from images that are for validation, for test or without label in the
            run's split, or from the same data set without a ``split.tsv`` that tells from which of it.
    """
    data = run.recipe.data
    try:
        links = list(trace(source))
        is_asked = any(has_same_images(link.recipe.data, data) for link in links)
        parts = read_parts(run.split_path) if is_asked else {}
        seen = [(link.path, find_parts(link, data, parts)) for link in links]
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    for path, had in seen:
        leaks = [(name, part) for name, part in parts.items() if had.get(name) in FORBIDDEN.get(part, ())]
        if leaks:
            name, part = leaks[0]
            raise UserError(
                f"{key}: wanted what learned from this run's training images alone, but {path} has seen "
                f"the labels of {len(leaks)} others, such as {name!r}, which is {part} here; train it with "
                f"data.split_seed={data.split_seed} and data.labels={data.labels:g}, as this run"
            )

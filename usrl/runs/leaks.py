"""Refuses weights that have learned from labels that a run must not see: two runs may have two splits.

A training may start from weights, and a judge refines with some. They have learned from images, and so have
the weights that they started from themselves. If these images are in the run's data set, they must be in its
training part.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from usrl.data.catalogue import SIMULATED, UNUSED, has_same_images
from usrl.data.recipe import DataRecipe
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run
from usrl.runs.shipped import locate

FORBIDDEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"val": ("train",), "test": ("train", "val"), UNUSED: ("train", "val")}
)
"""For an image's part in this run: the parts that it must not have in a run whose weights this one uses.

Validation images have chosen weights, so that their labels have been used too."""


def find_parts(run: Run, data: DataRecipe, names: Iterable[str]) -> dict[str, str]:
    """Return the part of each image, by name, in a run's split; empty if it was trained on other images.

    If its images are those of ``data``, its ``split.tsv`` must be there and have all the names.
    """
    if not has_same_images(run.recipe.data, data):
        return {}
    if not run.split_path.is_file():
        raise UserError(
            f"{run.path} was trained on the same data set {data.name!r} and has no {run.split_path.name} "
            "that tells on which images; put back the file that its training wrote there, or train it again"
        )
    parts = read_parts(run.split_path)
    if unknown := [name for name in names if name not in parts and not _is_beyond(name, run.recipe.data)]:
        raise UserError(
            f"{run.split_path} does not name {len(unknown)} of the images, such as {unknown[0]!r}: what the "
            "run has learned from is not known; put back the file that its training wrote, or train it again"
        )
    return parts


def _is_beyond(name: str, data: DataRecipe) -> bool:
    """Return whether a simulated case has a number beyond those of a run, which has not seen it then."""
    number = re.search(r"-(\d+)", name)  # slices have a second number
    return data.name in SIMULATED and number is not None and int(number[1]) >= data.count


def trace(run: Run) -> Iterator[Run]:
    """Yield a run and then, nearest first, those from whose weights it descends, with recipe and split only.

    They are read from the run (`keep_source`), or else from the run that its ``init_from`` names.
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
    """Keep in a run which images its source, and every run that the source descends from, learned from."""
    links, folder = list(trace(source)), run.source_path
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was refused
    for link in links:
        folder.mkdir()
        for path in (link.path / "recipe.yaml", link.split_path):
            if path.is_file():  # a run that learned from other images may lack its split
                shutil.copyfile(path, folder / path.name)
        folder = Run(folder, link.recipe).source_path


def check_source(key: str, source: Run, run: Run) -> None:
    """Refuse a source, which ``key`` of a run's recipe names, that learned from labels hidden from the run.

    It may have learned from other images, or from all or some of the run's own training images. So must every
    run that it descends from. A source that learned from the same data set must have its ``split.tsv``.
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
        if leaks := [each for each in parts.items() if had.get(each[0]) in FORBIDDEN.get(each[1], ())]:
            name, part = leaks[0]
            raise UserError(
                f"{key}: wanted what learned from this run's training images alone, but {path} has seen "
                f"the labels of {len(leaks)} others, such as {name!r}, which is {part} here; train it with "
                f"data.split_seed={data.split_seed} and data.labels={data.labels:g}, as this run"
            )

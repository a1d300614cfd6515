"""Cross-validation: a training for each fold, and a comparison on the images that each has not seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import typer

from usrl.data.catalogue import describe_data, kind_of, load_split
from usrl.data.dataset import IMAGES
from usrl.data.recipe import DataRecipe
from usrl.data.sample import GrayImage, Prompt, Sample, Track
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.evaluation.compare import Additions, compare
from usrl.files import locked, make_empty_folder, writing_to
from usrl.learners import check_recipe, open_run_segmenter, train_folder
from usrl.registry import find_row
from usrl.runs.recipe import Recipe
from usrl.runs.recipes import apply_values
from usrl.runs.run import Run, create_run
from usrl.segmenter import Answer, Segmenter
from usrl.strict import read_json

REPORT = "report"
"""Folder of the comparison, inside that of the cross-validation."""


def cross_validate(
    recipe: Recipe, out: Path, folds: int, device: torch.device, *, name: str, resume: bool = False
) -> dict[str, Any]:
    """Train a recipe once for each fold, and score each image by the training that has not seen its fold.

    Folds keep groups together and have their share of every source (`usrl.data.splits.folds`). Of the images
    outside a fold, an eighth chooses the weights.

    Writes a run for each fold, ``fold-1-of-5`` and so on. It also writes ``report/``, as
    `usrl.evaluation.compare.compare` does; all trainings are one method there. Its interval is over the
    groups of all images.

    Args:
        recipe: Recipe of an agent that makes masks, or of a network, on a data set of images.
        out: Folder to write.
        folds: Number of folds.
        device: Where to train and to score.
        name: Row label.
        resume: Whether to go on where an earlier call stopped.

    Returns:
        What the ``results.json`` of the report holds; ``folds`` has mean Dice by fold, and their mean and
        standard deviation.

    Raises:
        UserError: If the recipe or the folder cannot be used, the data has too few groups, or a training
            fails.
    """
    _check(recipe)
    recipes = [
        apply_values(recipe, {"data.folds": folds, "data.fold": fold}, "crossval")
        for fold in range(1, folds + 1)
    ]
    check_recipe(recipes[0])
    if not resume:
        make_empty_folder(out)
    with locked(out), writing_to(out):
        runs = []
        for fold, own in enumerate(recipes, start=1):
            folder = out / f"fold-{fold}-of-{folds}"
            run = create_run(folder, own, resume=True)
            if not run.is_finished():
                typer.echo(f"fold {fold} of {folds} in {folder}", err=True)
                run = train_folder(own, folder, device, resume=True)
            runs.append(run)
        written = out / REPORT / "results.json"
        if written.is_file():
            results: dict[str, Any] = read_json(written.read_bytes(), str(written), f"remove {out / REPORT}")
            return results
        return _score(recipe, runs, out / REPORT, device, name)


def _score(recipe: Recipe, runs: list[Run], out: Path, device: torch.device, name: str) -> dict[str, Any]:
    samples = load_split(recipe.data, "all")
    folds: dict[str, int] = {}
    for fold, run in enumerate(runs, start=1):
        held_out = [case for case, part in read_parts(run.split_path).items() if part == "test"]
        folds |= dict.fromkeys(held_out, fold)
    if {sample.name for sample in samples} != folds.keys():
        raise UserError(
            f"{runs[0].path.parent}: the images of data set {recipe.data.name!r} are not those that its runs "
            "held out; restore them, or begin again in another folder"
        )
    opened = {fold: open_run_segmenter(run, device) for fold, run in enumerate(runs, start=1)}
    method = OutOfFold(name, {case: opened[fold] for case, fold in folds.items()})
    return compare(
        [method],
        samples,
        out,
        dataset=describe_data(recipe.data),
        split=f"all, in {len(runs)} folds",
        curves={f"fold {fold}": run.read_log() for fold, run in enumerate(runs, start=1)},
        more=Additions(folds=folds),
    )


def _check(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be scored by its masks of images."""
    data: DataRecipe = recipe.data
    if recipe.kind not in ("agent", "network"):
        raise UserError(f"kind: agents and networks are cross-validated, got {recipe.kind!r}; name another")
    if kind_of(data.name) != IMAGES:
        raise UserError(
            f"data.name: cross-validation is of images, and {data.name!r} consists of {kind_of(data.name)}"
        )
    if data.folds is not None:
        raise UserError("data.folds: the recipe is one fold already; leave data.folds and data.fold out")
    env = getattr(recipe, "env", None)
    if env is not None and not find_row(env.id).placement:
        raise UserError(f"env.id: cross-validation scores masks, and {env.id} makes none; name another")


class OutOfFold:
    """Answers for each sample by the method that has not learned from its fold.

    Attributes:
        name: Row label.
        track: That of the methods.
    """

    def __init__(self, name: str, methods: Mapping[str, Segmenter]) -> None:
        """Keep the method of each sample, by name."""
        self.name, self._methods = name, methods
        self.track: Track = next(iter(methods.values())).track

    def segment(self, image: GrayImage, prompt: Prompt | None) -> Answer:
        """Refuse an image, whose fold is not known."""
        raise UserError(f"{self.name} is several trainings; name one of them")

    def segment_sample(self, sample: Sample, prompt: Prompt | None) -> Answer:
        """Return the answer of the sample's method."""
        return self._methods[sample.name].segment(sample.image, prompt)

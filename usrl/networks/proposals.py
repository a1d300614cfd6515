"""Probabilities of lesion that agents and judges start from: how they are read and checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.agents.recipe import AgentRecipe
from usrl.data.catalogue import has_same_images
from usrl.data.reading.files import read_gray
from usrl.data.sample import BoolMask, Sample
from usrl.errors import UserError
from usrl.files import check_path
from usrl.runs.leaks import check_source
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run

SPLIT, FOLDS = "split.tsv", "folds"


def require_proposals(key: str, folder: Path) -> None:
    """Raise a `UserError` that names the recipe's key if there is no folder of proposals."""
    if not check_path(folder).is_dir():
        raise UserError(
            f"{key}: {folder}: no such folder; write proposals with `usrl proposals RECIPE --out {folder}`"
        )


def read_proposals(folder: Path, samples: Sequence[Sample]) -> list[BoolMask]:
    """Return where `read_probabilities` are above one half, bool, (H, W) each."""
    return [probability > 0.5 for probability in read_probabilities(folder, samples)]


def read_probabilities(folder: Path, samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
    """Return the probabilities that `write_proposals` wrote for some images, float32, (H, W) each.

    Masks with 255 inside are fine too.

    Raises:
        UserError: If the picture of a sample is missing, or its size is not that of the image.
    """
    return [_read(proposal_path(folder, sample), sample) for sample in samples]


def check_split(folder: Path, run: Run) -> None:
    """Check that proposals belong to the images of a run, and have seen no labels that it must not see.

    The networks of another split may have learned from more labels than the run, or from the images that
    validate it. Masks from elsewhere have no split and are not checked.

    Raises:
        UserError: If the images differ, or `usrl.runs.leaks.check_source` refuses the proposals.
    """
    folds = [load_recipe(fold) for fold in (folder / FOLDS).glob("*") if (fold / "recipe.yaml").is_file()]
    wanted = run.recipe.data
    if not all(one.data.structure == wanted.structure and has_same_images(one.data, wanted) for one in folds):
        raise UserError(
            f"{folder} holds proposals for other images or structures than the run's; write some for its data"
        )
    if (folder / SPLIT).is_file():
        # `usrl.networks.folds` refuses starts that have seen the data set, so only the data matters.
        check_source("proposals", Run(folder, AgentRecipe(data=wanted)), run)


def _read(path: Path, sample: Sample) -> NDArray[np.float32]:
    if not path.is_file():
        raise UserError(
            f"{path} is missing: every image of the split needs a proposal; write them with "
            "`usrl proposals` for the same data, split_seed and labels"
        )
    levels = read_gray(path)
    if levels.shape != sample.image.shape:
        raise UserError(f"{path} is {levels.shape} and its image {sample.image.shape}; write proposals again")
    return (levels / 255).astype(np.float32)


def proposal_path(folder: Path, sample: Sample) -> Path:
    """Return the file of a sample's probabilities."""
    return folder / f"{sample.name}.png"

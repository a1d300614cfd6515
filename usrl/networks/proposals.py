"""Probabilities of lesion for agents and judges to start from: read, and checked against their split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usrl.agents.recipe import AgentRecipe
from usrl.data.catalogue import has_same_images
from usrl.data.files import read_gray
from usrl.data.sample import BoolMask, Sample
from usrl.errors import UserError
from usrl.runs.leaks import check_source
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run

SPLIT, FOLDS = "split.tsv", "folds"


def require_proposals(key: str, folder: Path) -> None:
    """Raise a `UserError` that names the key of a recipe if there is no folder of proposals."""
    if not folder.is_dir():
        raise UserError(
            f"{key}: {folder}: no such folder; write proposals with `usrl proposals RECIPE --out {folder}`"
        )


def read_proposals(folder: Path, samples: Sequence[Sample]) -> list[BoolMask]:
    """Return where the probabilities that `write_proposals` wrote are above one half.

    Args:
        folder: Where they are; masks with 255 inside do as well.
        samples: The images that need one.

    Returns:
        One mask per sample, bool, shape (H, W).

    Raises:
        UserError: If the picture of a sample is missing or of another size than its image.
    """
    return [probability > 0.5 for probability in read_probabilities(folder, samples)]


def read_probabilities(folder: Path, samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
    """Return the probabilities that `write_proposals` wrote, float32, shape (H, W); see `read_proposals`."""
    return [_read(proposal_path(folder, sample), sample) for sample in samples]


def check_split(folder: Path, run: Run) -> None:
    """Check that proposals are of the images that a run is trained on, and learned from no other label.

    The networks of another split have learned from more labels than the run is to have, or from the images
    that it is validated by.

    Args:
        folder: What `write_proposals` wrote; masks from elsewhere, without a split, are not checked.
        run: Whose ``split.tsv`` is written.

    Raises:
        UserError: If the images are others, or as `usrl.runs.leaks.check_source`.
    """
    folds = [load_recipe(fold) for fold in (folder / FOLDS).glob("*") if (fold / "recipe.yaml").is_file()]
    wanted = run.recipe.data  # by name too: the same images may have other targets
    if not all(
        fold.data.structure == wanted.structure and has_same_images(fold.data, wanted) for fold in folds
    ):
        raise UserError(
            f"{folder} holds proposals for other images or structures than the run's; write some for its data"
        )
    if (folder / SPLIT).is_file():
        # `usrl.networks.folds` lets them start from no run that has seen the data set: only data matters.
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

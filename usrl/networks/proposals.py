"""Probabilities of lesion for an agent to start from, of images that their network did not see."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from usrl.agents.recipe import AgentRecipe
from usrl.data.catalogue import has_same_images, load_train_and_val, require_dataset
from usrl.data.files import read_gray
from usrl.data.sample import BoolMask, Sample
from usrl.data.splits import folds as make_folds
from usrl.errors import UserError
from usrl.files import make_folder
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import build_untrained_network, fit_network
from usrl.runs.leaks import check_source, find_parts, trace
from usrl.runs.recipes import load_recipe
from usrl.runs.run import Run, create_run, open_run

_SPLIT = "split.tsv"
_FOLDS = "folds"


def write_proposals(
    recipe: NetworkRecipe, out: Path, folds: int, device: torch.device, *, resume: bool = False
) -> list[Run]:
    """Train a network per fold and write the probability of lesion of training and validation images.

    A training image gets that of the one network that was not trained on its fold: networks are far
    better on images they were trained on, and an agent that starts there learns nothing that helps on
    new ones. A validation image gets the mean of all networks; each network's best epoch is chosen by it,
    as in any training. Test images are not touched.

    Args:
        recipe: The network and its data set.
        out: Folder to write: ``<name>.png`` per image, 255 for certain, ``split.tsv``, and a run per
            fold in ``folds/``.
        folds: Number of folds of the training images, by group.
        device: Where to train.
        resume: Go on where an earlier call with the same arguments stopped.

    Returns:
        The runs of the networks.

    Raises:
        UserError: If the network needs boxes, cannot be built or starts from what has learned from this
            data set, the folder holds something while not resuming, or the data is not there or cannot be
            split so.
    """
    if recipe.prompt != "none":
        raise UserError(
            f"prompt: proposals want an automatic network, got {recipe.prompt!r}; leave prompt out"
        )
    if not resume and not _is_unused(out):
        raise UserError(f"{out} already holds something; choose another --out, or --resume to continue")
    # Before there is a folder that a second call would find taken:
    require_dataset(recipe.data)
    build_untrained_network(recipe)
    _check_start(recipe)
    make_folder(out / _FOLDS)
    train, val = load_train_and_val(recipe.data, out / _SPLIT)
    held_outs = make_folds(train, folds, seed=recipe.data.split_seed)
    shares = [np.zeros(sample.image.shape, np.float32) for sample in val]
    runs = []
    for number, held_out in enumerate(held_outs):
        run = create_run(out / _FOLDS / f"{number + 1}-of-{folds}", recipe, resume=resume)
        runs.append(run)
        kept = [sample for index, sample in enumerate(train) if index not in set(held_out)]
        fit_network(run, kept, val, device, resume=resume)
        network = NetworkSegmenter(run, device)
        for index in held_out:
            _write(out, train[index], network.probability(train[index].image))
        for share, sample in zip(shares, val, strict=True):
            share += network.probability(sample.image) / folds
    for share, sample in zip(shares, val, strict=True):
        _write(out, sample, share)
    return runs


def require_proposals(key: str, folder: Path) -> None:
    """Raise a `UserError` that names the key of a recipe where there is no folder of proposals."""
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
    return [_read(_path(folder, sample), sample) for sample in samples]


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
    folds = [load_recipe(fold) for fold in (folder / _FOLDS).glob("*") if (fold / "recipe.yaml").is_file()]
    wanted = run.recipe.data  # by name too: the same images may have other targets
    if not all(fold.data.name == wanted.name and has_same_images(fold.data, wanted) for fold in folds):
        raise UserError(
            f"{folder} holds proposals for other images or structures than the run's; write some for its data"
        )
    if (folder / _SPLIT).is_file():
        # What they started from has seen no image of the data set (`_check_start`): of their recipe only
        # the data is asked for.
        check_source("proposals", Run(folder, AgentRecipe(data=wanted)), run)


def _check_start(recipe: NetworkRecipe) -> None:
    """Refuse a start that has learned from images of the data set: no fold would be held out from it."""
    if not recipe.init_from:
        return
    try:
        has_seen = any(find_parts(link, recipe.data) for link in trace(open_run(recipe.init_from)))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    if has_seen:
        raise UserError(
            f"init_from: proposals are out of fold, and {recipe.init_from} has learned from images of this "
            "data set; start from a run that has learned from others, or leave init_from out"
        )


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


def _path(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.name}.png"


def _write(folder: Path, sample: Sample, probability: NDArray[np.float32]) -> None:
    path = _path(folder, sample)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255 * probability).astype(np.uint8)).save(path)


def _is_unused(out: Path) -> bool:
    """Return whether a folder is absent or empty, or holds only what a refused call leaves there."""
    if not out.is_dir():
        return not out.exists()
    names = {entry.name for entry in out.iterdir()}
    return names in (set(), {_FOLDS}, {_FOLDS, _SPLIT}) and not any((out / _FOLDS).glob("*"))

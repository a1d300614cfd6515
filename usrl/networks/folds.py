"""Training a network for each fold of the training images: proposals for images that it did not see."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from usrl.data.catalogue import has_same_images, load_train_and_val
from usrl.data.sample import Sample
from usrl.data.splits import folds as make_folds
from usrl.errors import UserError
from usrl.files import list_names, locked, make_folder, writing_to
from usrl.learners import check_recipe
from usrl.networks.proposals import FOLDS, SPLIT, proposal_path
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import fit_network
from usrl.runs.leaks import trace
from usrl.runs.run import Run, create_run, open_run


def write_proposals(
    recipe: NetworkRecipe, out: Path, folds: int, device: torch.device, *, resume: bool = False
) -> list[Run]:
    """Train a network per fold and write the probability of lesion of training and validation images.

    The folds of the training images keep groups together. A training image gets the probability of the one
    network that has not seen its fold: networks are far better on images that they have seen, and an agent
    that starts there learns nothing that helps on new ones. A validation image gets the mean of all networks;
    it chooses each network's best epoch, as in any training. Test images take no part.

    Writes ``<name>.png`` per image, 255 for certain, ``split.tsv``, and a run per fold in ``folds/``.
    Returns these runs.

    Raises:
        UserError: If the network needs boxes, cannot be built or starts from what has learned from this
            data set; if the folder holds something while not resuming, or another process writes into it; or
            if the data is missing or cannot be split so.
    """
    if recipe.prompt != "none":
        raise UserError(f"prompt: proposals want an automatic network, got {recipe.prompt!r}; leave it out")
    if not resume and not _is_unused(out):
        raise UserError(f"{out} already holds something; choose another --out, or --resume to continue")
    # Before there is a folder, which a second call would refuse:
    check_recipe(recipe)
    _check_start(recipe)
    runs = []
    with locked(out), writing_to(out):
        make_folder(out / FOLDS)
        train, val = load_train_and_val(recipe.data, out / SPLIT)
        shares = [np.zeros(sample.image.shape, np.float32) for sample in val]
        for number, held_out in enumerate(make_folds(train, folds, seed=recipe.data.split_seed), start=1):
            run = create_run(out / FOLDS / f"{number}-of-{folds}", recipe, resume=resume)
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


def _check_start(recipe: NetworkRecipe) -> None:
    """Refuse a start that has learned from images of the data set: no fold would be held out from it."""
    if not recipe.init_from:
        return
    try:
        links = list(trace(open_run(recipe.init_from)))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    if any(has_same_images(link.recipe.data, recipe.data) for link in links):
        raise UserError(
            f"init_from: proposals are out of fold, and {recipe.init_from} has learned from images of this "
            "data set; start from a run that has learned from others, or leave init_from out"
        )


def _write(folder: Path, sample: Sample, probability: NDArray[np.float32]) -> None:
    path = proposal_path(folder, sample)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255 * probability).astype(np.uint8)).save(path)


def _is_unused(out: Path) -> bool:
    """Return whether a folder is absent or empty, or holds only what a refused call leaves there."""
    if not out.is_dir():
        return not out.exists()
    names = list_names(out)
    return names in (set(), {FOLDS}, {FOLDS, SPLIT}) and not any((out / FOLDS).glob("*"))

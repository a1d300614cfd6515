"""Masks for an agent to start from, of images that their network did not see."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from usrl.baselines.networks import build_network
from usrl.baselines.segmenter import NetworkSegmenter
from usrl.baselines.training import fit_network
from usrl.data.catalogue import load_train_and_val, require_dataset
from usrl.data.files import read_mask
from usrl.data.sample import BoolMask, Sample
from usrl.data.splits import folds as make_folds
from usrl.errors import UserError
from usrl.recipes import NetworkRecipe
from usrl.runs import create_run


def write_proposals(
    recipe: NetworkRecipe, out: Path, folds: int, device: torch.device, *, resume: bool = False
) -> None:
    """Train a network per fold and write masks of training and validation images.

    A training image gets the mask of the one network that was not trained on its fold: networks are far
    better on images they were trained on, and an agent that starts there learns nothing that helps on
    new ones. A validation image gets the mean of all networks' probabilities, cut at one half; each
    network's best epoch is chosen by it, as in any training. Test images are not touched.

    Args:
        recipe: The network and its data set.
        out: Folder to write: ``<name>.png`` per image, ``split.tsv``, and a run per fold in ``folds/``.
        folds: Number of folds of the training images, by group.
        device: Where to train.
        resume: Go on where an earlier call with the same arguments stopped.

    Raises:
        UserError: If the network needs boxes or cannot be built, the folder holds something while not
            resuming, or the data is not there or cannot be split so.
    """
    if recipe.prompt != "none":
        raise UserError(
            f"prompt: proposals want an automatic network, got {recipe.prompt!r}; leave prompt out"
        )
    if not resume and not _is_unused(out):
        raise UserError(f"{out} already holds something; choose another --out, or --resume to continue")
    # Before there is a folder that a second call would find taken:
    require_dataset(recipe.data)
    build_network(recipe)
    runs = out / "folds"
    _make(runs)
    train, val = load_train_and_val(recipe.data, out / "split.tsv")
    held_outs = make_folds(train, folds, seed=recipe.data.split_seed)
    shares = [np.zeros(sample.image.shape, np.float32) for sample in val]
    for number, held_out in enumerate(held_outs):
        run = create_run(runs / f"{number + 1}-of-{folds}", recipe, resume=resume)
        kept = [sample for index, sample in enumerate(train) if index not in set(held_out)]
        fit_network(run, kept, val, device, resume=resume)
        network = NetworkSegmenter(run, device)
        for index in held_out:
            _write(out, train[index], network.segment(train[index].image))
        for share, sample in zip(shares, val, strict=True):
            share += network.probability(sample.image) / folds
    for share, sample in zip(shares, val, strict=True):
        _write(out, sample, share > 0.5)


def read_proposals(folder: Path, samples: Sequence[Sample]) -> list[BoolMask]:
    """Read the masks that `write_proposals` wrote.

    Args:
        folder: Where they are.
        samples: The images that need one.

    Returns:
        One mask per sample, bool, shape (H, W).

    Raises:
        UserError: If the mask of a sample is missing or of another size than its image.
    """
    return [_read(_path(folder, sample), sample) for sample in samples]


def _read(path: Path, sample: Sample) -> BoolMask:
    if not path.is_file():
        raise UserError(
            f"{path} is missing: every image of the split needs a proposal; write them with "
            "`usrl proposals` for the same data and split_seed"
        )
    mask = read_mask(path)
    if mask.shape != sample.image.shape:
        raise UserError(f"{path} is {mask.shape} and its image {sample.image.shape}; write proposals again")
    return mask


def _path(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.name}.png"


def _write(folder: Path, sample: Sample, mask: BoolMask) -> None:
    path = _path(folder, sample)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _is_unused(out: Path) -> bool:
    """Return whether a folder is absent or empty, or holds only what a refused call leaves there."""
    if not out.is_dir():
        return not out.exists()
    names = {entry.name for entry in out.iterdir()}
    return names in (set(), {"folds"}, {"folds", "split.tsv"}) and not any((out / "folds").glob("*"))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); choose another --out") from None

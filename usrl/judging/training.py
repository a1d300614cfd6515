"""Training a judge on candidates in images that their network was not trained on."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from usrl.agents.segmenter import AgentSegmenter
from usrl.compute.trees import map_tree
from usrl.data.catalogue import load_train_and_val
from usrl.data.components import best_overlap
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.judging.candidates import Candidates, choose, find_candidates
from usrl.judging.evidence import Evidence, gather_evidence
from usrl.judging.network import JudgeNetwork, expect
from usrl.judging.recipe import JudgeRecipe
from usrl.judging.segmenter import open_refiner
from usrl.metrics.overlap import dice
from usrl.networks.proposals import check_split, read_probabilities, require_proposals
from usrl.networks.schedule import descend, epoch_seed, keep_lesions, make_schedule, mean_loss, seeded
from usrl.progress import TrainingBar, track
from usrl.runs.checkpoints import Record
from usrl.runs.leaks import check_source
from usrl.runs.run import Run, open_run

_Examples = tuple[Evidence, Tensor]
"""Evidence and scores, float32, (C,), of C candidates."""


def train_judge(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the judge of a run's recipe and write weights, checkpoint, log and a copy of the refiner.

    The judge learns the Dice of each candidate with the lesion that it overlaps most, or zero if it overlaps
    no lesion. The run keeps the weights of the epoch whose choices have the best mean Dice on validation
    images with a lesion. An epoch's randomness depends on seed and epoch alone.

    Raises:
        UserError: If the recipe, its data set, its proposals, its refiner or the checkpoint is unusable, or
            no candidate is found.
    """
    recipe = run.recipe_as(JudgeRecipe)
    state = _start(recipe, device)
    record = Record(run, state.network, {"network/": state.network, "optimizer.": state.optimizer})
    is_begun = record.begin(resume=resume)
    if record.step >= recipe.epochs:
        return
    refiner = None
    if recipe.refiner is not None:  # or its copy if the training has begun: the original may have changed
        refiner = open_run(run.refiner_path if is_begun else recipe.refiner)
    shown, checked = _gather(run, recipe, refiner, device)
    examples = _stack(shown, recipe)
    # Only now: a call that is refused before this leaves a folder that the corrected call may use.
    if refiner is not None and not is_begun:
        _copy_refiner(refiner, run.refiner_path)
    steps = len(examples[1]) // recipe.batch_size
    schedule = make_schedule(state.optimizer, recipe.epochs * steps, record.step * steps)
    bar = TrainingBar(record.name, "epochs", recipe.epochs, record.step, ("candidates", len(examples[1])))
    with bar:
        while record.step < recipe.epochs:
            record.step += 1
            loss = _train_epoch(state, record.step, examples, schedule, bar.show)
            score = float(np.mean([_choice_dice(state, case) for case in checked]))
            record.log({"train_loss": loss, "val_score": score})
            record.checkpoint()
            bar.evaluated(score, record.best)


def build_untrained_judge(recipe: JudgeRecipe) -> JudgeNetwork:
    """Return the untrained network of a recipe, to find what is wrong before training begins.

    Raises:
        UserError: If there are no proposals, or the refiner is not the run of an agent that takes boxes.
    """
    require_proposals("proposals", Path(recipe.proposals))
    if recipe.refiner is not None:
        try:
            open_refiner(open_run(recipe.refiner), torch.device("cpu"))
        except UserError as error:
            raise UserError(f"refiner: {error}") from None
    return JudgeNetwork(recipe.channels, recipe.dropout)


@dataclass(frozen=True)
class _Case:
    sample: Sample
    candidates: Candidates
    evidence: Evidence
    scores: Tensor  # (C,), float32: Dice with the lesion that each overlaps most


@dataclass(frozen=True)
class _State:
    recipe: JudgeRecipe
    network: JudgeNetwork
    optimizer: AdamW
    device: torch.device


def _gather(
    run: Run, recipe: JudgeRecipe, refiner: Run | None, device: torch.device
) -> tuple[list[_Examples], list[_Case]]:
    """Return examples from training images, and the candidates of validation images that have a lesion."""
    segmenter = None if refiner is None else open_refiner(refiner, device)
    train, val = load_train_and_val(recipe.data, run.split_path)
    folder = Path(recipe.proposals)
    check_split(folder, run)
    if refiner is not None:
        check_source("refiner", refiner, run)
    learned, asked = _pairs(train, folder), _pairs(keep_lesions(val), folder)
    pairs = track([*learned, *asked], "Finding candidates", len(learned) + len(asked))
    cases = (_find(recipe, segmenter, *pair) for pair in pairs)
    # Thousands of native masks are not kept: only validation needs them.
    examples = [(case.evidence, case.scores) for case in islice(cases, len(learned))]
    return examples, list(cases)


def _stack(shown: Sequence[_Examples], recipe: JudgeRecipe) -> _Examples:
    """Return the examples of all images together; raise if they are fewer than a batch."""
    scores = torch.cat([score for _, score in shown])
    if len(scores) < recipe.batch_size:
        raise UserError(
            f"{recipe.proposals}: {len(scores)} candidates in {len(shown)} images, fewer than batch_size "
            f"{recipe.batch_size}; lower levels, or write better proposals"
        )
    return map_tree(lambda *parts: torch.cat(parts), *(evidence for evidence, _ in shown)), scores


def _pairs(samples: Sequence[Sample], folder: Path) -> list[tuple[Sample, NDArray[np.float32]]]:
    return list(zip(samples, read_probabilities(folder, samples), strict=True))


def _copy_refiner(original: Run, copy: Path) -> None:
    """Copy what opens a refiner's run, and what says which images it was trained on."""
    copy.mkdir(exist_ok=True)
    for path in (original.path / "recipe.yaml", original.weights_path, original.split_path):
        if path.is_file():  # a run that learned from other images may lack its split
            shutil.copyfile(path, copy / path.name)
    if original.source_path.is_dir():
        shutil.copytree(original.source_path, copy / original.source_path.name, dirs_exist_ok=True)


def _find(
    recipe: JudgeRecipe, refiner: AgentSegmenter | None, sample: Sample, probability: NDArray[np.float32]
) -> _Case:
    candidates = find_candidates(sample.image, probability, recipe.levels, refiner)
    evidence = gather_evidence(sample.image, probability, candidates, recipe.data.size)
    lesions = [best_overlap(sample.target, mask) for mask in candidates.masks]
    pairs = zip(candidates.masks, lesions, strict=True)
    scores = torch.tensor([0.0 if lesion is None else dice(mask, lesion) for mask, lesion in pairs])
    return _Case(sample, candidates, evidence, scores)


def _start(recipe: JudgeRecipe, device: torch.device) -> _State:
    with seeded(recipe.seed, 0, device):
        network = JudgeNetwork(recipe.channels, recipe.dropout).to(device)
    optimizer = AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return _State(recipe, network, optimizer, device)


def _train_epoch(
    state: _State, epoch: int, examples: _Examples, schedule: LambdaLR, show: Callable[[float], None]
) -> float:
    """Show every candidate once, or its mirror image; return the mean loss."""
    recipe, device, (evidence, scores) = state.recipe, state.device, examples
    rng = torch.Generator().manual_seed(epoch_seed(recipe.seed, epoch))
    # Only whole batches, because a batch of one has no variance.
    shown = torch.randperm(len(scores), generator=rng)[: len(scores) // recipe.batch_size * recipe.batch_size]
    total = torch.zeros((), device=device)
    state.network.train()
    with seeded(recipe.seed, epoch, device):
        for step, rows in enumerate(shown.split(recipe.batch_size)):
            is_mirrored = torch.rand(len(rows), generator=rng) < 0.5
            logits = state.network(evidence.take(rows).mirror(is_mirrored).to(device))
            loss = F.binary_cross_entropy_with_logits(logits, scores[rows].to(device))
            descend(state.optimizer, loss, schedule)
            total += loss.detach() * len(rows)
            show(epoch - 1 + (step * recipe.batch_size + len(rows)) / len(shown))
    return mean_loss(total, len(shown), epoch)


def _choice_dice(state: _State, case: _Case) -> float:
    taken = choose(case.candidates, expect(state.network, case.evidence, state.device), state.recipe)
    return dice(case.candidates.unite(taken, case.sample.image), case.sample.target)

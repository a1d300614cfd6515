"""Training the networks that give features to the frames of clips."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from usrl.data.catalogue import kind_of, list_parts, load_cases
from usrl.data.clips.clips import CLIPS, Clips
from usrl.data.splits import write_parts
from usrl.errors import UserError
from usrl.features.networks import FeatureNetworks, as_frames
from usrl.features.recipe import FeatureRecipe
from usrl.networks.schedule import descend, epoch_seed, make_schedule, mean_loss, seeded
from usrl.progress import TrainingBar
from usrl.runs.checkpoints import Record
from usrl.runs.run import Run
from usrl.segmenter import Segmenter

_CHECKED = 16
"""Frames of each validation clip that epochs are compared by."""


def train_features(run: Run, device: torch.device, *, resume: bool = False) -> None:
    """Train the networks of a run's recipe and write weights, checkpoint and log.

    An epoch's randomness depends on seed and epoch alone, so that a resumed training repeats what an
    uninterrupted one does.

    Raises:
        UserError: If the clips have no masks, the checkpoint is unusable or training diverges.
    """
    recipe = run.recipe_as(FeatureRecipe)
    train, val = (_load(recipe, part).to(device) for part in ("train", "val"))
    write_parts(run.split_path, list_parts(recipe.data))
    with seeded(recipe.seed, 0, device):
        networks = FeatureNetworks(recipe).to(device)
    optimizer = AdamW(networks.parameters(), lr=recipe.learning_rate)
    record = Record(run, networks, {"networks/": networks, "optimizer.": optimizer})
    record.begin(resume=resume)
    shown = len(train) * recipe.frames_per_clip
    steps = -(-shown // recipe.batch_size)
    schedule = make_schedule(optimizer, recipe.epochs * steps, record.step * steps)
    bar = TrainingBar(record.name, "epochs", recipe.epochs, record.step, ("frames", shown))
    with bar:
        while record.step < recipe.epochs:
            record.step += 1
            loss = _train_epoch(_State(recipe, networks, optimizer, schedule), record.step, train, bar)
            figures = {"train_loss": loss} | measure_networks(networks, val, recipe)
            record.log(figures)
            record.checkpoint()
            bar.evaluated(figures["val_score"], record.best)


def build_untrained_features(recipe: FeatureRecipe) -> FeatureNetworks:
    """Return the networks that a recipe trains, before their first step.

    Raises:
        UserError: If the data set does not consist of clips.
    """
    if (kind := kind_of(recipe.data.name)) != CLIPS:
        raise UserError(
            f"data.name: {recipe.data.name} gives {kind}, and features are of {CLIPS}; choose lung"
        )
    return FeatureNetworks(recipe)


def refuse_features(run: Run, device: torch.device, **_: object) -> Segmenter:
    """Refuse to open networks of features as a segmenter."""
    raise UserError(f"{run.path} gives features to frames and segments nothing; name another run")


@torch.inference_mode()
def measure_networks(networks: FeatureNetworks, clips: Clips, recipe: FeatureRecipe) -> dict[str, float]:
    """Return what the networks reach on some frames of each clip.

    Returns:
        ``val_accuracy`` of the classifier; ``val_dice_of_masks`` of the U-Net, the mean over the frames with
        a mask; ``val_error``, the autoencoder's squared error as a share of the variance of the frames; and
        ``val_score``, which is accuracy + Dice - error.
    """
    networks.eval()
    share = torch.linspace(0, 1, _CHECKED, device=clips.device)
    rows = (clips.first[:, None] + (clips.lengths[:, None] - 1) * share).long().flatten()
    logits, hits, areas, wrong, variance, labels = [], [], [], 0.0, 0.0, []
    for part in rows.split(256):
        frames, masks, label = _examples(clips, part, recipe)
        logits.append(networks.classifier(frames))
        labels.append(label)
        found = (networks.segmentation(frames) > 0)[:, 0]
        target = masks > 0.5
        hits.append(2 * (found & target).sum(dim=(1, 2)))
        areas.append(found.sum(dim=(1, 2)) + target.sum(dim=(1, 2)))
        areas[-1] = torch.where(target.any(dim=(1, 2)), areas[-1], 0)
        small = F.avg_pool2d(frames, 2)
        wrong += float(F.mse_loss(networks.autoencoder(frames), small, reduction="sum"))
        variance += float((small - small.mean()).square().sum())
    logit, known, hit, area = (torch.cat(each).cpu().numpy() for each in (logits, labels, hits, areas))
    accuracy = float(((logit > 0) == known).mean())
    dice = float((hit[area > 0] / area[area > 0]).mean()) if (area > 0).any() else 0.0
    error = wrong / max(variance, 1e-9)
    score = accuracy + dice - error
    return {"val_accuracy": accuracy, "val_dice_of_masks": dice, "val_error": error, "val_score": score}


@dataclass(frozen=True)
class _State:
    recipe: FeatureRecipe
    networks: FeatureNetworks
    optimizer: AdamW
    schedule: LambdaLR


def _train_epoch(state: _State, epoch: int, clips: Clips, bar: TrainingBar) -> float:
    """Show the networks some frames of every clip, mirrored at random; return the mean loss."""
    recipe = state.recipe
    rng = torch.Generator().manual_seed(epoch_seed(recipe.seed, epoch))
    share = torch.rand(len(clips), recipe.frames_per_clip, generator=rng).to(clips.device)
    rows = (clips.first[:, None] + clips.lengths[:, None] * share).long().flatten()
    rows = rows[torch.randperm(len(rows), generator=rng).to(clips.device)]
    mirrored = (torch.rand(len(rows), generator=rng) < 0.5).to(clips.device)
    state.networks.train()
    total = torch.zeros((), device=clips.device)
    parts = rows.split(recipe.batch_size)
    for number, part in enumerate(parts):
        examples = _examples(clips, part, recipe, mirrored[: len(part)])
        mirrored = mirrored[len(part) :]
        loss = _loss(state.networks, *examples)
        descend(state.optimizer, loss, state.schedule)
        total += loss.detach() * len(part)
        bar.show(epoch - 1 + (number + 1) / len(parts))
    return mean_loss(total, len(rows), epoch)


def _loss(networks: FeatureNetworks, frames: Tensor, masks: Tensor, label: Tensor) -> Tensor:
    """Return the sum of the losses of the three networks, which share no weight."""
    classified = F.binary_cross_entropy_with_logits(networks.classifier(frames), label.float())
    remembered = F.mse_loss(networks.autoencoder(frames), F.avg_pool2d(frames, 2))
    logits = networks.segmentation(frames)[:, 0]
    probability = torch.sigmoid(logits)
    overlap = 2 * (probability * masks).sum(dim=(1, 2)) + 1
    soft_dice = overlap / (probability.sum(dim=(1, 2)) + masks.sum(dim=(1, 2)) + 1)
    segmented = F.binary_cross_entropy_with_logits(logits, masks) + 1 - soft_dice.mean()
    return classified + remembered + segmented


def _examples(
    clips: Clips, rows: Tensor, recipe: FeatureRecipe, mirrored: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames as networks see them, masks at half the size, (N, 32, 32), and labels, bool (N,)."""
    if clips.masks is None:
        raise UserError(f"data.name: features learn from masks, and {recipe.data.name} has none; choose lung")
    frames, full = as_frames(clips.frames[rows]), clips.masks[rows]
    label = full.sum(dim=(1, 2)) * (64 / full.shape[1]) ** 2 >= recipe.abnormal_px
    masks = F.adaptive_avg_pool2d(full[:, None].float(), (32, 32))[:, 0]
    if mirrored is not None:
        frames = torch.where(mirrored[:, None, None, None], frames.flip(3), frames)
        masks = torch.where(mirrored[:, None, None], masks.flip(2), masks)
    return frames, masks, label


def _load(recipe: FeatureRecipe, part: str) -> Clips:
    cases = load_cases(recipe.data, part)
    if not isinstance(cases, Clips):
        raise UserError(f"data.name: {recipe.data.name} gives no clips, which features are of; choose lung")
    return cases

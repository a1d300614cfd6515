"""Networks that describe the frames of clips: what they give, how they are trained, and what is cached."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from summary_builders import make_clip, make_clips
from torch.nn import functional as F

from usrl.data.catalogue import DATASETS
from usrl.data.clips.clips import CLIPS, Clip, Clips
from usrl.data.dataset import Dataset
from usrl.data.recipe import DataRecipe
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError
from usrl.features.networks import FeatureNetworks, as_frames, measure_sharpness
from usrl.features.recipe import FeatureRecipe
from usrl.features.table import FeatureTable, rank
from usrl.learners import check_recipe, open_run_segmenter, train_folder
from usrl.networks.features import measure_networks
from usrl.runs.recipes import load_recipe
from usrl.runs.run import open_run

CPU = torch.device("cpu")
SMALL = {"kind": "features", "width": 8, "epochs": 2, "batch_size": 16, "frames_per_clip": 8}


def spotted_clip(index: int) -> Clip:
    """Return a clip of noise in which every second frame has a bright spot, and masks of the spots."""
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 80, (8, 64, 64)).astype(np.uint8)
    masks = np.zeros((8, 64, 64), np.bool_)
    for place in range(index % 2, 8, 2):
        row, column = rng.integers(4, 40, 2)
        masks[place, row : row + 20, column : column + 20] = True
    frames[masks] = 220
    name = f"spots-{index:02d}"
    return Clip(frames, 20.0, None, name, name, "spots", masks=masks)


@pytest.fixture
def spots(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register a data set of 40 clips with spots and return its name."""
    members = [Member(f"spots-{index:02d}", f"spots-{index:02d}", "spots") for index in range(40)]

    def load(data: DataRecipe, split: str) -> Clips:
        part = split_samples(members, seed=data.split_seed)[split]
        return Clips.from_clips([spotted_clip(index) for index in part], 64)

    monkeypatch.setitem(DATASETS, "spots", Dataset(load, kind=CLIPS, members=lambda data: members))
    return "spots"


def recipe_of(name: str, **changes: object) -> FeatureRecipe:
    return FeatureRecipe(**SMALL | {"data": DataRecipe(name=name, size=64)} | changes)  # type: ignore[arg-type]


def test_features_of_each_kind_have_length_one_and_do_not_depend_on_the_batch() -> None:
    networks = FeatureNetworks(FeatureRecipe(kind="features", width=16)).eval()
    frames = as_frames(make_clips().frames)
    with torch.no_grad():
        together, alone = networks(frames), networks(frames[5:6])
    assert together.vectors.shape == (41, 3, 16)
    assert together.vectors.norm(dim=2).sub(1).abs().max() < 1e-5
    assert ((together.abnormality > 0) & (together.abnormality < 1)).all()
    torch.testing.assert_close(alone.vectors[0], together.vectors[5], atol=1e-5, rtol=0)


def test_frames_of_another_size_are_averaged_to_that_of_the_networks() -> None:
    frames = torch.arange(128 * 128).view(1, 128, 128).remainder(256).to(torch.uint8)
    wanted = (F.avg_pool2d(frames[None].float(), 2) - 64) / 64
    torch.testing.assert_close(as_frames(frames), wanted)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    flat = torch.zeros(2, 5, 5)
    flat[1, 2, 2] = 1.0
    # Of nine inner pixels one has -4, four have 1: a mean of 0, and a sum of squares of 20.
    assert measure_sharpness(flat).tolist() == pytest.approx([0, 20 / 8])
    frame = as_frames(
        torch.from_numpy(make_clip("clip", 12).frames[3:4].repeat(2, axis=1).repeat(2, axis=2))
    )[0]
    blurred = F.avg_pool2d(frame[None], 3, 1, 1)[0]
    assert measure_sharpness(frame) > 2 * measure_sharpness(blurred)


def test_a_rank_is_the_share_of_lower_values_in_the_same_clip() -> None:
    values = torch.tensor([0.3, 0.1, 0.2, 5.0, 7.0, 6.0, 6.0, 1.0])
    ranks = rank(values, torch.tensor([3, 4, 1]))
    assert ranks.tolist() == pytest.approx([1, 0, 0.5, 0, 1, 1 / 3, 1 / 3, 0])


def test_networks_learn_to_find_and_to_remember(spots: str, tmp_path: Path) -> None:
    recipe = recipe_of(spots, epochs=5, frames_per_clip=16, learning_rate=5e-3, width=32)
    run = train_folder(recipe, tmp_path / "run", CPU)
    rows = run.read_log()
    assert [row["step"] for row in rows] == list(range(1, 6))
    best = max(rows, key=lambda row: row["val_score"])
    assert best["val_accuracy"] > 0.8
    assert best["val_dice_of_masks"] > 0.5
    assert best["val_error"] < rows[0]["val_error"]
    parts = run.split_path.read_text()
    assert parts.count("spots-") == 40
    table = FeatureTable.open(str(run.path))
    latents = table(Clips.from_clips([spotted_clip(90), spotted_clip(91)], 64))
    has_spot = torch.tensor([True, False] * 4 + [False, True] * 4)
    assert latents.abnormality[has_spot].mean() > latents.abnormality[~has_spot].mean() + 0.2


def test_a_resumed_training_ends_as_one_in_a_single_go(spots: str, tmp_path: Path) -> None:
    recipe = recipe_of(spots)
    whole = train_folder(recipe, tmp_path / "whole", CPU)
    parts = train_folder(recipe, tmp_path / "parts", CPU)
    lines = parts.log_path.read_text().splitlines()
    assert [json.loads(line)["train_loss"] for line in lines] == [
        row["train_loss"] for row in whole.read_log()
    ]
    again = train_folder(recipe, tmp_path / "parts", CPU, resume=True)
    assert again.read_log() == parts.read_log()


def test_a_frame_counts_as_abnormal_from_a_number_of_pixels_on(spots: str) -> None:
    clips = Clips.from_clips([spotted_clip(index) for index in range(4)], 64)
    networks = FeatureNetworks(recipe_of(spots)).eval()
    with torch.no_grad():
        networks.classifier.head.weight.zero_()
        networks.classifier.head.bias.fill_(1.0)  # always abnormal
    half, none = (measure_networks(networks, clips, recipe_of(spots, abnormal_px=px)) for px in (400, 401))
    assert half["val_accuracy"] == pytest.approx(0.5)
    assert none["val_accuracy"] == 0


def test_the_shipped_networks_are_small_and_have_seen_other_clips_than_the_agents() -> None:
    run = open_run("summary-features")
    assert run.weights_path.stat().st_size < 3_000_000
    recipe = run.recipe_as(FeatureRecipe)
    for name in ("summary-reinforce", "summary-ppo", "summary-supervised"):
        assert load_recipe(name).data.seed != recipe.data.seed
    assert recipe.data.seed not in range(10)


def test_tables_of_the_same_weights_are_equal_and_of_others_are_not(spots: str, tmp_path: Path) -> None:
    one, other = (
        train_folder(recipe_of(spots, epochs=1, seed=seed), tmp_path / f"{seed}", CPU) for seed in (0, 1)
    )
    tables = [FeatureTable.open(str(run.path)) for run in (one, one, other)]
    assert tables[0] == tables[1] != tables[2]
    clips = make_clips()
    assert clips.prepare(tables[0]) is clips.prepare(tables[1])
    assert clips.prepare(tables[0]) is not clips.prepare(tables[2])


def test_what_has_no_masks_or_is_no_clip_trains_no_features(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"data\.name: phantom gives images, and features are of clips; choose lung"
    ):
        check_recipe(recipe_of("phantom"))


def test_clips_without_masks_are_refused_with_their_name(
    spots: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(DATASETS[spots], load=lambda data, split: make_clips())
    monkeypatch.setitem(DATASETS, spots, plain)
    with pytest.raises(UserError, match="features learn from masks, and spots has none"):
        train_folder(recipe_of(spots), tmp_path / "run", CPU)


def test_networks_of_features_segment_nothing() -> None:
    with pytest.raises(UserError, match="gives features to frames and segments nothing"):
        open_run_segmenter(open_run("summary-features"), CPU)

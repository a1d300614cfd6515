"""Networks that are shown a box."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from usrl.data.prompts import bounding_box, start_boxes
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Prompt, Sample
from usrl.errors import UserError
from usrl.evaluation.methods import open_segmenter
from usrl.geometry.boxes import boxes_of_masks
from usrl.metrics.overlap import dice
from usrl.metrics.uncertainty import measure_softness
from usrl.networks.folds import write_proposals
from usrl.networks.prompted import draw_inputs, predict_native, show_boxes, shrink
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.segmenter import NetworkSegmenter, open_network
from usrl.networks.training import fit_network
from usrl.runs.run import Run, create_run
from usrl.segmenter import Answer, answer_frames

CPU = torch.device("cpu")
RECIPES = {
    prompt: NetworkRecipe(
        kind="network",
        prompt=prompt,
        data=DataRecipe(size=32),
        crop_size=32,
        channels=[8, 16, 32],
        residual_units=1,
        epochs=20,
        batch_size=4,
        learning_rate=1e-2,
    )
    for prompt in ("box", "crop")
}


def two_disks(index: int) -> Sample:
    """Return two dark disks in noise, of which only the first is the lesion: the box says which."""
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[:40, :72]
    centres = (rng.uniform(14, 26), rng.uniform(14, 20)), (rng.uniform(14, 26), rng.uniform(50, 56))
    order = rng.permutation(2)
    disks = [(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(7, 10) ** 2 for y, x in centres]
    image = np.where(disks[0] | disks[1], 60, 170) + rng.integers(-25, 25, rows.shape)
    return Sample(image.astype(np.uint8), disks[order[0]], None, f"case {index}", f"patient {index}", "toy")


@pytest.fixture(scope="module", params=RECIPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = create_run(tmp_path_factory.mktemp("runs") / request.param, RECIPES[request.param])
    fit_network(run, [two_disks(i) for i in range(20)], [two_disks(i) for i in range(100, 104)], CPU)
    return run


def test_the_box_says_which_of_two_lesions_is_meant(trained: Run) -> None:
    segmenter = NetworkSegmenter(trained, CPU)
    unseen = [two_disks(index) for index in range(200, 206)]
    masks = [segmenter.segment(s.image, (bounding_box(s.target),)).mask for s in unseen]
    assert np.mean([dice(mask, s.target) for mask, s in zip(masks, unseen, strict=True)]) > 0.85


def test_each_box_is_a_pass_of_its_own_and_masks_are_united(trained: Run) -> None:
    segmenter = NetworkSegmenter(trained, CPU)
    image = two_disks(201).image
    boxes = ((4.0, 4.0, 30.0, 34.0), (40.0, 6.0, 66.0, 36.0))
    both = segmenter.segment(image, boxes).mask
    apart = [segmenter.segment(image, (box,)).mask for box in boxes]
    assert (both == (apart[0] | apart[1])).all()
    assert both.shape == image.shape
    assert both.dtype == np.bool_


def test_probabilities_of_several_starts_are_averaged(trained: Run) -> None:
    single, several = NetworkSegmenter(trained, CPU), NetworkSegmenter(trained, CPU, 3)
    sample = two_disks(201)
    prompt = (bounding_box(sample.target),)
    maps = [
        single.segment(sample.image, boxes).probability
        for boxes in start_boxes(prompt, 3, sample.image.shape)
    ]
    mean = several.segment(sample.image, prompt).probability
    np.testing.assert_allclose(mean, np.mean(maps, axis=0), atol=1e-5)
    assert several.name == f"{trained.path.name} x3"
    for network, probability in ((single, maps[0]), (several, mean)):
        answer = network.segment(sample.image, prompt)
        assert (answer.mask == (probability > 0.5)).all()
        assert answer.uncertainty == measure_softness(probability, answer.mask)


class Finding:
    """An automatic method that finds what it is told."""

    name, track = "finding", "automatic"

    def __init__(self, *masks: np.ndarray) -> None:
        self._masks = masks

    def segment(self, image: np.ndarray, prompt: None) -> Answer:
        return Answer(np.logical_or.reduce([np.zeros(image.shape, bool), *self._masks]))


def test_a_network_is_shown_boxes_around_what_another_method_finds(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = two_disks(201).image
    large, small, speck = (np.zeros(image.shape, bool) for _ in range(3))
    large[6:34, 4:30], small[8:30, 42:60], speck[36:38, 66:70] = True, True, True
    boxed = open_network(trained, CPU, proposer=Finding(large, small, speck))
    alone = NetworkSegmenter(trained, CPU)
    segment, shown = NetworkSegmenter.segment, []

    def note(self: NetworkSegmenter, image: np.ndarray, prompt: Prompt) -> Answer:
        shown.append(prompt)
        return segment(self, image, prompt)

    monkeypatch.setattr(NetworkSegmenter, "segment", note)
    answer = boxed.segment(image, None)
    boxes = (bounding_box(large), bounding_box(small))
    assert [set(prompt) for prompt in shown] == [set(boxes)], "a speck gets no box"
    assert (answer.mask == alone.segment(image, boxes).mask).all()
    assert (answer.proposal == large | small | speck).all()
    assert (boxed.name, boxed.track) == (f"finding+{trained.path.name}", "automatic")
    assert len(boxed.networks()) == 1


def test_the_other_method_sees_the_frames_of_a_clip_together_if_it_can(trained: Run) -> None:
    class Late(Finding):
        def segment_clip(self, frames: Iterable[np.ndarray]) -> Iterator[Answer]:
            for number, frame in enumerate(list(frames)):
                yield Answer(self.segment(frame, None).mask if number else np.zeros(frame.shape, bool))

    image = two_disks(201).image
    square = np.zeros(image.shape, bool)
    square[6:34, 4:30] = True
    boxed = open_network(trained, CPU, proposer=Late(square))
    first, second = answer_frames(boxed, iter([image, image]))
    assert not first.mask.any()
    assert (second.mask == NetworkSegmenter(trained, CPU).segment(image, (bounding_box(square),)).mask).all()
    assert second.mask.any()


def test_where_another_method_finds_nothing_the_network_sees_nothing(trained: Run) -> None:
    answer = open_network(trained, CPU, proposer=Finding()).segment(two_disks(201).image, None)
    assert not answer.mask.any()
    assert answer.uncertainty == 1


def test_it_is_a_segmenter_of_the_prompted_track_opened_by_its_run(trained: Run) -> None:
    segmenter = open_segmenter(str(trained.path), CPU)
    assert isinstance(segmenter, NetworkSegmenter)
    assert (segmenter.name, segmenter.track) == (trained.path.name, "prompted")
    with pytest.raises(UserError, match="needs a box"):
        segmenter.segment(two_disks(1).image, None)


def test_validation_scores_what_the_segmenter_does(trained: Run) -> None:
    from usrl.data.prompts import jittered_boxes
    from usrl.networks.training import VALIDATION_SEED

    segmenter = NetworkSegmenter(trained, CPU)
    val = [two_disks(index) for index in range(100, 104)]
    boxes = [jittered_boxes(sample, 0.2, VALIDATION_SEED) for sample in val]
    scores = [dice(segmenter.segment(s.image, box).mask, s.target) for s, box in zip(val, boxes, strict=True)]
    assert np.mean(scores) == pytest.approx(max(row["val_score"] for row in trained.read_log()), abs=1e-6)


def test_boxes_are_drawn_anew_and_stay_within_the_jitter() -> None:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 10:20, 6:26] = True
    images, masks = torch.zeros(200, 32, 32), mask.expand(200, 32, 32)
    rng = torch.Generator().manual_seed(0)
    inputs, same = draw_inputs(RECIPES["box"], images, masks, rng)
    drawn = boxes_of_masks(inputs[:, 1] > 0.5)
    assert torch.equal(same, masks)
    apart = (drawn - torch.tensor([5.5, 9.5, 25.5, 19.5])).abs()
    assert (apart <= torch.tensor([4.5, 2.5, 4.5, 2.5])).all()
    assert (apart.amax(dim=0) >= torch.tensor([3.0, 1.0, 3.0, 1.0])).all()
    assert len(drawn.unique(dim=0)) > 50


def test_a_crop_shows_the_box_with_its_margin_whatever_its_size() -> None:
    recipe = RECIPES["crop"].model_copy(update={"crop_margin": 0.5})
    images, boxes = torch.zeros(2, 32, 32), torch.tensor([[11.5, 11.5, 19.5, 19.5], [13.5, 9.5, 17.5, 21.5]])
    images[0, 12:20, 12:20] = images[1, 10:22, 14:18] = 1.0
    shown = show_boxes(recipe, images, boxes)
    assert shown.shape == (2, 1, 32, 32)
    assert torch.allclose(shown[:, 0, 10:22, 10:22], torch.ones(2, 12, 12), atol=0.01)
    assert float(shown.mean()) == pytest.approx(0.25, abs=0.01)


def test_a_perfect_network_gives_the_target_back_through_the_crop() -> None:
    sample = two_disks(7)

    class Dark(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 50 * (0.45 - images)

    recipe = RECIPES["crop"].model_copy(update={"data": DataRecipe(size=128), "crop_size": 96})
    clean = np.where(sample.target, 60, 170).astype(np.uint8)
    shrunk = shrink([clean], 128, CPU)
    (found,) = predict_native(Dark(), recipe, *shrunk, [(bounding_box(sample.target),)])
    assert dice(found > 0.5, sample.target) > 0.97


def test_proposals_want_an_automatic_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="proposals want an automatic network, got 'box'"):
        write_proposals(RECIPES["box"], tmp_path / "out", 2, CPU)


def test_the_size_of_crops_is_checked(tmp_path: Path) -> None:
    odd = RECIPES["crop"].model_copy(update={"crop_size": 30})
    with pytest.raises(UserError, match="crop_size: 3 levels want a multiple of 4 from 8 px on, got 30"):
        fit_network(create_run(tmp_path / "run", odd), [two_disks(1)], [two_disks(2)], CPU)

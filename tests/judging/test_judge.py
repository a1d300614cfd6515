"""A judge learns which candidates are lesions, and chooses by it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from usrl.agents.recipe import AgentRecipe
from usrl.agents.training import train_agent
from usrl.classical import CLASSICAL
from usrl.data.catalogue import load_split, load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.evaluation.compare import score_lesions
from usrl.judging.recipe import JudgeRecipe
from usrl.judging.segmenter import JudgedSegmenter
from usrl.judging.training import _train_epoch as train_epoch
from usrl.judging.training import train_judge
from usrl.metrics.overlap import dice
from usrl.progress import show_progress
from usrl.runs.run import Run, create_run, open_run
from usrl.runs.tensors import load_tensors
from usrl.segmenter import Answer, answer_frames

CPU = torch.device("cpu")
DATA = DataRecipe(count=24, size=64)


def doubtful(sample: Sample) -> np.ndarray:
    """Return a probability that finds the lesion, and is more certain of a stripe at the bottom."""
    probability = 0.6 * sample.target.astype(np.float32)
    probability[-20:-4, 20:-20] = 0.8
    return probability


class Proposer:
    """Stands in for a network."""

    name, track = "doubtful", "automatic"

    def __init__(self, samples: list[Sample]) -> None:
        self._maps = {sample.image.tobytes(): doubtful(sample) for sample in samples}
        self.calls = 0

    def segment(self, image: np.ndarray, prompt: object) -> Answer:
        self.calls += 1
        probability = self._maps[image.tobytes()]
        return Answer(probability > 0.5, probability=probability)


@pytest.fixture(scope="module")
def proposals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proposals")
    for part in ("train", "val"):
        for sample in load_split("phantom", part, count=DATA.count):
            levels = np.rint(255 * doubtful(sample)).astype(np.uint8)
            Image.fromarray(levels).save(folder / f"{sample.name}.png")
    return folder


@pytest.fixture(scope="module")
def judge(proposals: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = create_run(tmp_path_factory.mktemp("judge") / "judge", recipe(proposals))
    train_judge(run, CPU)
    return run


@pytest.fixture
def agent(tmp_path: Path) -> Run:
    wanted = AgentRecipe(
        data=DATA,
        num_envs=4,
        total_steps=40,
        evaluate_every=40,
        hyperparameters={"n_steps": 10, "batch_size": 40},
    )
    run = create_run(tmp_path / "agent", wanted)
    train_agent(run, CPU)
    return run


def recipe(proposals: Path, **changes: object) -> JudgeRecipe:
    settings = {"proposals": str(proposals), "data": DATA, "channels": [8, 16], "epochs": 30, "batch_size": 8}
    return JudgeRecipe(kind="judge", **(settings | changes))  # type: ignore[arg-type]


def test_the_judge_learns_to_leave_out_what_is_no_lesion(judge: Run) -> None:
    test = load_split("phantom", "test", count=DATA.count)
    proposer = Proposer(test)
    segmenter = JudgedSegmenter(open_run(judge.path), CPU, proposer)
    assert (segmenter.name, segmenter.track) == ("doubtful+judge", "automatic")
    for sample in test:
        answer = segmenter.segment(sample.image, None)
        assert answer.proposal is not None
        assert dice(answer.proposal, sample.target) < 0.9
        assert dice(answer.mask, sample.target) == 1.0
        best = segmenter.reach(sample.image, None, sample.target, answer)
        assert dice(best, sample.target) == 1.0
        assert (segmenter.reach(sample.image, None, sample.target) == best).all()


def test_the_network_of_a_judge_sees_the_frames_of_a_clip_together_if_it_can(judge: Run) -> None:
    class Late(Proposer):
        def segment_clip(self, frames: Iterable[np.ndarray]) -> Iterator[Answer]:
            for number, frame in enumerate(list(frames)):
                nothing = Answer(np.zeros(frame.shape, bool), probability=np.zeros(frame.shape, np.float32))
                yield self.segment(frame, None) if number else nothing

    (sample, *_) = test = load_split("phantom", "test", count=DATA.count)
    segmenter = JudgedSegmenter(open_run(judge.path), CPU, Late(test))
    first, second = answer_frames(segmenter, iter([sample.image] * 2))
    assert not first.mask.any()
    assert dice(second.mask, sample.target) == 1.0


def test_a_comparison_asks_the_network_of_a_judge_once_per_image(judge: Run, tmp_path: Path) -> None:
    test = load_split("phantom", "test", count=DATA.count)
    proposer = Proposer(test)
    segmenter = JudgedSegmenter(open_run(judge.path), CPU, proposer)
    calls = [score_calls(segmenter, proposer, test[:count]) for count in (1, 2)]
    assert calls == [1, 2]


def score_calls(segmenter: JudgedSegmenter, proposer: Proposer, samples: list[Sample]) -> int:
    """Return how often a judge's network is asked for answer, proposal and ceiling of samples."""
    before = proposer.calls
    with show_progress(len(samples)) as progress:
        (row, *_) = score_lesions({"judge": segmenter}, samples, {}, progress)
    assert {"dice", "initial_dice", "oracle_dice", "uncertainty"} < set(row)
    return proposer.calls - before


def test_a_method_without_probabilities_has_nothing_to_judge(judge: Run) -> None:
    segmenter = JudgedSegmenter(open_run(judge.path), CPU, CLASSICAL["otsu"]())
    with pytest.raises(UserError, match=r"got otsu; write NETWORK_RUN\+.*judge"):
        segmenter.segment(np.zeros((64, 64), np.uint8), None)


def test_a_judge_that_was_interrupted_goes_on_to_the_same_weights(proposals: Path, tmp_path: Path) -> None:
    wanted = recipe(proposals, epochs=2)
    whole = create_run(tmp_path / "whole", wanted)
    train_judge(whole, CPU)
    halted = create_run(tmp_path / "halted", wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usrl.judging.training._train_epoch", one_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_judge(halted, CPU)
    train_judge(halted, CPU, resume=True)
    first, second = (load_tensors(run.weights_path)[0] for run in (whole, halted))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["step"] for row in halted.read_log()] == [1, 2]


def test_an_epoch_that_was_killed_before_its_row_is_repeated(proposals: Path, tmp_path: Path) -> None:
    run = create_run(tmp_path / "judge", recipe(proposals, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "append_log", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_judge(run, CPU)
    train_judge(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [1]


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def one_epoch(state: object, epoch: int, *rest: object) -> float:
    if epoch > 1:
        raise KeyboardInterrupt
    return train_epoch(state, epoch, *rest)  # type: ignore[arg-type]


def test_without_a_network_to_judge_there_is_no_segmenter(judge: Run) -> None:
    with pytest.raises(UserError, match=r"got none; write NETWORK_RUN\+.*judge"):
        JudgedSegmenter(open_run(judge.path), CPU)


def test_a_refiner_that_is_no_agent_is_refused_before_training(proposals: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such run"):
        train_judge(create_run(tmp_path / "a", recipe(proposals, refiner=str(tmp_path / "nowhere"))), CPU)


def test_a_refiner_that_has_seen_validation_images_is_refused(
    proposals: Path, agent: Run, tmp_path: Path
) -> None:
    agent.split_path.write_text(agent.split_path.read_text().replace("val\t", "train\t"))
    with pytest.raises(UserError, match=r"refiner: .*agent has seen the labels of 2 others, .* val here"):
        train_judge(create_run(tmp_path / "judge", recipe(proposals, refiner=str(agent.path))), CPU)


def test_a_refused_training_leaves_a_folder_that_the_corrected_one_may_use(
    proposals: Path, agent: Run, tmp_path: Path
) -> None:
    wrong = recipe(proposals.parent / "nothing", refiner=str(agent.path), epochs=1)
    with pytest.raises(UserError, match="every image of the split needs a proposal"):
        train_judge(create_run(tmp_path / "judge", wrong), CPU)
    train_judge(create_run(tmp_path / "judge", recipe(proposals, epochs=1)), CPU)


def test_too_few_candidates_leave_the_folder_free_too(proposals: Path, agent: Run, tmp_path: Path) -> None:
    wrong = recipe(proposals, refiner=str(agent.path), batch_size=1000)
    with pytest.raises(UserError, match="fewer than batch_size 1000"):
        train_judge(create_run(tmp_path / "judge", wrong), CPU)
    create_run(tmp_path / "judge", recipe(proposals))


def test_a_validation_split_without_a_lesion_is_refused(
    proposals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(data: DataRecipe, path: Path) -> tuple[list[Sample], list[Sample]]:
        train, val = load_train_and_val(data, path)
        return train, [replace(sample, labels=np.zeros_like(sample.target)) for sample in val]

    monkeypatch.setattr("usrl.judging.training.load_train_and_val", without)
    with pytest.raises(UserError, match="validation split has no image with a lesion"):
        train_judge(create_run(tmp_path / "judge", recipe(proposals)), CPU)


def test_a_resumed_training_goes_on_with_the_copy_of_its_refiner(
    proposals: Path, agent: Run, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "judge", recipe(proposals, epochs=1, refiner=str(agent.path)))
    train_judge(run, CPU)
    assert (run.path / "refiner" / "split.tsv").read_text() == agent.split_path.read_text()
    agent.weights_path.write_bytes(b"of another training by now")
    train_judge(run, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [1]


def test_refined_candidates_stand_beside_raw_ones(
    proposals: Path, judge: Run, agent: Run, tmp_path: Path
) -> None:
    run = create_run(tmp_path / "judge", recipe(proposals, epochs=1, refiner=str(agent.path)))
    train_judge(run, CPU)
    agent.weights_path.unlink()  # the judge has a copy
    sample = load_split("phantom", "test", count=DATA.count)[0]
    alone = JudgedSegmenter(open_run(judge.path), CPU, Proposer([sample]))
    refined = JudgedSegmenter(open_run(run.path), CPU, Proposer([sample]))
    candidates, more = (one.segment(sample.image, None).candidates for one in (alone, refined))
    assert len(more.masks) == 2 * len(candidates.masks) == 4
    assert more.own == candidates.own == 2

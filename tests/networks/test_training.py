from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from usrl.agents.recipe import AgentRecipe
from usrl.data.recipe import DataRecipe
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.metrics.overlap import dice
from usrl.networks import models, training
from usrl.networks.models import build_network
from usrl.networks.recipe import NetworkRecipe
from usrl.networks.segmenter import NetworkSegmenter
from usrl.networks.training import build_untrained_network, fit_network, train_network
from usrl.runs.leaks import trace
from usrl.runs.run import Run, create_run, open_run
from usrl.runs.tensors import load_tensors, save_tensors
from usrl.segmenter import Segmenter

CPU = torch.device("cpu")
OTHER_IMAGES = DataRecipe(size=32, seed=7)
RECIPE = NetworkRecipe(
    kind="network",
    data=DataRecipe(size=32),
    channels=[8, 16, 32],
    residual_units=1,
    epochs=4,
    batch_size=4,
    learning_rate=1e-2,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep sums in one order, and threads from waiting for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _disk(index: int, has_lesion: bool = True) -> Sample:
    """Return a bright disk in noise on an image that is not square."""
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[:40, :56]
    centre = rng.uniform(14, 26), rng.uniform(16, 40)
    target = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < rng.uniform(7, 11) ** 2
    target &= has_lesion
    image = (40 + 120 * target + rng.uniform(0, 40, target.shape)).astype(np.uint8)
    return Sample(image, target, None, f"disk-{index}", str(index), "disks")


@pytest.fixture(scope="module")
def train() -> list[Sample]:
    return [_disk(index, has_lesion=index % 6 != 5) for index in range(18)]


@pytest.fixture(scope="module")
def val() -> list[Sample]:
    return [_disk(index, has_lesion=index != 100) for index in range(100, 105)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, train: list[Sample], val: list[Sample]) -> Run:
    run = create_run(tmp_path_factory.mktemp("runs") / "tiny", RECIPE.model_copy(update={"epochs": 12}))
    fit_network(run, train, val, CPU)
    return run


def test_network_learns_disks_and_finds_none_where_there_is_none(trained: Run) -> None:
    segmenter = NetworkSegmenter(open_run(trained.path), CPU)
    unseen = [_disk(index) for index in range(200, 206)]
    assert np.mean([dice(segmenter.segment(s.image).mask, s.target) for s in unseen]) > 0.9
    assert not segmenter.segment(_disk(300, has_lesion=False).image).mask.any()


def test_an_automatic_network_starts_once(trained: Run) -> None:
    assert NetworkSegmenter(trained, CPU, starts=4).name == trained.name


def test_segmenter_keeps_the_contract(trained: Run) -> None:
    segmenter: Segmenter = NetworkSegmenter(trained, CPU)
    image = _disk(201).image
    mask = segmenter.segment(image, ((0.0, 0.0, 5.0, 5.0),)).mask
    assert (segmenter.name, segmenter.track) == ("tiny", "automatic")
    assert mask.dtype == np.bool_
    assert mask.shape == image.shape
    probability = NetworkSegmenter(trained, CPU).probability(image)
    assert probability.dtype == np.float32
    assert 0 <= probability.min() < probability.max() <= 1
    assert np.array_equal(probability > 0.5, mask)


def test_kept_weights_are_those_of_the_best_epoch(trained: Run, val: list[Sample]) -> None:
    rows = trained.read_log()
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert all({"seconds", "train_loss", "val_score"} <= row.keys() for row in rows)
    _, facts = load_tensors(trained.weights_path)
    best = max(rows, key=lambda row: row["val_score"])
    assert facts == {"step": best["step"], "val_score": best["val_score"]}
    segmenter = NetworkSegmenter(trained, CPU)
    scores = [dice(segmenter.segment(s.image).mask, s.target) for s in val if s.target.any()]
    assert np.mean(scores) == pytest.approx(best["val_score"], abs=1e-6)


def test_kept_weights_are_the_average_of_the_steps(
    tmp_path: Path, train: list[Sample], val: list[Sample]
) -> None:
    def kept_and_last(decay: float) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = RECIPE.model_copy(update={"epochs": 1, "ema_decay": decay})
        run = create_run(tmp_path / str(decay), recipe)
        fit_network(run, train, val, CPU)
        name = next(name for name in load_tensors(run.weights_path)[0] if name.endswith("weight"))
        return load_tensors(run.weights_path)[0][name], load_tensors(run.checkpoint_path)[0][
            f"network/{name}"
        ]

    assert torch.equal(*kept_and_last(0.0))
    mean, last = kept_and_last(0.99)
    assert not torch.equal(mean, last)


def test_an_image_and_its_mirror_image_get_mirrored_probabilities(trained: Run) -> None:
    image = _disk(201).image[:, :40]  # square, so that the letterbox has no padding to round
    segmenter = NetworkSegmenter(trained, CPU)
    mirrored = segmenter.probability(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
    np.testing.assert_allclose(segmenter.probability(image), mirrored, atol=1e-5)


def test_images_without_lesion_are_left_out_where_the_recipe_says_so(
    tmp_path: Path, train: list[Sample], val: list[Sample]
) -> None:
    recipe = RECIPE.model_copy(update={"negatives": False, "epochs": 1})
    fit_network(create_run(tmp_path / "all", recipe), train, val, CPU)
    lesions = [sample for sample in train if sample.target.any()]
    fit_network(create_run(tmp_path / "lesions", recipe), lesions, val, CPU)
    one, other = (load_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("all", "lesions"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(lesions) < len(train)


def test_training_in_bfloat16_learns_too(tmp_path: Path, train: list[Sample], val: list[Sample]) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 12, "precision": "bfloat16"})
    run = create_run(tmp_path / "run", recipe)
    fit_network(run, train, val, CPU)
    assert max(row["val_score"] for row in run.read_log()) > 0.9
    assert all(t.dtype != torch.bfloat16 for t in load_tensors(run.weights_path)[0].values())


@pytest.mark.parametrize("is_fast", [True, False])
def test_automatic_precision_is_bfloat16_only_where_that_is_fast(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "has_bfloat16", lambda device: is_fast)
    with models.autocast(RECIPE.model_copy(update={"precision": "auto"}), CPU):
        assert torch.is_autocast_enabled("cpu") == is_fast


def test_training_writes_tensorboard_scalars(trained: Run) -> None:
    assert [p for p in (trained.path / "tb").iterdir() if "tfevents" in p.name]


def test_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, train: list[Sample], val: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (create_run(tmp_path / name, RECIPE) for name in ("whole", "cut"))
    fit_network(whole, train, val, CPU)

    one_epoch = training._train_epoch

    def fail_in_third(state: training._State, epoch: int, *rest: object) -> float:
        if epoch == 3:
            raise KeyboardInterrupt
        return one_epoch(state, epoch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_train_epoch", fail_in_third)
    with pytest.raises(KeyboardInterrupt):
        fit_network(cut, train, val, CPU)
    monkeypatch.undo()
    cut.append_log({"step": 3, "val_score": 0.0})  # as if killed between log and checkpoint
    fit_network(cut, train, val, CPU, resume=True)

    expected, facts = load_tensors(whole.checkpoint_path)
    found, found_facts = load_tensors(cut.checkpoint_path)
    assert facts["step"] == found_facts["step"] == 4
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    for key in ("step", "train_loss", "val_score"):
        assert [r[key] for r in cut.read_log()] == pytest.approx([r[key] for r in whole.read_log()])


def test_an_epoch_that_was_killed_before_its_row_is_repeated(
    tmp_path: Path, train: list[Sample], val: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    run = create_run(tmp_path / "run", RECIPE.model_copy(update={"epochs": 1}))
    monkeypatch.setattr(Run, "append_log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_network(run, train, val, CPU)
    monkeypatch.undo()
    fit_network(run, train, val, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [1]


def test_resuming_a_finished_training_changes_nothing(
    trained: Run, train: list[Sample], val: list[Sample]
) -> None:
    before = trained.weights_path.read_bytes(), trained.log_path.read_text()
    fit_network(trained, train, val, CPU, resume=True)
    assert (trained.weights_path.read_bytes(), trained.log_path.read_text()) == before


def test_training_leaves_the_callers_random_state_alone(
    tmp_path: Path, train: list[Sample], val: list[Sample]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_network(create_run(tmp_path / "run", RECIPE.model_copy(update={"epochs": 1})), train, val, CPU)
    assert torch.equal(torch.rand(3), expected)


def test_a_training_starts_from_the_weights_of_another_and_keeps_what_they_had_seen(
    tmp_path: Path, trained: Run, train: list[Sample], val: list[Sample]
) -> None:
    changes = {"init_from": str(trained.path), "data": OTHER_IMAGES, "epochs": 1, "learning_rate": 1e-12}
    run = create_run(tmp_path / "run", RECIPE.model_copy(update=changes))
    fit_network(run, train, val, CPU)
    assert [link.path for link in trace(run)] == [run.path, run.source_path]
    start, end = (load_tensors(path)[0] for path in (trained.weights_path, run.weights_path))
    for name in dict(build_network(RECIPE).named_parameters()):
        torch.testing.assert_close(end[name], start[name], atol=1e-6, rtol=1e-5)


def test_a_start_that_no_epoch_improves_on_is_kept(
    tmp_path: Path, trained: Run, train: list[Sample], val: list[Sample]
) -> None:
    changes = {"init_from": str(trained.path), "data": OTHER_IMAGES, "epochs": 1, "learning_rate": 1.0}
    run = create_run(tmp_path / "run", RECIPE.model_copy(update=changes))
    fit_network(run, train, val, CPU)
    before, after = (row["val_score"] for row in run.read_log())
    assert after < before == max(row["val_score"] for row in trained.read_log())
    start, kept = (load_tensors(path)[0] for path in (trained.weights_path, run.weights_path))
    assert all(torch.equal(kept[name], value) for name, value in start.items())


def test_a_resumed_training_does_not_start_over(
    tmp_path: Path, trained: Run, train: list[Sample], val: list[Sample]
) -> None:
    started = RECIPE.model_copy(update={"init_from": str(trained.path), "data": OTHER_IMAGES, "epochs": 1})
    run = create_run(tmp_path / "run", started)
    fit_network(run, train, val, CPU)
    longer = Run(run.path, started.model_copy(update={"init_from": str(tmp_path / "gone"), "epochs": 2}))
    fit_network(longer, train, val, CPU, resume=True)
    assert [row["step"] for row in run.read_log()] == [0, 1, 2]


def test_a_start_of_another_network_or_of_an_agent_is_refused(tmp_path: Path, trained: Run) -> None:
    wider = RECIPE.model_copy(update={"init_from": str(trained.path), "channels": [8, 16, 64]})
    message = r"init_from: .*weights of another architecture: .*both recipes want the same network, channels"
    with pytest.raises(UserError, match=message):
        build_untrained_network(wider)
    crops = RECIPE.model_copy(update={"init_from": str(trained.path), "prompt": "crop"})
    with pytest.raises(
        UserError, match=r"init_from: .*tiny has prompt 'none', this recipe 'crop'; both recipes"
    ):
        build_untrained_network(crops)
    agent = Path(__file__).parents[2] / "agents" / "contour-ppo"
    with pytest.raises(UserError, match=r"init_from: .*wanted a recipe of kind 'network', got 'agent'"):
        build_untrained_network(RECIPE.model_copy(update={"init_from": str(agent)}))


def test_a_start_that_has_learned_from_these_test_images_is_refused(tmp_path: Path) -> None:
    data = DataRecipe(size=32, count=20)
    first = create_run(tmp_path / "first", RECIPE.model_copy(update={"data": data, "epochs": 1}))
    train_network(first, CPU)
    other_split = data.model_copy(update={"split_seed": 1})
    started = RECIPE.model_copy(update={"data": other_split, "init_from": str(first.path)})
    with pytest.raises(UserError, match=r"init_from: .*first has seen the labels of \d+ others"):
        train_network(create_run(tmp_path / "second", started), CPU)


def test_phantom_is_trained_by_name_and_its_split_written(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"data": DataRecipe(size=32, count=20), "epochs": 1})
    run = create_run(tmp_path / "run", recipe)
    train_network(run, CPU)
    parts = [line.split("\t")[0] for line in run.split_path.read_text().splitlines()]
    assert (len(parts), parts.count("train")) == (20, 14)
    assert run.weights_path.exists()


def test_validation_without_lesion_is_refused(tmp_path: Path, train: list[Sample]) -> None:
    with pytest.raises(UserError, match="no image with a lesion"):
        fit_network(create_run(tmp_path / "run", RECIPE), train, [_disk(1, has_lesion=False)], CPU)


def test_divergence_is_reported(tmp_path: Path, train: list[Sample], val: list[Sample]) -> None:
    wild = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match="diverged in epoch 1; choose a smaller learning_rate"):
        fit_network(create_run(tmp_path / "run", wild), train, val, CPU)


def test_agents_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted a recipe of kind 'network', got 'agent'"):
        train_network(create_run(tmp_path / "run", AgentRecipe()), CPU)


def test_checkpoint_of_another_network_is_refused(
    tmp_path: Path, train: list[Sample], val: list[Sample]
) -> None:
    run = create_run(tmp_path / "run", RECIPE)
    save_tensors(run.checkpoint_path, {"network/a": torch.zeros(2)}, {"epoch": 1, "best": 0, "seconds": 1})
    with pytest.raises(UserError, match="another architecture"):
        fit_network(run, train, val, CPU, resume=True)

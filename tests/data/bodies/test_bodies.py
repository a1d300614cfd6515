import numpy as np
import pytest
import scipy.ndimage
import torch

from usrl.data.bodies.anatomy import draw_body, draw_speckle
from usrl.data.bodies.dataset import MAX_BODIES, load_bodies, make_body
from usrl.data.bodies.poses import DEGREES, angles_deg, angles_of, distances_mm, rotations
from usrl.data.bodies.scanner import Scanner
from usrl.data.bodies.tissues import TISSUES, find_tissue, tissue_table
from usrl.data.bodies.volumes import LABEL, SHAPE, SPACING_MM, SPECKLE, Body, Volumes, encode_voxels
from usrl.data.catalogue import check_dataset, has_same_images, load_cases, load_split
from usrl.data.phantom.anatomy import Draws
from usrl.data.recipe import DataRecipe
from usrl.data.splits import Member, split_samples
from usrl.errors import UserError

LESION = TISSUES["lesion"].label


@pytest.fixture(scope="module")
def anatomies():
    """Labels and standard planes of 50 bodies."""
    return [draw_body(Draws([seed, 0])) for seed in range(50)]


def test_equal_seeds_give_equal_bodies(bodies):
    again = make_body(0, 1)
    np.testing.assert_array_equal(again.voxels, bodies[1].voxels)
    np.testing.assert_array_equal(again.standard, bodies[1].standard)
    assert (again.name, again.group) == ("body-0001", "body-0001")


def test_other_seeds_indices_and_varieties_give_other_bodies(bodies):
    for other in (bodies[1], make_body(1, 0), make_body(0, 0, variety=0.5)):
        assert (other.voxels != bodies[0].voxels).mean() > 0.2
        assert (other.standard[:2] != bodies[0].standard[:2]).all()


@pytest.mark.parametrize("arguments", [(-1, 0), (0, -1), (0, 0, 1.5)])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match="a body needs seed >= 0, index >= 0 and a variety from 0 to 1, got"):
        make_body(*arguments)


def test_a_part_of_a_split_holds_the_bodies_of_its_names(bodies):
    data = DataRecipe(name="bodies", count=10)
    val = load_cases(data, "val")
    index = int(val.names[0].removeprefix("body-"))
    assert (len(val), val.kind, val.groups) == (1, "volumes", val.names)
    expected = bodies[index] if index < len(bodies) else make_body(0, index)
    np.testing.assert_array_equal(val.voxels[0].numpy(), expected.voxels)
    np.testing.assert_array_equal(val.standard[0].numpy(), expected.standard)


def test_the_split_does_not_depend_on_the_order_of_bodies():
    members = [Member(f"body-{index:04d}", f"body-{index:04d}", "bodies") for index in range(40)]
    splits = [
        {part: {names[index].name for index in indices} for part, indices in split_samples(names).items()}
        for names in (members, members[::-1])
    ]
    assert splits[0] == splits[1]
    assert [len(splits[0][part]) for part in ("train", "val", "test")] == [28, 4, 8]


def test_64_bodies_take_less_than_a_gibibyte(bodies):
    volumes = Volumes.from_bodies(bodies)
    assert volumes.voxels.shape == (4, *SHAPE, 4)
    assert volumes.voxels.dtype == torch.uint8
    assert volumes.voxels[0].nbytes == 3 * 2**20
    assert 64 * volumes.voxels[0].nbytes < 2**30


def test_more_bodies_than_memory_holds_are_refused_before_any_is_made():
    with pytest.raises(UserError, match=f"data.count: .* at most {MAX_BODIES} are allowed, got 5000"):
        load_bodies(DataRecipe(name="bodies", count=5000), "train")
    with pytest.raises(UserError, match=f"data.count: .* at most {MAX_BODIES} are allowed, got 5000"):
        check_dataset(DataRecipe(name="bodies", count=5000))


def test_bodies_are_counted_as_bodies_and_are_not_images():
    report = check_dataset(DataRecipe(name="bodies", count=7))
    assert report.is_sound
    lines = [" ".join(line.split()) for line in report.lines()]
    assert lines[:2] == ["bodies, simulated", "bodies, simulated 7"]
    assert "memory, all parts 21 MiB" in lines
    with pytest.raises(UserError, match="'bodies' consists of volumes, and images are wanted here"):
        load_split("bodies")
    with pytest.raises(UserError, match="'bodies' is simulated and reads no folder"):
        check_dataset(DataRecipe(name="bodies", root="here"))


def test_a_body_has_one_lesion_of_plausible_size(anatomies):
    for labels, _ in anatomies:
        lesion = labels == LESION
        assert scipy.ndimage.label(lesion)[1] == 1
        # Ellipsoids with half axes from 10, 5.5 and 4 mm to 13, 7 and 5 mm.
        assert 4 / 3 * np.pi * 10 * 5.5 * 4 * 0.95 < lesion.sum() * SPACING_MM**3 < 4 / 3 * np.pi * 13 * 7 * 5


def test_the_lesion_is_wholly_below_the_muscle(anatomies):
    depth = np.arange(SHAPE[2])
    above = [TISSUES[name].label for name in ("skin", "fat", "muscle")]
    for labels, _ in anatomies:
        lesion = labels == LESION
        is_column = lesion.any(axis=2)
        deepest_layer = np.where(np.isin(labels, above), depth, -1).max(axis=2)
        # A lesion that reached into the muscle would have replaced it, and fascia is between the two.
        assert (lesion.argmax(axis=2) - deepest_layer)[is_column].min() >= 2


def test_tissues_of_all_kinds_are_in_a_body(anatomies):
    for labels, _ in anatomies:
        assert set(np.unique(labels)) >= {
            TISSUES[name].label for name in TISSUES if name not in ("outside", "cyst")
        }
        assert not (labels == TISSUES["outside"].label).any()


def test_the_second_axis_of_a_lesion_is_longer_than_its_third_at_any_variety():
    for seed in range(6):  # whose third one draws the second axis shorter than the third
        labels, standard = draw_body(Draws([0, seed], variety=1.0))
        points = np.argwhere(labels == LESION)[:, [1, 0, 2]] * SPACING_MM
        axes = rotations(torch.from_numpy(standard[None].astype(np.float64)))[0].numpy()
        lateral, elevational, axial = ((points - points.mean(axis=0)) @ axes).std(axis=0)
        assert lateral > axial > elevational


def test_the_standard_plane_shows_the_largest_section_of_the_lesion_in_its_middle(anatomies):
    flat, ones = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    chosen = [
        Body(encode_voxels(labels, flat, ones), pose, str(k), str(k))
        for k, (labels, pose) in enumerate(anatomies[:8])
    ]
    volumes = Volumes.from_bodies(chosen)
    scanner, rows = Scanner(volumes), torch.arange(len(volumes))

    def see(poses):
        return scanner.scan(rows, poses)[1] == LESION

    standard = see(volumes.standard)
    area = standard.sum(dim=(1, 2))
    middle = (standard * (torch.arange(64) + 0.5)).sum(dim=(1, 2)) / area - 32
    assert middle.abs().max() < 1.5  # px
    largest = area
    for degree, change in enumerate([2.0, 2.0, 5 * DEGREES, 5 * DEGREES, 5 * DEGREES]):
        for moved in (change, -change):
            poses = volumes.standard.clone()
            poses[:, degree] += moved
            largest = torch.maximum(largest, see(poses).sum(dim=(1, 2)))
            if degree in (1, 3):  # those that leave the plane along the shortest axis
                assert (see(poses).sum(dim=(1, 2)) < 0.95 * area).all()
    assert (area > 0.96 * largest).all()


def test_speckle_is_rayleigh_distributed():
    envelope = draw_speckle(np.random.default_rng(0))
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), abs=0.05)  # 1.91
    assert np.square(envelope).mean() == pytest.approx(1, abs=1e-3)
    # A Rayleigh variable of unit power is below x with probability 1 - exp(-x^2).
    for level in (0.5, 1.0, 1.5):
        assert (envelope < level).mean() == pytest.approx(1 - np.exp(-(level**2)), abs=0.01)


def test_speckle_of_parallel_slices_is_alike_nearby_and_not_farther_away():
    rng, flat = np.random.default_rng(1), np.zeros(SHAPE, np.float32)
    labels = np.full(SHAPE, TISSUES["organ"].label, np.uint8)
    body = Body(encode_voxels(labels, flat, draw_speckle(rng)), np.zeros(5, np.float32), "even", "even")
    offsets = torch.tensor([0.0, 0.25, 0.5, 1.25, 2.5, 4.0])
    poses = torch.zeros((len(offsets), 5))
    poses[:, 1] = 0.3 + offsets
    slices, _ = Scanner(Volumes.from_bodies([body])).scan(torch.zeros(6, dtype=torch.int64), poses)
    alike = np.corrcoef(slices.flatten(1).numpy())[0]
    assert (np.diff(alike[:-1]) < 0).all()
    # Measured with this and other seeds and phases: at least 0.94 at 0.25 mm, at most 0.05 at 4 mm.
    assert alike[1] > 0.9
    assert abs(alike[-1]) < 0.1


def test_echo_loss_and_speckle_are_coded_as_the_tables_say():
    labels = np.full(SHAPE, TISSUES["organ"].label, np.uint8)
    labels[:, :, 10] = TISSUES["bone"].label
    labels[:, :, 20] = TISSUES["outside"].label
    voxels = encode_voxels(labels, np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32))
    assert voxels[0, 0, 0].tolist() == [
        round(255 * (1 - 25 / 60)),
        5,
        round(255 * 25 / 35),
        TISSUES["organ"].label,
    ]
    assert voxels[0, 0, 10, 1] == 120
    assert voxels[0, 0, 20].tolist() == [0, 0, 0, 0]
    assert voxels[..., SPECKLE].max() == voxels[0, 0, 0, SPECKLE]
    np.testing.assert_array_equal(voxels[..., LABEL], labels)


def test_labels_of_tissues_are_their_places_in_the_tables():
    assert [tissue.label for tissue in TISSUES.values()] == list(range(len(TISSUES)))
    assert tissue_table("echo_db")[TISSUES["bone"].label] == TISSUES["bone"].echo_db
    assert find_tissue("bone") is TISSUES["bone"]
    with pytest.raises(UserError, match="unknown tissue 'leison'; did you mean 'lesion'"):
        find_tissue("leison")


def test_angles_and_rotations_are_inverses():
    rng = np.random.default_rng(0)
    poses = torch.from_numpy(rng.uniform(-1, 1, (200, 5)) * [50, 50, 3.1, 1.5, 1.5])
    axes = rotations(poses)
    torch.testing.assert_close(angles_of(axes), poses[:, 2:])
    torch.testing.assert_close(
        axes.transpose(1, 2) @ axes, torch.eye(3, dtype=torch.float64).expand(200, 3, 3)
    )
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(200, dtype=torch.float64))


def test_a_probe_at_rest_looks_down_and_turns_as_the_module_says():
    def axes_of(**angles):
        pose = [0.0, 0.0, *(angles.get(name, 0.0) for name in ("yaw", "tilt", "roll"))]
        return rotations(torch.tensor([pose]))[0]

    torch.testing.assert_close(axes_of(), torch.eye(3))
    quarter = torch.pi / 2
    torch.testing.assert_close(
        axes_of(yaw=quarter)[:, 0], torch.tensor([0.0, 1.0, 0.0])
    )  # lateral is along y
    torch.testing.assert_close(axes_of(yaw=quarter)[:, 2], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(axes_of(tilt=0.3)[:, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(
        axes_of(roll=0.3)[:, 1], torch.tensor([0.0, 1.0, 0.0])
    )  # stays within the slice


def test_distance_and_angle_of_poses_are_as_computed_by_hand():
    pose = torch.tensor([[1.0, 2.0, 0.2, 0.1, -0.1]])
    moved = pose + torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0]])
    assert distances_mm(pose, moved).item() == pytest.approx(5)
    assert angles_deg(pose, moved).item() == pytest.approx(0, abs=0.05)
    for degree in (2, 3, 4):
        rest, turned = torch.zeros((2, 1, 5), dtype=torch.float64)
        turned[0, degree] = 20 * DEGREES
        assert angles_deg(rest, turned).item() == pytest.approx(20)


@pytest.mark.parametrize(("name", "value"), [("structure", "lesion"), ("size", 64), ("labels", 0.5)])
def test_choices_of_images_are_refused_for_bodies(name, value):
    with pytest.raises(UserError, match=f"data.{name}: data set 'bodies' consists of volumes"):
        load_cases(DataRecipe(name="bodies", count=10, **{name: value}), "val")


def test_a_part_that_does_not_exist_is_refused_before_a_body_is_made():
    with pytest.raises(UserError, match="unknown split 'tests': did you mean 'test'"):
        load_cases(DataRecipe(name="bodies", count=MAX_BODIES), "tests")


def test_bodies_of_another_variety_count_as_the_same():
    first, second = DataRecipe(name="bodies"), DataRecipe(name="bodies", variety=0.5)
    assert has_same_images(first, second)
    assert not has_same_images(first, DataRecipe(name="bodies", seed=1))

import numpy as np
import pytest
import torch

from usrl.data.bodies import scanner as scanner_module
from usrl.data.bodies.dataset import make_body
from usrl.data.bodies.poses import DEGREES
from usrl.data.bodies.scanner import Scanner
from usrl.data.bodies.tissues import LOSS_STEP_DB, SOFT_LOSS_DB_MM, TISSUES
from usrl.data.bodies.volumes import SHAPE, SPACING_MM, Body, Volumes, encode_voxels

GRAY_PER_DB = 255 / 60
PIXEL_MM = 48 / 64
X_MM = (np.arange(SHAPE[1]) - 63.5) * SPACING_MM
Z_MM = (np.arange(SHAPE[2]) + 0.5) * SPACING_MM


def label(name):
    return TISSUES[name].label


@pytest.fixture(scope="module")
def volumes():
    return Volumes.from_bodies([make_body(0, index) for index in range(2)])


def paint(name=None, x=(-100, 100), z=(0, 100), base="organ"):
    """Return a body of one tissue without texture and speckle, and of another one between x and z, mm."""
    labels = np.full(SHAPE, label(base), np.uint8)
    if name is not None:
        inside = ((X_MM > x[0]) & (X_MM < x[1]))[:, None] & ((Z_MM > z[0]) & (Z_MM < z[1]))
        labels[:, inside] = label(name)
    voxels = encode_voxels(labels, np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32))
    return Volumes.from_bodies([Body(voxels, np.zeros(5, np.float32), "painted", "painted")])


def scan(volumes, pose=(0, 0, 0, 0, 0), squeeze=None, lit=None, **settings):
    """Return gray and labels, int (S, S), of the first body; angles are in degrees."""
    pose = torch.tensor([[*pose[:2], *(angle * DEGREES for angle in pose[2:])]], dtype=torch.float32)
    factors = [None if factor is None else torch.tensor([factor]) for factor in (squeeze, lit)]
    seen = Scanner(volumes, **settings).scan(torch.zeros(1, dtype=torch.int64), pose, *factors)
    return [part[0].numpy().astype(int) for part in seen]


@pytest.mark.parametrize("side", [64, 37])
@pytest.mark.parametrize("geometry", ["linear", "sector"])
@pytest.mark.parametrize("is_pressed", [False, True])
def test_compiled_loops_and_tensor_formulas_agree(volumes, monkeypatch, geometry, side, is_pressed):
    rng, count = np.random.default_rng(side), 12
    drawn = rng.uniform(-1, 1, (count, 5)) * [75, 75, 3.1, 0.78, 0.78]
    poses = torch.from_numpy(drawn.astype(np.float32))
    poses[:2] = volumes.standard
    force = [torch.linspace(1, 1.2, count), torch.linspace(0.1, 1, count)] if is_pressed else []
    scanner, body = Scanner(volumes, geometry=geometry, side=side), torch.arange(count) % 2
    seen = []
    for is_compiled in (True, False):
        monkeypatch.setattr(scanner_module, "is_compiled_for", lambda _, answer=is_compiled: answer)
        seen.append(scanner.scan(body, poses, *force))
    (gray, labels), (other_gray, other_labels) = seen
    assert gray.shape == labels.shape == (count, side, side)
    assert gray.dtype == labels.dtype == torch.uint8
    assert (gray.int() - other_gray.int()).abs().max() <= 1
    assert torch.equal(labels, other_labels)
    assert gray.float().std() > 20


def test_a_slice_has_its_tissues_where_they_are():
    # A pixel's middle is at 0.75 (row + 0.5) mm below the skin, and 0.75 (column - 31.5) mm to the side.
    _, labels = scan(paint("cyst", x=(-5, 10), z=(20, 30)))
    depth, across = (np.arange(64) + 0.5) * PIXEL_MM, (np.arange(64) - 31.5) * PIXEL_MM
    inside = ((depth > 20) & (depth < 30))[:, None] & ((across > -5) & (across < 10))
    np.testing.assert_array_equal(labels, np.where(inside, label("cyst"), label("organ")))
    _, moved = scan(paint("cyst", x=(-5, 10), z=(20, 30)), pose=(6, 0, 0, 0, 0))
    np.testing.assert_array_equal(moved[:, :-8], labels[:, 8:])
    _, larger = scan(paint("cyst", x=(-5, 10), z=(20, 30)), depth_mm=96.0, side=128)
    np.testing.assert_array_equal(larger[:64, 32:96], labels)


def test_the_gray_level_of_a_tissue_is_that_of_its_echo():
    gray, _ = scan(paint())
    # Organ, -25 dB, and speckle of mean power, with a gain of 7 dB on a range of 60 dB.
    assert np.abs(gray - (60 - 25 + 7) * GRAY_PER_DB).max() < 3  # codes are rounded
    assert np.ptp(gray, axis=1).max() == 0
    assert np.abs(gray[0] - gray[-1]).max() <= 1  # loss and gain of soft tissue cancel


def test_bone_casts_a_shadow():
    gray, labels = scan(paint("bone", x=(-8, 8), z=(15, 21)))
    columns = np.flatnonzero((labels == label("bone")).any(axis=0))[2:-2]
    assert gray[29:, columns].max() <= 1
    assert gray[:18, columns].min() > 100
    assert np.delete(gray, np.arange(columns[0] - 4, columns[-1] + 5), axis=1).min() > 100
    assert gray[20:22, columns].max() > 200  # and its surface is bright


def test_fluid_enhances_what_is_behind_it():
    gray, labels = scan(paint("cyst", x=(-8, 8), z=(15, 25)))
    columns = np.flatnonzero((labels == label("cyst")).any(axis=0))[2:-2]
    behind, beside = gray[36:, columns].mean(), gray[36:, :10].mean()
    gain = 10 * (SOFT_LOSS_DB_MM - round(TISSUES["cyst"].loss_db_mm / LOSS_STEP_DB) * LOSS_STEP_DB)
    assert behind - beside == pytest.approx(gain * GRAY_PER_DB, abs=2)
    assert behind > beside + 15


def test_nothing_is_seen_above_the_skin():
    gray, labels = scan(paint(), pose=(0, 0, 0, 0, 30))
    depth, across = (np.arange(64) + 0.5) * PIXEL_MM, (np.arange(64) - 31.5) * PIXEL_MM
    z = np.cos(30 * DEGREES) * depth[:, None] - np.sin(30 * DEGREES) * across
    assert (z < 0).any()
    np.testing.assert_array_equal(labels, np.where(z < 0, 0, label("organ")))
    assert not gray[z < 0].any()
    assert gray[z >= 0].min() > 100


def test_air_that_a_volume_holds_is_black():
    gray, labels = scan(paint("outside", x=(-8, 8), z=(15, 25)))
    inside = labels == 0
    assert inside.any()
    assert gray[22:32, 26:38].max() == 0


def test_a_probe_over_the_edge_sees_the_edge_go_on():
    gray, labels = scan(paint(), pose=(79, 79, 45, 45, 45))
    assert set(np.unique(labels)) <= {0, label("organ")}
    assert gray[labels > 0].min() > 100


def test_a_fascia_is_darker_when_the_beam_grazes_it():
    body = paint("fascia", z=(15, 25))
    levels = []
    for pose in ((0, 0, 0, 0, 0), (0, 0, 0, 0, 35), (0, 0, 0, 35, 0), (0, 0, 70, 20, -30)):
        gray, labels = scan(body, pose)
        levels.append(np.percentile(gray[labels == label("fascia")], 90))
    sines = [
        1 - (np.cos(tilt * DEGREES) * np.cos(roll * DEGREES)) ** 2
        for tilt, roll in ((0, 35), (35, 0), (20, 30))
    ]
    assert levels[0] > 240
    for level, sine in zip(levels[1:], sines, strict=True):
        assert levels[0] - level == pytest.approx(25 * sine * GRAY_PER_DB, abs=5)


@pytest.mark.parametrize("geometry", ["linear", "sector"])
def test_a_probe_that_is_turned_round_sees_the_mirrored_slice(volumes, geometry):
    for x, y, yaw, tilt, roll in ((3, -8, 20, 10, -15), (-20, 12, 100, -25, 5)):
        gray, labels = scan(volumes, (x, y, yaw, tilt, roll), geometry=geometry)
        turned, turned_labels = scan(volumes, (x, y, yaw + 180, -tilt, -roll), geometry=geometry)
        is_same = turned_labels[:, ::-1] == labels
        assert is_same.mean() > 0.998  # a voxel's border may fall to either side
        assert np.abs(turned[:, ::-1] - gray)[is_same].max() <= 2


def test_pressing_brings_what_is_deep_nearer():
    body = paint("cyst", z=(25, 35))
    rows = [np.flatnonzero(scan(body, squeeze=squeeze)[1][:, 32] == label("cyst")) for squeeze in (1.0, 1.2)]
    assert (rows[0][0], rows[0][-1] + 1) == (33, 47)  # 25 and 35 mm
    assert (rows[1][0], rows[1][-1] + 1) == (28, 39)  # 20.8 and 29.2 mm
    np.testing.assert_array_equal(scan(paint(), squeeze=1.0)[0], scan(paint())[0])


@pytest.mark.parametrize(("lit", "columns"), [(1.0, 64), (0.5, 32), (0.25, 16), (0.0, 0)])
def test_a_probe_that_is_held_lightly_sees_by_its_middle(lit, columns):
    gray, labels = scan(paint(), lit=lit)
    is_lit = np.abs(np.arange(64) - 31.5) < columns / 2
    assert (gray[:, is_lit] > 0).all()
    assert not gray[:, ~is_lit].any()
    assert not labels[:, ~is_lit].any()


def test_a_curved_probe_shows_a_sector():
    gray, labels = scan(paint(), geometry="sector")
    inside = gray > 0
    np.testing.assert_array_equal(inside, inside[:, ::-1])
    np.testing.assert_array_equal(inside, labels > 0)
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()  # its corners
    widths = inside.sum(axis=1)
    assert widths.max() == 64
    assert (np.diff(widths[: widths.argmax()]) >= 0).all()
    # The middle of its face touches the skin. From there the sector is as deep as the slice.
    radius, depth = 0.75 * 48, 48.0
    drop = radius * (1 - np.cos(30 * DEGREES))
    pixel = (depth + drop) / 64
    middle = np.flatnonzero(inside[:, 32])
    assert (middle[0] - 1) * pixel <= drop <= (middle[0] + 1) * pixel
    assert middle[-1] >= 62


def test_a_curved_probe_has_a_layer_at_equal_depth_along_its_middle():
    body = paint("cyst", z=(20, 30))
    _, labels = scan(body, geometry="sector")
    rows = np.flatnonzero(labels[:, 32] == label("cyst"))
    drop = 36 * (1 - np.cos(30 * DEGREES))
    pixel = (48 + drop) / 64
    assert (rows[0] * pixel - drop, (rows[-1] + 1) * pixel - drop) == pytest.approx((20, 30), abs=1.0)


def test_a_batch_sees_what_each_probe_sees_alone(volumes):
    poses = volumes.standard.repeat(3, 1) + torch.arange(6)[:, None] * 0.05
    body = torch.tensor([0, 1, 0, 1, 0, 1])
    scanner = Scanner(volumes)
    together = scanner.scan(body, poses)
    for row in range(6):
        alone = scanner.scan(body[row : row + 1], poses[row : row + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[row])

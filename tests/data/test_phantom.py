import hashlib

import numpy as np
import pytest
from sample_builders import load
from skimage.filters import threshold_otsu

from usrl.data.components import label_components
from usrl.data.phantom.anatomy import Draws
from usrl.data.phantom.dataset import load_phantom, make_phantom, write_phantom
from usrl.data.phantom.speckle import PointSpread, speckle
from usrl.errors import UserError
from usrl.metrics.overlap import dice

RAYLEIGH_SNR = np.sqrt(np.pi / (4 - np.pi))


def envelope(looks=1, amplitude=None):
    return speckle(np.random.default_rng(0), (600, 500), amplitude, looks=looks).astype(np.float64)


def test_fully_developed_speckle_has_the_rayleigh_signal_to_noise_ratio():
    echo = envelope()
    assert pytest.approx(1.91, abs=0.005) == RAYLEIGH_SNR
    assert echo.mean() / echo.std() == pytest.approx(1.91, rel=0.03)


@pytest.mark.parametrize("rows", [slice(0, 100), slice(250, 350), slice(500, 600)])
def test_speckle_is_rayleigh_with_unit_power_at_every_depth(rows):
    echo = envelope()[rows]
    assert echo.mean() / echo.std() == pytest.approx(1.91, rel=0.03)
    assert (echo**2).mean() == pytest.approx(1, rel=0.06)


def test_speckle_follows_the_rayleigh_distribution_at_its_quantiles():
    shares = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(np.quantile(envelope(), shares), np.sqrt(-np.log(1 - shares)), rtol=0.03)


def test_two_looks_halve_the_variance_of_speckle():
    echo = envelope(looks=2)
    assert echo.mean() / echo.std() == pytest.approx(1.91 * np.sqrt(2), rel=0.03)


def test_speckle_scales_with_the_scattering_amplitude():
    amplitude = np.ones((600, 500), np.float32)
    amplitude[:, 250:] = 0.1
    echo = envelope(amplitude=amplitude)
    assert echo[:, 260:490].mean() / echo[:, 10:240].mean() == pytest.approx(0.1, rel=0.03)


def test_speckle_is_wider_away_from_the_focus():
    spread = PointSpread(lateral_px=1.0, focus=0.0, divergence=4.0)
    echo = speckle(np.random.default_rng(0), (400, 400), spread=spread)

    def correlation(rows):
        return np.corrcoef(rows[:, :-3].ravel(), rows[:, 3:].ravel())[0, 1]

    assert correlation(echo[-40:]) > correlation(echo[:40]) + 0.3


def test_the_same_seed_and_index_give_the_same_bytes():
    one, other = make_phantom(3, 5), load_phantom(6, 3)[5]
    assert one.image.tobytes() == other.image.tobytes()
    assert one.target.tobytes() == other.target.tobytes()


def test_every_seed_and_index_give_another_image():
    images = [make_phantom(seed, index, (64, 64)).image for seed in range(3) for index in range(3)]
    assert len({hashlib.sha256(image.tobytes()).hexdigest() for image in images}) == 9


def test_a_phantom_carries_name_group_source_and_spacing():
    sample = make_phantom(0, 3)
    assert (sample.name, sample.group, sample.source) == ("phantom-0003", "phantom-0003", "phantom")
    assert sample.spacing_mm == (0.15, 0.15)
    assert sample.image.shape == (256, 256)


@pytest.mark.parametrize(
    ("shape", "count"), [((256, 256), 60), ((64, 64), 60), ((32, 32), 60), ((48, 160), 30)]
)
def test_every_phantom_has_exactly_one_lesion_clear_of_the_border(shape, count):
    for sample in [*load_phantom(count, 1, shape), *load_phantom(count // 2, 1, shape, variety=1.0)]:
        areas = label_components(sample.target)[1]
        assert sample.image.shape == shape
        assert len(areas) == 2
        assert areas[1] >= 4
        frame = sample.target.copy()
        frame[1:-1, 1:-1] = False
        assert not frame.any()


def test_a_phantom_uses_the_gray_scale_without_clipping_much():
    for sample in load_phantom(10):
        assert np.ptp(sample.image) > 200
        assert (sample.image == 255).mean() < 0.02


def test_most_lesions_are_darker_than_what_surrounds_them_and_a_threshold_does_not_find_them():
    samples = load_phantom(40)
    darker = [s.image[s.target].mean() < s.image[~s.target].mean() for s in samples]
    otsu = [dice(s.image < threshold_otsu(s.image), s.target) for s in samples]
    assert np.mean(darker) > 0.7
    assert np.mean(otsu) < 0.4


def test_a_written_phantom_is_read_back_as_it_was(tmp_path):
    paths = write_phantom(tmp_path / "out", 3, 7)
    loaded = load("folder", tmp_path / "out")
    assert [path.name for path in paths] == [f"phantom-000{i}.png" for i in range(3)]
    for got, wanted in zip(loaded, load_phantom(3, 7), strict=True):
        assert got.name == wanted.name
        np.testing.assert_array_equal(got.image, wanted.image)
        np.testing.assert_array_equal(got.target, wanted.target)


def test_a_folder_that_holds_anything_is_not_written_to(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds something; choose another --out"):
        write_phantom(tmp_path, 1)
    with pytest.raises(UserError, match="already holds something"):
        write_phantom(tmp_path / "notes.txt", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("seed", "index", "shape", "variety"),
    [
        (-1, 0, (64, 64), 0),
        (0, -1, (64, 64), 0),
        (0, 0, (64, 31), 0),
        (0, 0, (64, 64), 1.1),
        (0, 0, (64, 64), -0.1),
    ],
)
def test_arguments_out_of_range_are_refused(seed, index, shape, variety):
    with pytest.raises(UserError, match="seed >= 0, index >= 0, sides of at least 32 px and a variety"):
        make_phantom(seed, index, shape, variety)


def test_draws_are_uniform_over_a_range_between_the_usual_and_the_wide_one():
    plain, half = np.random.Generator(np.random.SFC64([3, 5])), Draws([3, 5], 0.5)
    assert Draws([3, 5]).within((2, 3), (0, 9)) == plain.uniform(2, 3)
    drawn = [half.within((2, 3), (0, 9)) for _ in range(2000)]
    assert min(drawn) == pytest.approx(1, abs=0.02)
    assert max(drawn) == pytest.approx(6, abs=0.02)


def test_variety_widens_what_images_look_like():
    usual, varied = (load_phantom(40, variety=variety) for variety in (0.0, 1.0))

    def spreads(samples):
        grain = [np.diff(s.image.astype(float)).std() / s.image.std() for s in samples]
        sizes = [np.log(s.target.mean()) for s in samples]
        inner = [s.image[s.target].std() for s in samples]
        return np.std([grain, sizes, inner, [s.image.mean() for s in samples]], axis=1)

    assert (spreads(varied) > 1.2 * spreads(usual)).all()


def test_a_dataset_of_no_images_is_refused():
    with pytest.raises(UserError, match="count must be at least 1, got 0"):
        load_phantom(0)

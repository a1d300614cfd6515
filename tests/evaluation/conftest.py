from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk

from usrl.classical import ProposalEllipse
from usrl.data.sample import Sample
from usrl.evaluation.report.overlay import overlay
from usrl.metrics.overlap import dice
from usrl.segmenter import Answer


def make_sample(index: int, *, has_lesion: bool = True, spacing_mm=None, name: str | None = None) -> Sample:
    rng = np.random.default_rng(index)
    target = np.zeros((48, 64), bool)
    if has_lesion:
        target[disk(rng.uniform((16, 24), (32, 40)), rng.uniform(6, 10), shape=target.shape)] = True
    image = np.where(target, 40, 140) + rng.integers(-20, 20, target.shape)
    name = name or f"case {index}"
    return Sample(image.astype(np.uint8), target, spacing_mm, name, f"patient {index // 2}", "toy")


class Darkness:
    """An automatic method that finds what is dark, and misses images that are told to it."""

    track = "automatic"

    def __init__(self, name: str = "darkness", misses: int = 0) -> None:
        self.name, self._misses = name, misses

    def segment(self, image, prompt):
        assert prompt is None, "the boxes are drawn from the target"
        self._misses -= 1
        return Answer(np.zeros(image.shape, bool) if self._misses >= 0 else image < 90)


class Doubter(Darkness):
    """A method that is the less sure of an image, the worse its mask is."""

    def __init__(self, targets) -> None:
        super().__init__("doubter")
        self._targets = targets

    def segment(self, image, prompt):
        mask = image < 90 - image[0, 0] // 3
        return Answer(mask, uncertainty=1 - dice(mask, self._targets[image.tobytes()]))


class ShrinkingAgent:
    """A prompted method that starts from the ellipse and peels it, knows its ceiling and has a film."""

    name = "agent"
    track = "prompted"

    def segment(self, image, prompt):
        start = ProposalEllipse().segment(image, prompt).mask
        return Answer(self.peel(image, start), proposal=start)

    def peel(self, image, start):
        return start & (ndimage.gaussian_filter(image.astype(float), 1) < 110)

    def reach(self, image, prompt, target, answer=None):
        assert answer is not None, "what was computed is handed on"
        return target.copy()

    def film(self, image, prompt, target, answer=None):
        assert answer is not None, "what was computed is handed on"
        return [overlay(image, {"pred": mask}) for mask in (answer.proposal, answer.mask)]


class TargetItself:
    """A ceiling that is no segmenter: it gives the target itself."""

    name = "target"
    track = "prompted"

    def reach(self, image, prompt, target, answer=None):
        return target.copy()


@pytest.fixture
def toy():
    """Tiny samples, and segmenters whose results can be foreseen."""
    return SimpleNamespace(
        make_sample=make_sample,
        Darkness=Darkness,
        Doubter=Doubter,
        TargetItself=TargetItself,
        ShrinkingAgent=ShrinkingAgent,
    )


@pytest.fixture
def samples():
    return [make_sample(index) for index in range(6)]


@pytest.fixture
def doubter(samples):
    return Doubter({sample.image.tobytes(): sample.target for sample in samples})


@pytest.fixture
def methods():
    return [ProposalEllipse(), ShrinkingAgent(), Darkness(misses=1)]

"""What a judge is shown of a candidate."""

import numpy as np
import pytest
import torch

from usrl.judging.candidates import Candidates
from usrl.judging.evidence import FACTS, gather_evidence
from usrl.judging.network import JudgeNetwork, expect

IMAGE = np.full((32, 64), 102, np.uint8)


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(IMAGE.shape, bool)
    mask[rows, columns] = True
    return mask


def test_views_show_the_candidate_and_the_whole_image() -> None:
    mask = block(slice(8, 24), slice(16, 32))
    views = gather_evidence(IMAGE, np.full(IMAGE.shape, 0.4, np.float32), Candidates([mask], 1), 64).views
    assert views.shape == (1, 2, 3, 64, 64)
    near, far = views[0]
    # The near view is the box with half of its side around it: the candidate fills its inner quarter.
    assert (near[2] > 127).float().mean() == pytest.approx(0.25, abs=0.02)
    assert (near[0, 32, 32], near[1, 32, 32]) == (102, 102)
    # The far view is the letterboxed image, whose upper quarter is padding.
    assert (far[0] > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert (far[2] > 127).float().mean() == pytest.approx(16 * 16 / 64**2, abs=0.01)


def test_facts_say_where_how_large_and_how_certain_a_candidate_is() -> None:
    raw, refined = block(slice(8, 24), slice(16, 32)), block(slice(8, 24), slice(24, 32))
    probability = np.zeros(IMAGE.shape, np.float32)
    probability[:, 16:24], probability[:, 24:32] = 0.4, 0.8
    facts = gather_evidence(IMAGE, probability, Candidates([raw, refined], own=1, refined=1), 64).facts
    size, y, x, gray, total = np.sqrt(1 / 8), 16 / 32, 24 / 64, 0.4, 32 * 8 * 1.2
    wanted = [size, y, x, gray, 0.6, 0.8, 0.5, 16 * 16 * 0.6 / total, 1, 0, 0.5]
    np.testing.assert_allclose(facts[0], wanted, rtol=1e-5)
    wanted = [np.sqrt(1 / 16), y, 28 / 64, gray, 0.8, 0.8, 1, 8 * 16 * 0.8 / total, 0, 1, 0.5]
    np.testing.assert_allclose(facts[1], wanted, rtol=1e-5)


def test_without_a_refiner_a_candidate_is_its_own_counterpart() -> None:
    candidates = Candidates([block(slice(8, 24), slice(16, 32))], own=1)
    facts = gather_evidence(IMAGE, np.zeros(IMAGE.shape, np.float32), candidates, 64).facts
    assert (candidates.counterpart(0), facts[0, -1], facts[0, -2]) == (None, 1, 0)


def test_a_candidate_that_refinement_left_empty_has_facts_of_zero() -> None:
    candidates = Candidates([block(slice(8, 24), slice(16, 32)), np.zeros(IMAGE.shape, bool)], 1, 1)
    evidence = gather_evidence(IMAGE, np.zeros(IMAGE.shape, np.float32), candidates, 64)
    assert not evidence.facts[1].any()
    assert evidence.facts[0, -1] == 0


def test_mirrored_evidence_is_that_of_the_mirrored_image() -> None:
    rng = np.random.default_rng(0)
    image, probability = rng.integers(0, 255, (64, 64), np.uint8), rng.random((64, 64), np.float32)
    mask, empty = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    mask[8:24, 16:40], mask[24:30, 16:20] = True, True
    evidence = gather_evidence(image, probability, Candidates([mask, empty], 1, 1), 64)
    flipped = Candidates([mask[:, ::-1].copy(), empty], 1, 1)
    wanted = gather_evidence(image[:, ::-1].copy(), probability[:, ::-1].copy(), flipped, 64)
    mirrored = evidence.mirror(torch.tensor([True, True]))
    torch.testing.assert_close(mirrored.facts, wanted.facts)
    assert (mirrored.views.int() - wanted.views.int()).abs().max() <= 1
    kept = evidence.mirror(torch.tensor([False, True]))
    assert torch.equal(kept.views[0], evidence.views[0])
    assert torch.equal(kept.facts, evidence.facts)


def test_an_expectation_depends_on_the_facts() -> None:
    torch.manual_seed(0)  # some weights answer to nothing: all units of the last layer may be off
    network = JudgeNetwork([4, 4], 0.0)
    evidence = gather_evidence(
        IMAGE, np.zeros(IMAGE.shape, np.float32), Candidates([block(slice(8, 24), slice(16, 32))], 1), 64
    )
    once = expect(network, evidence, torch.device("cpu"))
    evidence.facts[:] = 5
    assert expect(network, evidence, torch.device("cpu")) != once


def test_no_candidate_gives_no_evidence_and_no_expectation() -> None:
    evidence = gather_evidence(IMAGE, np.zeros(IMAGE.shape, np.float32), Candidates([], 0), 64)
    assert (len(evidence), evidence.facts.shape) == (0, (0, FACTS))
    assert expect(JudgeNetwork([4, 4], 0.0), evidence, torch.device("cpu")).shape == (0,)

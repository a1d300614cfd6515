"""Simulated lung clips."""

import numpy as np
import pytest

from usrl.data.catalogue import check_dataset, kind_of, list_parts, load_cases
from usrl.data.clips.lung import MAX_FRAMES, MIN_FRAMES, find_informative, make_lung
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError

CLIPS = [make_lung(0, index) for index in range(12)]


def test_equal_seeds_give_equal_bytes_and_other_ones_do_not() -> None:
    again = make_lung(0, 3)
    assert np.array_equal(again.frames, CLIPS[3].frames)
    assert np.array_equal(again.informative, CLIPS[3].informative)
    assert (
        make_lung(1, 3).frames.shape != again.frames.shape or (make_lung(1, 3).frames != again.frames).any()
    )
    assert (make_lung(0, 3, variety=1.0).labels["severity"]) == again.labels["severity"]


def test_clips_have_the_promised_lengths_and_labels() -> None:
    for clip in CLIPS:
        assert MIN_FRAMES <= len(clip.frames) <= MAX_FRAMES
        assert clip.frames.shape[1:] == (128, 128)
        assert set(clip.labels) == {"severity", "a_lines", "b_lines"}
        assert clip.source == f"lung/severity {clip.labels['severity']}"
    normal = [clip for clip in CLIPS if clip.labels["severity"] == 0]
    assert normal
    assert all(clip.labels["a_lines"] and not clip.labels["b_lines"] for clip in normal)
    assert all(clip.labels["b_lines"] for clip in CLIPS if clip.labels["severity"] in (1, 3))


def test_every_clip_has_frames_to_keep_and_more_to_leave_out() -> None:
    shares = [clip.informative.mean() for clip in CLIPS]
    assert min(shares) > 0
    assert max(shares) < 0.5
    runs = [np.diff(np.r_[0, clip.informative.astype(int)]).clip(0).sum() for clip in CLIPS]
    assert np.mean(runs) > 2  # findings come at different times


def test_informative_frames_show_some_finding_nearly_as_well_as_its_best_frame() -> None:
    quality = np.array([[0.0, 0.5, 1.0, 0.86, 0.84], [0.6, 0.0, 0.0, 0.0, 0.0], [0.0, 0.4, 0.0, 0.0, 0.0]])
    # The third finding is never seen half as well as the best one, so that it does not count.
    assert find_informative(quality.astype(np.float32)).tolist() == [True, False, True, True, False]


def test_neighbouring_frames_are_near_duplicates_and_distant_ones_are_not() -> None:
    def change(step: int) -> float:
        parts = [np.abs(c.frames[step:].astype(float) - c.frames[:-step]).mean() for c in CLIPS]
        return float(np.mean(parts))

    assert change(1) < 0.6 * change(30)


def test_b_lines_brighten_the_depth_that_normal_lung_leaves_dark() -> None:
    def deep(severity: int) -> float:
        return float(
            np.mean(
                [c.frames[c.informative][:, 100:].mean() for c in CLIPS if c.labels["severity"] == severity]
            )
        )

    assert deep(2) > 1.2 * deep(0)


def test_the_catalogue_knows_lung_before_a_clip_is_made() -> None:
    data = DataRecipe(name="lung", count=12, size=32)
    assert kind_of("lung") == "clips"
    parts = list_parts(data)
    cases = load_cases(data, "test")
    assert list(cases.names) == parts["test"]
    assert cases.frames.shape[1:] == (32, 32)
    assert cases.informative is not None
    assert cases.labels[0].keys() == {"severity", "a_lines", "b_lines"}
    assert sum(map(len, parts.values())) == 12


def test_what_a_recipe_says_about_images_only_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.labels: data set 'lung' consists of clips, which have none"):
        load_cases(DataRecipe(name="lung", count=12, labels=0.5), "test")
    with pytest.raises(UserError, match="lung' is simulated and reads no folder"):
        check_dataset(DataRecipe(name="lung", root="/tmp"))
    with pytest.raises(UserError, match="at most 1024 are allowed, got 3000"):
        load_cases(DataRecipe(name="lung", count=3000), "test")
    with pytest.raises(UserError, match="variety from 0 to 1, got seed 0, index 0 and variety 2"):
        make_lung(0, 0, 2)


def test_the_check_counts_clips_by_severity_and_frames() -> None:
    report = check_dataset(DataRecipe(name="lung", count=8))
    assert sum(report.counts.values()) == 8
    assert report.unit == "clips"
    assert report.is_sound
    assert "informative frames" in report.facts


def test_masks_show_findings_where_the_beam_reaches_them_and_nothing_in_normal_lung() -> None:
    for clip in CLIPS:
        assert clip.masks.any() == (clip.labels["severity"] > 0)
    ill = [clip for clip in CLIPS if clip.labels["severity"]]
    shares = [clip.masks[clip.informative].any(axis=(1, 2)).mean() for clip in ill]
    assert min(shares) == 1  # an informative frame shows a finding
    inside = np.mean([clip.frames[clip.masks].mean() for clip in ill])
    below = np.mean([clip.frames[:, 60:][~clip.masks[:, 60:]].mean() for clip in ill])
    assert inside > 1.5 * below
    assert not any(clip.masks[:, :20].any() for clip in ill)  # above the pleural line

"""Data sets of clips on disk: COVID-BLUES and a user's own folder."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_builders import moving_bar, write_video

from usrl.data.catalogue import check_dataset, list_parts, load_cases, resolve_root
from usrl.data.clips.folder import write_clips
from usrl.data.clips.lung import make_lung
from usrl.data.clips.sweeps import make_sweep
from usrl.data.recipe import DataRecipe
from usrl.errors import UserError

FRAMES = moving_bar(6)


def data(root: Path, name: str = "clips", **fields: object) -> DataRecipe:
    return DataRecipe(name=name, root=str(root), size=24, **fields)  # type: ignore[arg-type]


def write_masks(root: Path, names: str = "abc") -> None:
    for name in names:
        (root / "masks" / name).mkdir(parents=True)
        for number, frame in enumerate(FRAMES):
            cv2.imwrite(str(root / "masks" / name / f"{number}.png"), 255 * (frame > 100).astype(np.uint8))


def test_covid_blues_has_labels_patients_and_a_note_of_what_is_absent(covid_root: Path) -> None:
    recipe = data(covid_root, "covid-blues")
    report = check_dataset(recipe)
    assert report.is_sound
    assert report.counts == {f"covid-blues/severity {number}": 1 for number in range(4)}
    assert report.groups == 3
    assert report.facts["clips in severity.csv that are not there"] == 1
    assert any("1 of the 5 clips in severity.csv are not in lus_videos/" in note for note in report.notes)
    cases = load_cases(recipe, "all")
    assert cases.names[:2] == ("patient_1_L1", "patient_1_R2_2")
    assert cases.groups == ("patient_1", "patient_1", "patient_22", "patient_7")
    assert cases.labels[0] == {"severity": 2, "a_lines": 0, "b_lines": 1}
    assert cases.labels[2] == {"severity": 3, "a_lines": 0, "b_lines": 1}
    assert cases.lengths.tolist() == [6] * 4


def test_a_folder_may_be_spelt_with_underscores(covid_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USRL_DATA", str(covid_root.parent))
    assert len(load_cases(DataRecipe(name="covid-blues", size=16), "all")) == 4
    assert resolve_root(DataRecipe(name="covid-blues")) == Path(os.path.realpath(covid_root))


def test_damage_of_covid_blues_is_named(covid_root: Path) -> None:
    recipe = data(covid_root, "covid-blues")
    table = covid_root / "severity.csv"
    text = table.read_text()
    table.write_text(text.replace("2.0", "5.0"))
    with pytest.raises(
        UserError, match=r"severity\.csv: line 2 must give a new clip .* severity from 0 to 3"
    ):
        load_cases(recipe, "all")
    table.write_text("\n".join(text.splitlines()[:-2]) + "\n")
    assert any(
        "patient_7_R1.mp4: has no row in severity.csv" in fault for fault in check_dataset(recipe).faults
    )
    table.write_text(text)
    video = covid_root / "lus_videos" / "patient_1_L1.mp4"
    video.write_bytes(video.read_bytes()[:500])
    faults = check_dataset(recipe).faults
    assert len(faults) == 1
    assert "patient_1_L1.mp4: holds no pictures" in faults[0]
    with pytest.raises(UserError, match=r"patient_1_L1\.mp4"):
        load_cases(recipe, "all")
    shutil.rmtree(covid_root / "lus_videos")
    with pytest.raises(UserError, match="no COVID-BLUES found"):
        load_cases(recipe, "all")


def test_a_folder_of_clips_of_every_kind_loads(clips_root: Path) -> None:
    cases = load_cases(data(clips_root), "all")
    assert cases.names == ("a", "b", "c")
    assert cases.groups[::2] == ("a", "c")
    assert cases.groups[1].startswith("patient-")
    assert cases.masks is None
    assert cases.informative is None
    assert check_dataset(data(clips_root)).facts["frames"] == 18
    plain = load_cases(data(clips_root / "clips"), "all")  # the clips themselves
    assert plain.names == cases.names


def test_tables_bring_groups_labels_and_frames_to_keep(clips_root: Path) -> None:
    (clips_root / "groups.csv").write_text("name,group\na,p1\nb,p1\nc,p2\n")
    (clips_root / "labels.csv").write_text("name;severity;b_lines\na;2;1\nb;0;0\nc;3;1\n")
    (clips_root / "informative.csv").write_text("name,frame\na,0\na,5\nb,2\nc,1\n")
    cases = load_cases(data(clips_root), "all")
    assert cases.groups == ("p1", "p1", "p2")
    assert cases.labels == (
        {"severity": 2, "b_lines": 1},
        {"severity": 0, "b_lines": 0},
        {"severity": 3, "b_lines": 1},
    )
    assert cases.informative is not None
    assert cases.informative.nonzero().flatten().tolist() == [0, 5, 8, 13]


def test_masks_are_letterboxed_with_their_frames(clips_root: Path) -> None:
    write_masks(clips_root)
    cases = load_cases(data(clips_root), "all")
    assert cases.masks is not None
    # 8 of 40 rows are bright, which is 4 of the 20 rows that the image covers of 24.
    assert cases.masks[:6].sum(dim=(1, 2)).tolist() == [4 * 24] * 6
    assert bool((cases.frames[:6][cases.masks[:6]] > 100).all())


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("groups.csv", "name,group\na,p1\n", "must name every clip once"),
        ("labels.csv", "name,severity\na,2\nb,x\nc,1\n", "line 3 must give a new name and whole numbers"),
        ("labels.csv", "clip,severity\na,2\n", "line 1 must be name and then a title"),
        ("labels.csv", "name,severity\na,2\n", "must name every clip and nothing else; see b, c"),
        (
            "informative.csv",
            "name,frame\na,0\nb,0\nc,-1\n",
            "line 4 must give the name of a clip and the number",
        ),
        ("informative.csv", "name,frame\na,0\nb,0\nc,6\n", "has frames 0 to 5, and frame 6 is said"),
    ],
)
def test_a_wrong_table_is_a_fault_that_names_it(clips_root: Path, name: str, text: str, told: str) -> None:
    (clips_root / name).write_text(text)
    report = check_dataset(data(clips_root))
    assert len(report.faults) == 1
    assert told in report.faults[0]
    with pytest.raises(UserError, match=told):
        load_cases(data(clips_root), "all")


def test_masks_that_do_not_fit_are_faults(clips_root: Path) -> None:
    write_masks(clips_root, "ab")
    with pytest.raises(UserError, match="must hold a folder of masks for every clip and nothing else; see c"):
        load_cases(data(clips_root), "all")
    write_masks(clips_root, "c")
    (clips_root / "masks" / "a" / "5.png").unlink()
    for number in range(6):
        cv2.imwrite(str(clips_root / "masks" / "b" / f"{number}.png"), np.zeros((10, 10), np.uint8))
    faults = check_dataset(data(clips_root)).faults
    assert any("holds 5 masks, and a.mp4 has 6 frames" in fault for fault in faults)
    assert any(r"masks are of shape (10, 10) and frames of (40, 48)" in fault for fault in faults)


def test_a_name_that_occurs_twice_is_a_fault(clips_root: Path) -> None:
    write_video(clips_root / "clips" / "a.avi", FRAMES, codec="MJPG")
    assert any("the name 'a' occurs twice" in fault for fault in check_dataset(data(clips_root)).faults)
    with pytest.raises(UserError, match="holds no clips"):
        check_dataset(data(clips_root / "masks" / ".." / "clips" / "c"))


@pytest.mark.realdata
def test_real_covid_blues_is_sound_and_its_patients_are_never_divided(real_covid_blues: Path) -> None:
    recipe = DataRecipe(name="covid-blues", root=str(real_covid_blues), size=32)
    report = check_dataset(recipe)
    assert report.is_sound
    assert sum(report.counts.values()) >= 100
    parts = list_parts(recipe)
    patients = {part: {name.rsplit("_", 1)[0] for name in names} for part, names in parts.items()}
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    cases = load_cases(recipe, "val")
    assert {label["severity"] for label in cases.labels} <= {0, 1, 2, 3}
    assert int(cases.lengths.min()) >= 2


def test_written_clips_load_again_with_all_that_is_known(tmp_path: Path) -> None:
    write_clips([make_lung(0, index) for index in range(2)], tmp_path / "lungs")
    cases = load_cases(data(tmp_path / "lungs"), "all")
    assert cases.labels == tuple(make_lung(0, index).labels for index in range(2))
    assert cases.informative is not None
    assert np.array_equal(cases.informative[: int(cases.lengths[0])], make_lung(0, 0).informative)
    paths = write_clips([make_sweep(0, 0)], tmp_path / "sweeps")
    assert [path.name for path in paths] == ["sweep-0000.mp4"]
    whole = load_cases(DataRecipe(name="clips", root=str(tmp_path / "sweeps"), size=64), "all")
    assert np.array_equal(whole.masks, make_sweep(0, 0).masks)
    assert whole.groups == ("body-0000",)

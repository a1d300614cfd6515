import os
from pathlib import Path

import numpy as np
import pytest
from clip_builders import moving_bar, write_dicom, write_video
from nifti_builders import ellipsoid, write_nifti
from sample_builders import disk, draw_ellipse, noise, write, write_classes


@pytest.fixture
def busi_root(tmp_path):
    """A tiny copy of BUSI: masks in 1-bit, RGB and RGBA, two lesions in one image, an exact duplicate."""
    folder = tmp_path / "busi" / "Dataset_BUSI_with_GT"
    lesion = disk().astype(np.uint8) * 255
    other = disk(centre=(6, 6), radius=3).astype(np.uint8) * 255
    for index in (1, 2, 10):
        write(folder / "benign" / f"benign ({index}).png", noise(index), "RGB")
    write(folder / "benign" / "benign (1)_mask.png", lesion, "1")
    write(folder / "benign" / "benign (1)_mask_1.png", other, "RGB")
    write(folder / "benign" / "benign (2)_mask.png", lesion, "RGB")
    speck = lesion.copy()
    speck[0, 0] = speck[39, 49] = 255
    write(folder / "benign" / "benign (10)_mask.png", speck, "1")
    write(folder / "malignant" / "malignant (1).png", noise(2), "RGB")
    opaque = np.dstack([lesion, lesion, lesion, np.full_like(lesion, 255)])
    write(folder / "malignant" / "malignant (1)_mask.png", opaque)
    write(folder / "normal" / "normal (1).png", noise(5), "RGB")
    write(folder / "normal" / "normal (1)_mask.png", lesion * 0, "1")
    return tmp_path / "busi"


@pytest.fixture
def folder_root(tmp_path):
    """Three images of different formats with masks."""
    root = tmp_path / "folder"
    for name in ("a", "b", "c"):
        write(root / "images" / f"{name}.png", noise(ord(name)))
        write(root / "masks" / f"{name}.png", disk().astype(np.uint8) * 255)
    return root


@pytest.fixture
def hc18_root(tmp_path):
    """A tiny copy of HC18: two images of one exam, and a head that the border cuts."""
    root = tmp_path / "hc18"
    rows = ["filename,pixel size(mm),head circumference (mm)"]
    for name, centre, semi_axes, pixel in (
        ("010_HC", (80, 60), (50, 35), 0.1),
        ("010_2HC", (75, 62), (45, 40), 0.2),
        ("011_HC", (30, 60), (50, 35), 0.1),
    ):
        outline, circumference = draw_ellipse(centre, semi_axes, degrees=30)
        write(root / "training_set" / f"{name}.png", noise(len(rows), outline.shape))
        write(root / "training_set" / f"{name}_Annotation.png", outline.astype(np.uint8) * 255)
        rows.append(f"{name}.png,{pixel},{circumference * pixel:.2f}")
    (root / "training_set_pixel_size_and_HC.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def usgra_root(tmp_path):
    """A tiny copy of USGRA: touching structures, a speck, no vessel, and a frame that is there twice."""
    folder = tmp_path / "usgra" / "dataset"
    classes = np.zeros((40, 50), np.uint8)
    classes[disk(centre=(20, 30))] = 2
    classes[10:30, 12:22] = 1
    write(folder / "images" / "0000.png", noise(0), "RGB")
    write_classes(folder / "masks" / "0000.png", classes)
    alone = np.where(classes == 1, classes, 0)
    alone[0, 0] = 1
    write(folder / "images" / "0001.png", noise(1))
    write_classes(folder / "masks" / "0001.png", alone)
    margins = ((0, 30), (20, 5))
    write(folder / "images" / "0003.png", np.pad(noise(0) // 2 + 20, margins))
    write_classes(folder / "masks" / "0003.png", np.pad(classes, margins))
    return tmp_path / "usgra"


@pytest.fixture
def volumes_root(tmp_path):
    """Three small volumes with one target each, in canonical axes and with the skin in front."""
    root = tmp_path / "mine"
    for index, name in enumerate("abc"):
        labels = np.full((50, 40, 30), 1, np.uint8)
        labels[ellipsoid(labels.shape, (25, 20, 15), (9, 4, 3 + index), 1.5)] = 2
        write_nifti(root / "labels" / f"{name}.nii.gz", labels, 1.5)
    (root / "tissues.yaml").write_text("tissues:\n  1: organ\n  2: lesion\n")
    return root


@pytest.fixture
def covid_root(tmp_path):
    """A tiny copy of COVID-BLUES: three patients, labels with a space, and a clip that is absent."""
    root, frames = tmp_path / "covid_blues", moving_bar(6)
    rows = ["video_file,Severity Score,A-lines,B-lines,comments"]
    for name, severity, a_lines, b_lines in (
        ("patient_1_L1", "2.0", "no", "yes "),
        ("patient_1_R2_2", "0.0", "yes", "no"),
        ("patient_22_L1", "3.0", "no ", "yes"),
        ("patient_7_R1", "1.0", "yes", "yes"),
        ("patient_9_R1", "1.0", "yes", "yes"),
    ):
        rows.append(f'{name},{severity},{a_lines},{b_lines},"pleura, broken"')
        if name != "patient_9_R1":
            write_video(root / "lus_videos" / f"{name}.mp4", np.roll(frames, 8 * len(rows), axis=1), fps=25)
    (root / "severity.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def clips_root(tmp_path):
    """Three clips: a video, DICOM, and a folder of images."""
    root, frames = tmp_path / "own", moving_bar(6)
    write_video(root / "clips" / "a.mp4", frames)
    write_dicom(root / "clips" / "b.dcm", np.roll(frames, 9, axis=1), PatientID="7", FrameTime="40")
    for number, frame in enumerate(np.roll(frames, 20, axis=1)):
        write(root / "clips" / "c" / f"{number}.png", frame)
    return root


@pytest.fixture(scope="session")
def real_covid_blues():
    """The folder of a real copy of COVID-BLUES."""
    return _find_real("covid_blues")


@pytest.fixture(scope="session")
def real_busi():
    """The folder of a real copy of BUSI."""
    return _find_real("busi")


@pytest.fixture(scope="session")
def real_hc18():
    """The folder of a real copy of HC18."""
    return _find_real("hc18")


@pytest.fixture(scope="session")
def real_usgra():
    """The folder of a real copy of USGRA."""
    return _find_real("usgra")


@pytest.fixture(scope="session")
def real_ddti():
    """The folder of a real copy of DDTI."""
    return _find_real("ddti")


def _find_real(name):
    default = Path(__file__).parents[3] / "shared" / "data"
    root = Path(os.environ.get("USRL_DATA") or default) / name
    if not root.is_dir():
        pytest.skip(f"nothing at {root}; set USRL_DATA to the folder that holds {name}/")
    return root

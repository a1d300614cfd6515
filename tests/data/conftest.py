import os
from pathlib import Path

import numpy as np
import pytest
from sample_builders import disk, noise, write


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


@pytest.fixture(scope="session")
def real_busi():
    """The folder of a real copy of BUSI."""
    default = Path(__file__).parents[3] / "shared" / "data"
    root = Path(os.environ.get("USRL_DATA") or default) / "busi"
    if not root.is_dir():
        pytest.skip(f"no BUSI at {root}; set USRL_DATA to the folder that holds busi/")
    return root

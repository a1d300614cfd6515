"""Tiny copies of public data sets, in their published layouts."""

import itertools
import json

import nibabel
import numpy as np
from sample_builders import disk, noise, write

SHAPE = (90, 140)
SQUARE = [(20, 10), (40, 10), (40, 30), (20, 30)]
OTHER = [(80, 50), (110, 50), (110, 70), (80, 70)]


def region(points, kind="freehand"):
    """Return a region of a mark of DDTI."""
    return {"points": [{"x": x, "y": y} for x, y in points], "annotation": {}, "regionType": kind}


def write_case(root, case, marks, tirads=""):
    """Write a case of DDTI: a mark for each image, and the images."""
    root.mkdir(parents=True, exist_ok=True)
    texts = {number: mark if isinstance(mark, str) else json.dumps(mark) for number, mark in marks.items()}
    lines = "".join(
        f"<mark><image>{number}</image><svg>{text}</svg></mark>" for number, text in texts.items()
    )
    (root / f"{case}.xml").write_text(
        f"<case><number>{case}</number><age></age><tirads>{tirads}</tirads>{lines}</case>"
    )
    for number in marks:
        write(root / f"{case}_{number}.jpg", noise(1000 * case + number, SHAPE), "RGB")


def make_ddti(root):
    """Write three cases: two images of one, two regions in an image, the same region twice."""
    write_case(root, 2, {1: [region(SQUARE)], 2: [region(SQUARE), region(OTHER)]}, "4a")
    write_case(root, 10, {1: [region(OTHER)]}, "2")
    write_case(root, 11, {1: [region(SQUARE), region(SQUARE)]})
    return root


def make_bus_bra(root):
    """Write three images of two patients, with both tables."""
    folder = root / "BUSBRA"
    rows = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    folds = ["ID,Pathology,kFold,valid_1,valid_2"]
    for number, (name, case, pathology, birads, fold) in enumerate(
        [
            ("0001-l", 1, "malignant", 4, 2),
            ("0001-r", 1, "malignant", 4, 2),
            ("0002-l", 2, "benign", 2, 1),
        ]
    ):
        write(folder / "Images" / f"bus_{name}.png", noise(number, (40, 50)))
        write(folder / "Masks" / f"mask_{name}.png", disk().astype(np.uint8) * 255, "1")
        box = '"[17,12,17,17]"'
        rows.append(f"bus_{name},{case},cyst,{pathology},{birads},GE Logiq 7,50,40,left,{box}")
        folds.append(f"bus_{name},{pathology},{fold},1.0,")
    (folder / "bus_data.csv").write_text("\n".join(rows) + "\n")
    (folder / "5-fold-cv.csv").write_text("\n".join(folds) + "\n")
    return root


def make_stu(root):
    """Write two images in both folders; one mask has half the size of its image."""
    write(root / "Hospital" / "Test_Image_4.png", noise(4, (40, 50)), "RGB")
    write(root / "Hospital" / "mask_4.png", disk().astype(np.uint8) * 255)
    write(root / "demo" / "Test_Image_10.png", noise(10, (80, 100)), "RGB")
    write(root / "Hospital" / "mask_10.png", disk().astype(np.uint8) * 255)
    return root


def make_us_simulation(root):
    """Write two simulated images of a volume and one of another, and two real ones, one annotated."""
    folder = root / "abdominal_US" / "abdominal_US"
    colours = np.zeros((40, 50, 3), np.uint8)
    colours[5:15, 5:20] = (100, 0, 100)
    colours[20:30, 10:40] = (255, 255, 0)
    for part, name in (("train", "ct1-1"), ("train", "ct1-2"), ("test", "ct2-1")):
        write(folder / "AUS" / "images" / part / f"{name}.png", noise(int(name[2]) * 10 + int(name[4])))
        write(folder / "AUS" / "annotations" / part / f"{name}.png", colours)
    for name, seed in (("real1", 77), ("real2", 78)):
        write(folder / "RUS" / "images" / "test" / f"{name}.jpg", noise(seed), "RGB")
    tinted = colours.copy()
    tinted[colours.sum(axis=-1) == 0] = (10, 0, 10)
    tinted[4, 5:20] = (60, 0, 60)  # a smoothed outline
    write(folder / "RUS" / "annotations" / "test" / "real1.png", tinted)
    return root


def make_mus_v(root):
    """Write two videos of two frames each; a frame without annotation is in none."""
    classes = np.zeros((40, 50), np.uint8)
    classes[5:15, 5:20], classes[20:30, 10:40] = 1, 2
    for part, video in (("train", "a_clip"), ("valid", "b_clip")):
        for frame in (1, 2):
            seed = ord(video[0]) + frame
            write(root / "Videos" / part / video / f"{video}_{frame:03d}.png", noise(seed), "RGB")
            write(root / "Annotations" / video / f"{video}_{frame:03d}.png", classes)
    (root / "Forces").mkdir()
    return root


def make_cva_net(root):
    """Write a video of 20 frames and one of 2, whose second box is drawn to the left."""
    folder = root / "Miccai 2022 BUV Dataset"
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    lists = {
        "imagenet_vid_train_15frames.json": [("benign/va", 20, [[10, 5, 20, 15]])],
        "imagenet_vid_val.json": [("malignant/vb", 2, [[30, 5, -20, 15], [0, 0, 0, 4]])],
    }
    for name, videos in lists.items():
        images, notes = [], []
        for video, count, boxes in videos:
            for frame in range(count):
                path = f"{video}/{frame:06d}.png"
                write(folder / "rawframes" / path, noise(100 * len(video) + frame), "RGB")
                images.append({"id": len(images) + 1, "file_name": path, "height": 40, "width": 50})
                for box in boxes:
                    kind = 1 if video.startswith("benign") else 2
                    notes.append(
                        {"id": len(notes), "image_id": len(images), "category_id": kind, "bbox": box}
                    )
        tree = {"images": images, "annotations": notes, "categories": categories}
        (folder / name).write_text(json.dumps(tree))
    return root


def make_camus(root):
    """Write two patients, with both views and instants; rows and columns have different sizes."""
    for patient in ("patient0001", "patient0002"):
        folder = root / "database_nifti" / patient
        folder.mkdir(parents=True)
        for place, (view, instant) in enumerate(itertools.product(("2CH", "4CH"), ("ED", "ES"))):
            name = folder / f"{patient}_{view}_{instant}"
            write_plane(name.with_name(f"{name.name}.nii.gz"), noise(place + ord(patient[-1])))
            classes = np.zeros((40, 50), np.uint8)
            classes[5:15, 5:20], classes[15:20, 5:20], classes[22:30, 5:20] = 1, 2, 3
            write_plane(name.with_name(f"{name.name}_gt.nii.gz"), classes)
        (folder / "Info_2CH.cfg").write_text("ED: 1\nES: 12\nImageQuality: Good\n")
        (folder / "Info_4CH.cfg").write_text("ED: 1\nES: 12\nImageQuality: Poor\n")
    return root


def write_plane(path, values, spacing=(0.3, 0.15)):
    """Write an image, (H, W), as NIfTI with axes x and y; the (row, column) pixel size is in mm."""
    image = nibabel.Nifti1Image(values.T, np.diag([spacing[1], spacing[0], 1.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


PUBLIC = {
    "ddti": make_ddti,
    "bus-bra": make_bus_bra,
    "stu": make_stu,
    "us-simulation": make_us_simulation,
    "mus-v": make_mus_v,
    "cva-net": make_cva_net,
    "camus": make_camus,
}
"""How to write each, by its name."""

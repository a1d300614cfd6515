import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from sample_builders import load, noise, write

from usrl.data.catalogue import load_split
from usrl.data.importing.coco import _decompress
from usrl.data.importing.folder import import_annotations
from usrl.data.importing.shapes import draw_ellipse, fill_polygon, fill_runs
from usrl.errors import UserError

SHAPE = (40, 50)
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]  # columns 10 to 29, rows 5 to 24
INSIDE = np.zeros(SHAPE, bool)
INSIDE[5:25, 10:30] = True


@pytest.fixture
def images(tmp_path):
    for name in ("p1/a.png", "p1/b.png", "c.png"):
        write(tmp_path / "images" / name, noise(len(name), SHAPE))
    return tmp_path / "images"


def flat(points):
    return [side for point in points for side in point]


def coco(**changes):
    """Return COCO annotations: a polygon in a, run lengths in b, nothing in c."""
    runs = {"size": [40, 50], "counts": as_runs(INSIDE)}
    text = {"size": [40, 50], "counts": compress(as_runs(INSIDE))}
    tree = {
        "images": [
            {"id": 1, "file_name": "p1/a.png", "width": 50, "height": 40},
            {"id": 2, "file_name": "p1/b.png", "width": 50, "height": 40},
            {"id": 3, "file_name": "c.png", "width": 50, "height": 40, "patient_id": 7},
        ],
        "categories": [{"id": 4, "name": "nerve"}, {"id": 9, "name": "vessel"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "segmentation": [flat(SQUARE)]},
            {"id": 2, "image_id": 2, "category_id": 9, "segmentation": runs},
            {
                "id": 3,
                "image_id": 3,
                "category_id": 9,
                "segmentation": text,
            },
        ],
    }
    return tree | changes


def as_runs(mask):
    """Return the run lengths of a mask by column, outside first, counted one pixel after the other."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def compress(runs):
    """Return the text of runs, as COCO's `rleToString` describes it."""
    text = ""
    for place, run in enumerate(runs):
        value = run - (runs[place - 2] if place > 2 else 0)
        while True:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | 32 if more else bits) + 48)
            if not more:
                break
    return text


def save(path, tree):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path


def bring(kind, source, images, **options):
    out = source.parent / "out"
    return import_annotations(kind, source, images, out, **options), out


def test_a_pixel_is_inside_a_polygon_if_its_centre_is():
    assert np.array_equal(fill_polygon(np.array(SQUARE, float), SHAPE), INSIDE)
    # Centres are half a pixel from the corner: a border at 10.5 holds that of column 10, one at 10.6 not.
    for x, first in ((10.5, 10), (10.6, 11), (9.6, 10)):
        points = np.array([[x, 5], [30, 5], [30, 25], [x, 25]])
        assert np.flatnonzero(fill_polygon(points, SHAPE).any(axis=0))[0] == first
    triangle = fill_polygon(np.array([[0, 0], [8, 0], [0, 8.0]]), (8, 8))
    assert np.array_equal(triangle, np.add.outer(np.arange(8) + 0.5, np.arange(8) + 0.5) < 8)


def test_an_outline_that_leaves_the_image_is_cut_and_one_that_crosses_itself_has_a_hole():
    whole = fill_polygon(np.array([[-9, -9], [99, -9], [99, 99], [-9, 99.0]]), SHAPE)
    assert whole.all()
    twice = np.array([*SQUARE, *SQUARE], float)
    assert not fill_polygon(twice, SHAPE).any()
    circle = fill_polygon(draw_ellipse(25, 20, 12, 12), SHAPE)
    assert abs(circle.sum() - np.pi * 144) < 10


def test_runs_must_fill_their_shape():
    assert np.array_equal(fill_runs(as_runs(INSIDE), SHAPE, by_column=True), INSIDE)
    assert np.array_equal(fill_runs([1, 2, 3], (2, 3), by_column=False), [[0, 1, 1], [0, 0, 0]])
    assert fill_runs([1, 2], (2, 3), by_column=False) is None
    assert fill_runs([2**40, 1], (2, 3), by_column=False) is None
    assert fill_runs([7, -1], (2, 3), by_column=False) is None


def test_compressed_runs_are_those_of_the_library_of_coco():
    # Written by pycocotools 2.0: encode(np.asfortranarray(INSIDE)).
    text = "e<d0d00000000000000000000000000000000000000kh0"
    assert compress(as_runs(INSIDE)) == text
    assert _decompress("a", text) == as_runs(INSIDE)


def test_polygons_and_run_lengths_of_coco_become_a_data_set(images, tmp_path):
    done, out = bring("coco", save(tmp_path / "coco.json", coco()), images)
    assert (done.images, done.empty, done.structures) == (3, 0, {"nerve": 1, "vessel": 2})
    samples = {sample.name: sample for sample in load("folder", out)}
    assert sorted(samples) == ["c", "p1__a", "p1__b"]
    assert {name: sample.group for name, sample in samples.items()} == {
        "c": "7",
        "p1__a": "p1",
        "p1__b": "p1",
    }
    assert np.array_equal(samples["p1__a"].labels, INSIDE * 1)
    assert np.array_equal(samples["p1__b"].labels, INSIDE * 2)
    assert np.array_equal(samples["c"].labels, INSIDE * 2)
    assert np.array_equal(samples["c"].image, noise(len("c.png"), SHAPE))
    assert load_split("folder", "all", root=str(out), structure="nerve")[1].target.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": []}, "annotation 1: has a box or points and no outline"),
        ({"segmentation": [[1, 2, 3, 4]]}, "an outline has 3 to 100000 points"),
        ({"segmentation": [[1, 2, 3]]}, "a polygon is a list x, y"),
        ({"segmentation": [[1, 2, 3, 4, 5, "x"]]}, "wanted a number as x or y, got 'x'"),
        (
            {"segmentation": {"size": [40, 50], "counts": [2001]}},
            "run lengths are not of an image of 50 x",
        ),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "run lengths are not of an image of 50 x"),
        ({"segmentation": {"size": [40, 50], "counts": "~~"}}, "run lengths that are damaged"),
        ({"segmentation": [[1, 1, 1.2, 1, 1.2, 1.2]]}, "holds no pixel's centre"),
        ({"category_id": 5}, "category 5, which is not listed"),
        ({"image_id": 5}, "image 5, which is not listed"),
    ],
)
def test_an_annotation_of_coco_that_cannot_be_drawn_is_refused_and_nothing_is_written(
    images, tmp_path, changes, message
):
    tree = coco()
    tree["annotations"][0] |= changes
    with pytest.raises(UserError, match=message):
        bring("coco", save(tmp_path / "coco.json", tree), images)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "C:\\a.png", "", 4, "a\nb.png"])
def test_an_image_outside_its_folder_is_refused(images, tmp_path, name):
    tree = coco()
    tree["images"][0]["file_name"] = name
    with pytest.raises(UserError, match=r"is outside the folder|wanted the name of an image"):
        bring("coco", save(tmp_path / "coco.json", tree), images)


def test_images_without_annotations_are_refused_or_kept_or_left_out(images, tmp_path):
    source = save(tmp_path / "coco.json", coco(annotations=coco()["annotations"][:2]))
    with pytest.raises(UserError, match=r"1 images have no annotation: c\.png; give --empty keep"):
        bring("coco", source, images)
    done, _ = bring("coco", source, images, empty="leave-out")
    assert (done.images, done.notes) == (2, ("1 images without an annotation were left out",))
    other = tmp_path / "kept"
    assert import_annotations("coco", source, images, other, empty="keep").empty == 1
    assert not {sample.name: sample for sample in load("folder", other)}["c"].labels.any()
    with pytest.raises(UserError, match="--empty wants keep or leave-out, got 'no'"):
        bring("coco", source, images, empty="no")
    with pytest.raises(UserError, match="already holds something"):
        bring("coco", source, images, empty="keep")


def test_structures_that_overlap_are_refused_unless_the_later_one_may_keep_the_pixels(images, tmp_path):
    tree = coco()
    half = [[20, 5], [40, 5], [40, 25], [20, 25]]
    tree["annotations"].append({"id": 8, "image_id": 1, "category_id": 9, "segmentation": [flat(half)]})
    source = save(tmp_path / "coco.json", tree)
    with pytest.raises(UserError, match="'vessel' and 'nerve' overlap; give --overlap later"):
        bring("coco", source, images)
    _, out = bring("coco", source, images, overlap="later")
    labels = {sample.name: sample for sample in load("folder", out)}["p1__a"].labels
    assert (labels[10, 15], labels[10, 25], labels[10, 35]) == (1, 2, 2)


def test_an_image_of_another_size_and_one_that_is_not_there_are_refused(images, tmp_path):
    tree = coco()
    tree["images"][0]["width"] = 51
    with pytest.raises(UserError, match=r"a\.png: is 50 x 40 px, and its annotation says 51 x 40 px"):
        bring("coco", save(tmp_path / "coco.json", tree), images)
    (images / "c.png").unlink()
    with pytest.raises(UserError, match=r"lacks 1 annotated images: c\.png"):
        bring("coco", save(tmp_path / "coco.json", coco()), images)


def labelme(name, *shapes):
    return {"imagePath": name, "imageWidth": 50, "imageHeight": 40, "imageData": None, "shapes": list(shapes)}


def png_text(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_polygons_circles_and_masks_of_labelme_become_a_data_set(images, tmp_path):
    source = tmp_path / "json"
    square = {"label": "lesion", "points": SQUARE, "shape_type": "polygon"}
    circle = {"label": "lesion", "points": [[25, 20], [25, 30]], "shape_type": "circle"}
    held = np.zeros((20, 20), bool)
    held[3:] = True
    mask = {"label": "lesion", "points": [[10, 5], [29, 24]], "shape_type": "mask", "mask": png_text(held)}
    save(source / "p1" / "a.json", labelme("a.png", square))
    save(source / "p1" / "b.json", labelme("..\\images\\b.png", circle))
    save(source / "c.json", labelme("c.png", mask))
    done, out = bring("labelme", source, images)
    assert done.structures == {"lesion": 3}
    samples = {sample.name: sample for sample in load("folder", out)}
    assert np.array_equal(samples["p1__a"].target, INSIDE)
    assert abs(samples["p1__b"].target.sum() - np.pi * 100) < 10
    assert samples["c"].target.sum() == 17 * 20
    assert (samples["p1__a"].group, samples["c"].group) == ("p1", "c")


@pytest.mark.parametrize("kind", ["rectangle", "line", "linestrip", "point", None])
def test_shapes_of_labelme_that_outline_nothing_are_refused_by_name(images, tmp_path, kind):
    shape = {"label": "lesion", "points": SQUARE[:2], "shape_type": kind}
    save(tmp_path / "json" / "c.json", labelme("c.png", shape))
    with pytest.raises(UserError, match=r"c\.json: 'lesion': is of the shape .* polygon, circle and mask"):
        bring("labelme", tmp_path / "json", images, empty="keep")


def cvat(shapes, name="c.png"):
    header = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f'{header}<image id="0" name="{name}" width="50" height="40">{shapes}</image></annotations>'


def test_polygons_ellipses_and_masks_of_cvat_become_a_data_set(images, tmp_path):
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in SQUARE)
    top = f'<polygon label="vessel" points="{points}" z_order="1"/>'
    below = '<ellipse label="nerve" cx="20" cy="15" rx="12" ry="4" z_order="0"/><tag label="good"/>'
    source = tmp_path / "annotations.xml"
    source.write_text(cvat(top + below))
    done, out = bring("cvat", source, images, empty="keep", overlap="later")
    assert done.notes == ("1 tags of images are not used",)
    assert done.empty == 2
    labels = {sample.name: sample for sample in load("folder", out)}["c"].labels
    assert np.array_equal(labels == 2, INSIDE)
    assert (labels == 1).sum() > 0
    source.write_text(cvat('<mask label="nerve" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>'))
    import_annotations("cvat", source, images, tmp_path / "mask", empty="leave-out")
    assert np.argwhere(load("folder", tmp_path / "mask")[0].target).tolist() == [[5, 5], [5, 6]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            '<box label="a" xtl="1" ytl="1" xbr="5" ybr="5"/>',
            "has a 'box', and polygon, ellipse and mask",
        ),
        ('<polyline label="a" points="1,1;2,2"/>', "has a 'polyline'"),
        ('<polygon label="a" points="1,1;2,2"/>', "an outline has 3 to"),
        ('<polygon label="a" points="1,1;2,2;nan,3"/>', "wanted a number"),
        ('<polygon points="1,1;2,2;3,3"/>', "wanted a name of a structure"),
        ('<mask label="a" rle="1,2" left="4" top="5" width="3" height="2"/>', "do not fill its box"),
        ('<mask label="a" rle="6" left="49" top="5" width="3" height="2"/>', "do not fill its box"),
    ],
)
def test_shapes_of_cvat_that_outline_nothing_are_refused_by_name(images, tmp_path, shapes, message):
    source = tmp_path / "annotations.xml"
    source.write_text(cvat(shapes))
    with pytest.raises(UserError, match=message):
        bring("cvat", source, images, empty="keep")


def test_xml_that_defines_entities_is_refused(images, tmp_path):
    source = tmp_path / "annotations.xml"
    source.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + "<annotations>&b;</annotations>")
    with pytest.raises(UserError, match="holds declarations"):
        bring("cvat", source, images)
    source.write_bytes(cvat("").replace("utf-8", "utf-16").encode("utf-16"))
    with pytest.raises(UserError, match="is not UTF-8"):
        bring("cvat", source, images)


@pytest.fixture
def voc(tmp_path):
    """Masks of a and b, with a border that nobody has judged; c has none."""
    classes = INSIDE * np.uint8(2)
    classes[4] = 255
    for name in ("a", "b"):
        path = tmp_path / "voc" / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(classes, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *range(256)] + [0] * 503)
        picture.save(path)
    (tmp_path / "voc" / "class_names.txt").write_text("__ignore__\n_background_\nnerve\nvessel\n")
    return tmp_path / "voc"


def test_masks_of_voc_become_a_data_set(images, voc):
    done, out = bring("voc", voc, images, empty="leave-out")
    assert done.structures == {"nerve": 0, "vessel": 2}
    assert done.notes[0] == "100 pixels that nobody has judged became background"
    assert np.array_equal(load("folder", out)[0].labels, INSIDE * 2)


def test_colours_of_voc_are_named_by_its_label_map(images, voc):
    (voc / "labelmap.txt").write_text("# label:color_rgb\nbackground:0,0,0::\nvessel:0,128,0::\n")
    for path in (voc / "SegmentationClass").iterdir():
        Image.fromarray(INSIDE[..., None] * np.array([0, 128, 0], np.uint8)).save(path)
    done, out = bring("voc", voc, images, empty="leave-out")
    assert done.structures == {"vessel": 2}
    assert np.array_equal(load("folder", out)[0].target, INSIDE)
    (voc / "labelmap.txt").write_text("background:0,0,0::\nvessel:0,127,0::\n")
    with pytest.raises(UserError, match=r"has the colour \(0, 128, 0\), which labelmap\.txt lacks"):
        import_annotations("voc", voc, images, out.parent / "other", empty="leave-out")


def test_boxes_of_voc_without_a_mask_are_refused(images, voc):
    (voc / "Annotations").mkdir()
    (voc / "Annotations" / "a.xml").write_text("<annotation><object/></annotation>")
    assert bring("voc", voc, images, empty="leave-out")[0].images == 2
    (voc / "Annotations" / "c.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(UserError, match=r"c\.xml: 1 images have boxes and no mask .* says nothing of an"):
        import_annotations("voc", voc, images, voc.parent / "other", empty="leave-out")


def test_an_unknown_format_gets_a_suggestion(images, tmp_path):
    with pytest.raises(UserError, match="unknown format 'cocoa': did you mean 'coco'"):
        bring("cocoa", tmp_path / "x.json", images)

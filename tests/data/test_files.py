import numpy as np
import pytest
from PIL import ExifTags, Image
from sample_builders import disk, noise, truncate, write, write_classes

from usrl.data import files
from usrl.data.files import list_images, read_classes, read_gray, read_mask, read_shape
from usrl.errors import UserError

LESION = disk().astype(np.uint8) * 255
SEEN = np.kron(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), np.ones((16, 16), np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_gray_content_is_read_as_it_is_whatever_the_mode(tmp_path, mode):
    gray = noise(0)
    np.testing.assert_array_equal(read_gray(write(tmp_path / "a.png", gray, mode)), gray)


def test_colour_becomes_luminance(tmp_path):
    colour = np.zeros((4, 5, 3), np.uint8)
    colour[...] = (255, 0, 0)
    assert (read_gray(write(tmp_path / "a.png", colour)) == 76).all()  # 0.299 of 255


def test_transparent_pixels_count_as_the_colour_below(tmp_path):
    clear = np.dstack([noise(0)] * 3 + [np.zeros((40, 50), np.uint8)])
    np.testing.assert_array_equal(read_gray(write(tmp_path / "a.png", clear)), noise(0))


def test_a_palette_image_is_read_by_its_colours(tmp_path):
    image = Image.new("P", (5, 4), 1)
    image.putpalette([255, 255, 255, 40, 40, 40])
    image.save(tmp_path / "a.png")
    assert (read_gray(tmp_path / "a.png") == 40).all()


@pytest.mark.filterwarnings("error")
def test_a_palette_image_with_transparency_is_read_by_its_colours(tmp_path):
    image = Image.new("P", (5, 4), 1)
    image.putpalette([255, 255, 255, 40, 40, 40])
    image.save(tmp_path / "a.png", transparency=b"\xff\x00")
    assert (read_gray(tmp_path / "a.png") == 40).all()


def test_a_one_bit_image_is_black_and_white(tmp_path):
    assert np.unique(read_gray(write(tmp_path / "a.png", LESION, "1"))).tolist() == [0, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_linearly_by_their_maximum(tmp_path, suffix):
    values = np.array([[0, 1000], [2000, 4000]], np.uint16)
    assert read_gray(write(tmp_path / f"a.{suffix}", values)).tolist() == [[0, 64], [128, 255]]


def test_float_images_are_scaled_by_their_maximum(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    assert read_gray(write(tmp_path / "a.tif", values)).tolist() == [[0, 64], [128, 255]]


def test_a_black_sixteen_bit_image_stays_black(tmp_path):
    assert not read_gray(write(tmp_path / "a.png", np.zeros((4, 5), np.uint16))).any()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_negative_and_non_finite_values_are_refused(tmp_path, value):
    path = write(tmp_path / "a.tif", np.array([[0.0, value]], np.float32))
    with pytest.raises(UserError, match=r"a\.tif: has negative or non-finite values; rescale it"):
        read_gray(path)


def test_a_jpeg_is_read(tmp_path):
    assert read_gray(write(tmp_path / "a.jpg", np.full((16, 24), 90, np.uint8))).shape == (16, 24)


def write_turned(path, orientation, seen=SEEN):
    """Write what a viewer is to show, stored as the EXIF orientation wants it."""
    stored = {3: seen[::-1, ::-1], 6: np.rot90(seen), 5: seen.T}[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [3, 5, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_image_is_read_as_its_exif_orientation_says(tmp_path, suffix, orientation):
    path = write_turned(tmp_path / f"a.{suffix}", orientation)
    assert read_gray(path).shape == SEEN.shape
    assert np.abs(read_gray(path).astype(int) - SEEN).max() < 9  # a JPEG is not exact


def test_masks_and_classes_are_turned_alike(tmp_path):
    np.testing.assert_array_equal(read_mask(write_turned(tmp_path / "m.png", 6, LESION)), disk())
    np.testing.assert_array_equal(read_classes(write_turned(tmp_path / "c.png", 6)), SEEN)


def test_damaged_exif_counts_as_none(tmp_path):
    Image.fromarray(SEEN).save(tmp_path / "a.png", exif=b"Exif\0\0garbage")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), SEEN)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, suffix):
    path = write(tmp_path / f"cut.{suffix}", noise(0, (200, 200)))
    truncate(path)
    with pytest.raises(
        UserError, match=rf"cut\.{suffix}: is damaged or cannot be read.*download or export it again"
    ):
        read_gray(path)


def test_a_png_with_a_flipped_byte_is_an_error(tmp_path):
    path = write(tmp_path / "bad.png", noise(0, (200, 200)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"bad\.png: is damaged"):
        read_gray(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_an_error(tmp_path, content):
    path = tmp_path / "note.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"note\.png: is (not an image|damaged)"):
        read_gray(path)


def test_an_absent_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png: does not exist; give the path of an image file"):
        read_gray(tmp_path / "gone.png")
    with pytest.raises(UserError, match="is a folder; give the path of an image file"):
        read_gray(str(tmp_path))


@pytest.mark.parametrize("suffix", ["gif", "tif", "png"])
def test_several_frames_are_refused(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    frames = [Image.fromarray(noise(i)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"clip\.{suffix}: holds 3 frames; save the one to use"):
        read_gray(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [500, 1500])  # 2000 px: beyond twice the limit, and beyond the limit
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = write(tmp_path / "bomb.png", noise(0))
    monkeypatch.setattr(files.Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UserError, match=r"bomb\.png: has too many pixels .* crop or shrink it first"):
        read_gray(path)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
def test_masks_of_every_mode_are_read_by_luminance(tmp_path, mode):
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", LESION, mode)), disk())


def test_the_alpha_of_a_mask_is_ignored(tmp_path):
    alpha = np.dstack([LESION] * 3 + [255 - LESION])
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", alpha)), disk())


def test_mask_foreground_begins_above_127(tmp_path):
    assert read_mask(write(tmp_path / "m.png", np.array([[0, 127, 128, 255]], np.uint8))).tolist() == [
        [False, False, True, True]
    ]


def test_foreground_of_a_deep_mask_exceeds_half_of_its_largest_value(tmp_path):
    path = write(tmp_path / "m.png", np.array([[0, 1, 2]], np.uint16))
    assert read_mask(path).tolist() == [[False, False, True]]
    path = write(tmp_path / "n.png", np.array([[0, 1000, 1001, 2000]], np.uint16))
    assert read_mask(path).tolist() == [[False, False, True, True]]


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_mask(write(tmp_path / "m.png", LESION * 0)).any()


def test_a_mask_of_class_numbers_is_refused_rather_than_read_as_empty(tmp_path):
    path = write(tmp_path / "m.png", LESION // 255)
    with pytest.raises(UserError, match=r"m\.png: its largest value is 1, .* foreground is 255"):
        read_mask(path)


def test_class_numbers_are_those_of_the_palette_or_of_gray_levels(tmp_path):
    classes = np.array([[0, 1, 2], [2, 3, 0]], np.uint8)
    np.testing.assert_array_equal(read_classes(write_classes(tmp_path / "p.png", classes)), classes)
    np.testing.assert_array_equal(read_classes(write(tmp_path / "l.png", classes)), classes)


@pytest.mark.parametrize("mode", ["1", "RGB", "LA"])
def test_colours_are_no_class_numbers(tmp_path, mode):
    path = write(tmp_path / "m.png", LESION, mode)
    with pytest.raises(UserError, match=rf"m\.png: holds no class numbers .* mode '{mode}'; export the mask"):
        read_classes(path)


def test_listing_leaves_out_other_and_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]


def test_height_and_width_are_those_of_the_image(tmp_path):
    path = tmp_path / "image.png"
    Image.new("P", (7, 5)).save(path)
    assert read_shape(path) == read_gray(path).shape == (5, 7)

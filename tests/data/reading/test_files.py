import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from sample_builders import disk, noise, truncate, write, write_classes

from usrl.data.reading import files
from usrl.data.reading.files import (
    has_more_than_8_bits,
    list_images,
    read_classes,
    read_gray,
    read_labels,
    read_mask,
    read_shape,
)
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
    np.testing.assert_array_equal(read_classes(write_turned(tmp_path / "c.png", 6), tuple(range(256))), SEEN)


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


@pytest.mark.parametrize("top", [1, 2, 100, 255, 256, 1000, 65535])
@pytest.mark.parametrize("base", [0, 1])
def test_two_values_are_a_mask_at_any_depth(tmp_path, top, base):
    if base >= top:
        return
    values = np.where(disk(), top, base)
    kinds = [np.uint16, np.int32, np.float32] + ([np.uint8] if top < 256 else [])
    for kind in kinds:
        path = write(tmp_path / f"{np.dtype(kind)}.tif", values.astype(kind))
        np.testing.assert_array_equal(read_mask(path), disk())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_more_whole_numbers_are_class_numbers_at_any_depth(tmp_path, kind):
    classes = disk(radius=12).astype(np.uint8) + disk(radius=8) + disk(radius=2)
    path = write(tmp_path / "m.tif", classes.astype(kind))
    labels, foreground = read_labels(path)
    np.testing.assert_array_equal(labels, classes)
    assert (labels.dtype, foreground) == (np.uint8, None)
    with pytest.raises(UserError, match=r"m\.tif: holds class numbers up to 3, and a mask of one .* 255 on"):
        read_mask(path)


def test_a_smooth_outline_is_cut_at_half(tmp_path):
    deep = cv2.GaussianBlur(disk().astype(np.float32) * 4000, (0, 0), 1.5).astype(np.uint16)
    for path in (write(tmp_path / "m.png", deep), write(tmp_path / "m.tif", deep.astype(np.float32))):
        np.testing.assert_array_equal(read_mask(path), deep > deep.max() / 2)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_masks_that_were_saved_as_jpeg_or_scaled_stay_masks(tmp_path, suffix, mode):
    shape = disk((200, 240), (90, 120), 50)
    lossy = write(tmp_path / "once.jpg", shape.astype(np.uint8) * 255, mode)
    seen = np.asarray(Image.open(lossy))
    path = write(tmp_path / f"m.{suffix}", seen)
    assert (read_mask(path) != shape).sum() <= 4
    small = cv2.resize(shape.astype(np.uint8) * 255, (77, 61), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "small.png", small, mode)), small > 127)
    large = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "large.png", large, mode)), large > 127)


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)] + [(0, 0, 0)] * 251 + [(224, 224, 192)]


def test_palette_masks_are_read_by_index_not_by_brightness(tmp_path):
    classes = disk().astype(np.uint8)
    image = Image.fromarray(classes)
    image.putpalette(np.array(VOC, np.uint8).ravel().tolist())
    image.save(tmp_path / "two.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "two.png"), disk())
    classes[disk(radius=9) & ~disk()] = 255  # the border of PASCAL VOC
    image = Image.fromarray(classes)
    image.putpalette(np.array(VOC, np.uint8).ravel().tolist())
    image.save(tmp_path / "void.png")
    labels, foreground = read_labels(tmp_path / "void.png")
    assert foreground is None
    np.testing.assert_array_equal(labels, classes)
    with pytest.raises(UserError, match=r"void\.png: holds class numbers up to 255"):
        read_mask(tmp_path / "void.png")


@pytest.mark.parametrize("colours", [[0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0]])
def test_black_and_white_in_a_palette_are_read_by_brightness(tmp_path, colours):
    image = Image.fromarray((disk() ^ (colours[0] > 0)).astype(np.uint8))
    image.putpalette(colours)
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), disk())


def colour(*regions):
    image = np.zeros((40, 50, 3), np.uint8)
    for mask, value in regions:
        image[mask] = value
    return image


def test_two_colours_are_a_mask_and_more_are_refused_with_what_was_found(tmp_path):
    inner = disk(radius=4)
    red = write(tmp_path / "red.png", colour((disk(), (128, 0, 0))))
    np.testing.assert_array_equal(read_mask(red), disk())
    path = write(tmp_path / "m.png", colour((disk(), (128, 0, 0)), (inner, (0, 128, 0))))
    with pytest.raises(
        UserError, match=r"m\.png: has 3 colours, such as \(0, 0, 0\), \(128, 0, 0\), \(0, 128"
    ):
        read_mask(path)
    white = write(tmp_path / "white.png", colour((disk(radius=99), (255, 255, 255)), (inner, (255, 0, 0))))
    with pytest.raises(UserError, match=r"has 2 colours, such as \(255, 255, 255\), \(255, 0, 0\)"):
        read_mask(white)  # the brighter one is the background
    yellow = write(tmp_path / "y.png", colour((disk(), (255, 255, 0)), (inner, (255, 0, 255))))
    with pytest.raises(UserError, match="has 3 colours"):  # both are bright enough to count as foreground
        read_mask(yellow)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("mode", ["gray", "rgb"])
def test_gray_classes_are_refused_with_what_was_found(tmp_path, kind, mode):
    levels = np.zeros((40, 50), kind)
    for radius, level in ((15, 85), (11, 170), (7, 255)):
        levels[disk(radius=radius)] = level
    if mode == "rgb":
        levels = np.dstack([levels.astype(np.uint8)] * 3)
    with pytest.raises(
        UserError, match=r"m\.tif: has 4 gray levels \(0, 85, 170, 255\) instead of two; write 0"
    ):
        read_mask(write(tmp_path / "m.tif", levels))


def test_an_image_in_place_of_a_mask_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"m\.png: has 256 gray levels"):
        read_mask(write(tmp_path / "m.png", noise(0, (200, 200))))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("level", [0, 255])
def test_a_shape_in_the_alpha_channel_alone_is_refused(tmp_path, mode, level):
    channels = [np.full((40, 50), level, np.uint8)] * (len(mode) - 1)
    path = write(tmp_path / "m.png", np.dstack([*channels, LESION]))
    with pytest.raises(
        UserError, match=r"m\.png: the shape is in its alpha channel alone; save it as black and"
    ):
        read_mask(path)


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_mask(write(tmp_path / "m.png", LESION * 0)).any()


def test_class_numbers_in_a_lossy_format_are_refused(tmp_path):
    path = tmp_path / "m.jpg"
    Image.fromarray(disk().astype(np.uint8) * 20 + disk(radius=3) * np.uint8(9)).save(path)
    with pytest.raises(UserError, match=r"m\.jpg: has \d+ values up to \d+ .* in a format without loss"):
        read_labels(path)


def test_class_numbers_are_those_of_the_palette_or_of_gray_levels(tmp_path):
    classes, known = np.array([[0, 1, 2], [2, 3, 0]], np.uint8), (1, 2, 3)
    np.testing.assert_array_equal(read_classes(write_classes(tmp_path / "p.png", classes), known), classes)
    for mode in ("L", "RGB", "LA", "RGBA"):
        np.testing.assert_array_equal(read_classes(write(tmp_path / "l.png", classes, mode), known), classes)
    np.testing.assert_array_equal(
        read_classes(write(tmp_path / "d.png", classes.astype(np.uint16)), known), classes
    )
    with pytest.raises(
        UserError, match=r"p\.png: holds class 3, and classes are 0, 1, 2; export the mask with"
    ):
        read_classes(tmp_path / "p.png", (1, 2))


def test_a_mask_of_the_only_class_is_read(tmp_path):
    path = write(tmp_path / "m.png", LESION)
    np.testing.assert_array_equal(read_classes(path, (7,)), disk() * 7)
    with pytest.raises(UserError, match="holds class 255"):
        read_classes(path, (1, 2))


def test_listing_leaves_out_other_and_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]


def test_height_and_width_are_those_of_the_image(tmp_path):
    path = tmp_path / "image.png"
    Image.new("P", (7, 5)).save(path)
    assert read_shape(path) == read_gray(path).shape == (5, 7)


DEEP = np.dstack([np.linspace(0, 4000, 40 * 50).reshape(40, 50).astype(np.uint16) + k for k in (0, 40, 90)])


def write_deep(path, channels):
    path.write_bytes(cv2.imencode(path.suffix, channels[..., ::-1])[1].tobytes())
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_of_16_bits_is_scaled_by_its_largest_luminance(tmp_path, suffix):
    path = write_deep(tmp_path / f"a.{suffix}", DEEP)
    luminance = np.rint(DEEP @ (0.299, 0.587, 0.114))
    np.testing.assert_array_equal(read_gray(path), np.rint(luminance * (255 / luminance.max())))
    assert has_more_than_8_bits(path)
    assert not has_more_than_8_bits(write(tmp_path / "plain.png", noise(0), "RGB"))


def test_gray_with_alpha_of_16_bits_is_read_in_full_depth(tmp_path):
    gray = DEEP[..., 0]
    rows = b"".join(b"\0" + np.dstack([row, row])[0].astype(">u2").tobytes() for row in gray)
    path = tmp_path / "a.png"
    path.write_bytes(make_png(50, 40, 16, 4, rows))
    np.testing.assert_array_equal(read_gray(path), np.rint(gray * (255 / gray.max())))


def test_colour_of_16_bits_is_turned_as_its_exif_says(tmp_path):
    path = write_deep(tmp_path / "a.png", DEEP)
    data = path.read_bytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = tmp_path / "b.png"
    turned.write_bytes(data[:33] + make_chunk(b"eXIf", exif.tobytes()[6:]) + data[33:])
    np.testing.assert_array_equal(read_gray(turned), np.rot90(read_gray(path), -1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path, kind):
    dark_is_high = np.array([[0, 100], [200, np.iinfo(kind).max]], kind)
    path = tmp_path / "a.tif"
    Image.fromarray(dark_is_high).save(path, tiffinfo={262: 0})
    if kind == np.uint8:  # Pillow inverts what it writes
        path = write_tiff_with_white_zero(tmp_path / "b.tif", dark_is_high)
    top = float(np.iinfo(kind).max)
    np.testing.assert_array_equal(read_gray(path), np.rint((top - dark_is_high) * (255 / top)))
    assert read_mask(
        write_tiff_with_white_zero(tmp_path / "m.tif", (~disk()).astype(kind) * kind(9))
    ).sum() == (disk().sum())


def write_tiff_with_white_zero(path, values):
    """Write a TIFF and change the photometric interpretation in its directory."""
    Image.fromarray(values).save(path)
    data = bytearray(path.read_bytes())
    place = data.index(bytes([6, 1, 3, 0, 1, 0, 0, 0]))
    data[place + 8] = 0
    path.write_bytes(bytes(data))
    return path


def make_chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def make_png(width, height, depth, colour, rows, interlace=0):
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour, 0, 0, interlace])
    chunks = make_chunk(b"IHDR", header) + make_chunk(b"IDAT", zlib.compress(rows)) + make_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(("depth", "colour"), [(8, 0), (1, 0), (16, 0), (8, 2), (16, 2), (8, 4), (8, 6)])
def test_a_png_with_too_few_rows_is_refused(tmp_path, depth, colour):
    row = b"\0" + b"\xa5" * ((24 * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] + 7) // 8)
    path = tmp_path / "a.png"
    path.write_bytes(make_png(24, 10, depth, colour, row * 10))
    assert read_gray(path).shape == (10, 24)
    for rows in (row * 9, row * 4, row * 9 + row[: len(row) // 2], b""):
        path.write_bytes(make_png(24, 10, depth, colour, rows))
        with pytest.raises(UserError, match=r"a\.png: is damaged or cannot be read"):
            read_gray(path)


def test_an_interlaced_png_may_lack_no_pass(tmp_path):
    path = tmp_path / "a.png"
    sizes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # of 8 x 8 pixels: columns, rows
    passes = [(b"\0" + b"\x50" * columns) * rows for columns, rows in sizes]
    path.write_bytes(make_png(8, 8, 8, 0, b"".join(passes), interlace=1))
    assert (read_gray(path) == 0x50).all()
    path.write_bytes(make_png(8, 8, 8, 0, b"".join(passes[:-1]), interlace=1))
    with pytest.raises(UserError, match=r"a\.png: is damaged or cannot be read \(rows are missing\)"):
        read_gray(path)


def test_black_rows_at_the_end_are_no_fault(tmp_path):
    for mode in ("L", "1", "RGB", "P"):
        assert not read_gray(write(tmp_path / "a.png", LESION * 0, mode)).any()
        np.testing.assert_array_equal(read_mask(write(tmp_path / "b.png", LESION, mode)), disk())


@pytest.mark.parametrize(
    "error",
    [TypeError, KeyError, struct.error, IndexError, RuntimeError, NotImplementedError, ZeroDivisionError],
)
def test_whatever_a_decoder_raises_is_an_error_that_names_the_file(tmp_path, monkeypatch, error):
    path = write(tmp_path / "a.png", noise(0))

    def fail(*_):
        raise error("no luck")

    monkeypatch.setattr(files.Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(UserError, match=r"a\.png: is damaged or cannot be read \(.*no luck.*\); download"):
        read_gray(path)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"DDS " + b"\0" * 200]
)
def test_formats_that_are_not_images_of_a_scanner_are_refused_unread(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: is not an image that can be read; convert it to PNG"):
        read_gray(path)


def test_a_tiff_without_dimensions_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", noise(0))
    data = path.read_bytes()
    path.write_bytes(
        data.replace(bytes([0, 1, 4, 0]), bytes([0, 2, 4, 0])).replace(
            bytes([0, 1, 3, 0]), bytes([0, 2, 3, 0])
        )
    )
    with pytest.raises(UserError, match=r"a\.tif: is (damaged|not an image)"):
        read_gray(path)


def test_a_deep_image_is_read_in_six_times_the_memory_of_its_pixels(tmp_path):
    """In a process of its own, as its peak is what is measured."""
    path = tmp_path / "a.png"
    side = 3000
    row = b"\0" + np.arange(side, dtype=">u2").tobytes()
    path.write_bytes(make_png(side, side, 16, 0, row * side))
    code = f"""
import resource
from usrl.data.reading.files import read_gray
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
read_gray({str(path)!r})
print(peak() - before)
"""
    peak = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(peak.stdout) <= 6 * 2 * side**2

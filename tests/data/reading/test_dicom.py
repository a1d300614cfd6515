import numpy as np
import pytest
from clip_builders import moving_bar, region, write_dicom
from pydicom.sequence import Sequence

from usrl.data.reading.dicom import open_dicom, read_dicom
from usrl.errors import UserError

FRAMES = moving_bar(4)
COLOUR = np.stack([FRAMES, FRAMES // 2, FRAMES // 4], axis=-1)


def frames_of(path):
    return np.stack(list(open_dicom(path).frames()))


def test_gray_frames_come_back_as_they_were_and_black_on_white_is_inverted(tmp_path):
    assert np.array_equal(frames_of(write_dicom(tmp_path / "a.dcm", FRAMES)), FRAMES)
    inverted = write_dicom(tmp_path / "b.dcm", 255 - FRAMES, "MONOCHROME1")
    assert np.array_equal(frames_of(inverted), FRAMES)


def test_twelve_bits_of_sixteen_are_scaled_by_the_largest_value_of_all_frames(tmp_path):
    values = FRAMES.astype(np.uint16) * 5  # at most 1000
    shown = frames_of(write_dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11))
    assert np.array_equal(shown, np.rint(values * (255 / 1000)))
    inverted = write_dicom(tmp_path / "b.dcm", 4095 - values, "MONOCHROME1", BitsStored=12, HighBit=11)
    assert np.array_equal(frames_of(inverted), shown)


def test_colour_becomes_luminance(tmp_path):
    luminance = np.rint(COLOUR @ [0.299, 0.587, 0.114])
    assert np.abs(frames_of(write_dicom(tmp_path / "a.dcm", COLOUR, "RGB")) - luminance).max() <= 1
    # JPEG stores luminance and colour apart; a JPEG of quality 95 is within some levels.
    jpeg = write_dicom(tmp_path / "b.dcm", COLOUR, "YBR_FULL_422", jpeg=True)
    assert np.abs(frames_of(jpeg) - luminance).max() <= 12
    red, blue = (np.zeros((2, 8, 8, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    for colour, level in ((red, 76), (blue, 29)):
        shown = frames_of(write_dicom(tmp_path / "c.dcm", colour, "YBR_FULL_422", jpeg=True))
        assert np.abs(shown.astype(int) - level).max() <= 2


def test_indices_of_a_palette_become_the_luminance_of_their_colours(tmp_path):
    indices = np.tile(np.array([[0, 1, 2]], np.uint8), (2, 4, 1))
    palette = np.array([[0, 0, 0], [65535, 0, 0], [65535, 65535, 65535]])
    shown = frames_of(write_dicom(tmp_path / "a.dcm", indices, "PALETTE COLOR", palette=palette))
    assert shown[0, 0].tolist() == [0, 76, 255]


def test_the_pixel_size_is_that_of_the_largest_region_of_tissue_in_centimetres(tmp_path):
    regions = [
        region(0, 0, 10, 10, (0.05, 0.05)),
        region(0, 0, 48, 40, (0.01, -0.02)),
        region(0, 0, 48, 400, (0.9, 0.9), RegionDataType=3),  # Doppler
        region(0, 0, 48, 400, (0.9, 0.9), PhysicalUnitsXDirection=4),  # seconds
    ]
    path = write_dicom(tmp_path / "a.dcm", FRAMES, SequenceOfUltrasoundRegions=Sequence(regions))
    assert open_dicom(path).spacing_mm == pytest.approx((0.2, 0.1))
    plain = write_dicom(tmp_path / "b.dcm", FRAMES, PixelSpacing=[0.3, 0.4])
    assert open_dicom(plain).spacing_mm == pytest.approx((0.3, 0.4))
    assert open_dicom(write_dicom(tmp_path / "c.dcm", FRAMES)).spacing_mm is None
    zero = Sequence([region(0, 0, 48, 40, (0.0, 0.01))])
    assert (
        open_dicom(write_dicom(tmp_path / "d.dcm", FRAMES, SequenceOfUltrasoundRegions=zero)).spacing_mm
        is None
    )


def test_the_rate_comes_from_the_time_of_a_frame_or_of_all(tmp_path):
    assert open_dicom(write_dicom(tmp_path / "a.dcm", FRAMES, FrameTime="40")).fps == pytest.approx(25)
    assert open_dicom(write_dicom(tmp_path / "b.dcm", FRAMES, CineRate="30")).fps == pytest.approx(30)
    even = write_dicom(tmp_path / "c.dcm", FRAMES, FrameTimeVector=["0", "50", "50", "50"])
    assert open_dicom(even).fps == pytest.approx(20)
    assert open_dicom(write_dicom(tmp_path / "d.dcm", FRAMES)).fps is None
    uneven = write_dicom(tmp_path / "e.dcm", FRAMES, FrameTimeVector=["0", "50", "150", "50"])
    with pytest.raises(UserError, match=r"e\.dcm: .* variable rate"):
        open_dicom(uneven)


def test_a_patient_is_a_digest_that_does_not_hold_the_id(tmp_path):
    first, again, other = (
        open_dicom(write_dicom(tmp_path / "a.dcm", FRAMES, PatientID=number)).patient
        for number in ("X-123", "X-123 ", "X-124")
    )
    assert first == again != other
    assert "123" not in first.replace("patient-", "")[:3]
    assert open_dicom(write_dicom(tmp_path / "b.dcm", FRAMES, PatientID="")).patient is None


def test_an_image_is_read_with_its_pixel_size_and_a_clip_is_refused(tmp_path):
    image, spacing_mm = read_dicom(write_dicom(tmp_path / "a.dcm", FRAMES[:1], PixelSpacing=[0.3, 0.3]))
    assert np.array_equal(image, FRAMES[0])
    assert spacing_mm == pytest.approx((0.3, 0.3))
    with pytest.raises(UserError, match="holds 4 frames; read it as a clip"):
        read_dicom(write_dicom(tmp_path / "b.dcm", FRAMES))


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", FRAMES)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut\.dcm: is damaged or cannot be decoded"):
        frames_of(cut)
    text = tmp_path / "text.dcm"
    text.write_text("no")
    with pytest.raises(UserError, match=r"text\.dcm: is not a DICOM file"):
        open_dicom(text)
    with pytest.raises(UserError, match=r"odd\.dcm: has pixels that are not read .*'HSV'"):
        open_dicom(write_dicom(tmp_path / "odd.dcm", COLOUR, "HSV"))
    with pytest.raises(UserError, match=r"many\.dcm: holds 1000000 frames"):
        open_dicom(write_dicom(tmp_path / "many.dcm", FRAMES, NumberOfFrames=1_000_000))
    with pytest.raises(UserError, match=r"more\.dcm: "):
        frames_of(write_dicom(tmp_path / "more.dcm", FRAMES, NumberOfFrames=9))
    negative = write_dicom(tmp_path / "low.dcm", FRAMES.astype(np.uint16) + 40_000, PixelRepresentation=1)
    with pytest.raises(UserError, match=r"low\.dcm: holds values below 0"):
        frames_of(negative)

import io
import struct

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit


def moving_bar(count=10, shape=(40, 48)):
    """Return frames, uint8, (T, H, W), in which a bright bar moves down by 2 px a frame."""
    frames = np.full((count, *shape), 20, np.uint8)
    for place, frame in enumerate(frames):
        frame[2 * place : 2 * place + 8] = 200
    return frames


def write_video(path, frames, fps=20, codec="mp4v"):
    """Write gray frames with OpenCV, at the rate and in the codec that a test wants."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, frames.shape[:0:-1])
    for frame in frames:
        writer.write(np.repeat(frame[..., None], 3, axis=2))
    writer.release()
    return path


def at_variable_rate(data):
    """Return an mp4 file of OpenCV with its second half at a third of the rate."""
    place = data.index(b"stts") - 4
    size, name, flags, entries, count, step = struct.unpack(">I4sIIII", data[place : place + 24])
    assert (size, entries) == (24, 1)
    half = count // 2
    times = struct.pack(">I4sIIIIII", 32, name, flags, 2, half, step, count - half, 3 * step)
    grown = bytearray(data[:place] + times + data[place + 24 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):  # they hold the table
        at = grown.index(box) - 4
        grown[at : at + 4] = struct.pack(">I", struct.unpack(">I", grown[at : at + 4])[0] + 8)
    return bytes(grown)


def with_more_frames(data, count):
    """Return an mp4 file of OpenCV that promises more frames than it holds, as one that was cut does."""
    grown = bytearray(data)
    at = data.index(b"stts") + 12
    grown[at : at + 4] = struct.pack(">I", count)
    sizes = data.index(b"stsz") - 4
    length, held = (
        struct.unpack(">I", data[sizes : sizes + 4])[0],
        struct.unpack(">I", data[sizes + 16 : sizes + 20])[0],
    )
    more = count - held
    grown[sizes : sizes + 4] = struct.pack(">I", length + 4 * more)
    grown[sizes + 16 : sizes + 20] = struct.pack(">I", count)
    grown[sizes + length : sizes + length] = struct.pack(">I", 60) * more
    chunks = grown.index(b"stsc") - 4
    entries = struct.unpack(">I", grown[chunks + 12 : chunks + 16])[0]
    last = chunks + 16 + 12 * (entries - 1)
    per_chunk = struct.unpack(">I", grown[last + 4 : last + 8])[0]
    grown[last + 4 : last + 8] = struct.pack(">I", per_chunk + more)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = grown.index(box) - 4
        grown[at : at + 4] = struct.pack(">I", struct.unpack(">I", grown[at : at + 4])[0] + 4 * more)
    return bytes(grown)


def sound_only():
    """Return an AVI file, of one stream, whose stream is sound."""

    def chunk(name, data):
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    sound = bytes(1600)
    header = struct.pack("<14I", 100_000, 16_000, 0, 0x10, 1, 0, 1, len(sound), 0, 0, 0, 0, 0, 0)
    stream = b"auds" + struct.pack(
        "<IIHHIIIIIIIIhhhh", 0, 0, 0, 0, 0, 1, 16_000, 0, 1600, 1600, 0, 1, 0, 0, 0, 0
    )
    form = struct.pack("<HHIIHH", 1, 1, 16_000, 16_000, 1, 8)
    lists = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    heads = chunk(b"LIST", b"hdrl" + chunk(b"avih", header) + lists)
    return chunk(b"RIFF", b"AVI " + heads + chunk(b"LIST", b"movi" + chunk(b"00wb", sound)))


def write_dicom(path, frames, photometric="MONOCHROME2", jpeg=False, palette=None, **elements):
    """Write frames, (T, H, W) or (T, H, W, 3), uint8 or uint16, as DICOM; elements are by keyword."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    header.Rows, header.Columns = frames.shape[1:3]
    header.NumberOfFrames = len(frames)
    header.PhotometricInterpretation = photometric
    header.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    bits = 8 * frames.itemsize
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = 0
    if frames.ndim == 4:
        header.PlanarConfiguration = 0
    if palette is not None:
        for name, table in zip(("Red", "Green", "Blue"), palette.astype("<u2").T, strict=True):
            setattr(header, f"{name}PaletteColorLookupTableDescriptor", [len(table), 0, 16])
            setattr(header, f"{name}PaletteColorLookupTableData", table.tobytes())
    for name, value in elements.items():
        setattr(header, name, value)
    header.PixelData = encapsulate([_jpeg(frame) for frame in frames]) if jpeg else frames.tobytes()
    if not jpeg:
        header["PixelData"].VR = "OB" if bits == 8 else "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def region(x, y, width, height, delta_cm, **elements):
    """Return a calibrated region of an ultrasound image; delta_cm is (x, y)."""
    part = Dataset()
    part.RegionSpatialFormat = part.RegionDataType = 1
    part.PhysicalUnitsXDirection = part.PhysicalUnitsYDirection = 3
    part.RegionLocationMinX0, part.RegionLocationMinY0 = x, y
    part.RegionLocationMaxX1, part.RegionLocationMaxY1 = x + width - 1, y + height - 1
    part.PhysicalDeltaX, part.PhysicalDeltaY = delta_cm
    for name, value in elements.items():
        setattr(part, name, value)
    return part


def _jpeg(frame):
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()

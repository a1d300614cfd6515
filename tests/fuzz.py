"""Feed usrl with damaged files of every kind that it reads: each must end in a result or a UserError.

    python tests/fuzz.py --count 10000 --seed 0
    python tests/fuzz.py --only image --seed 4711

The first line tries 10,000 inputs, numbered from the seed on, in two processes. The second repeats one.
Whatever else an input ends in is a finding: another exception, more than 10 s of computing, more than 2 GiB
of memory, a line of more than 4,000 letters in its message, or a process that dies. Findings are shown as
they come, and the exit status is 1 if there are any.
"""

import argparse
import base64
import contextlib
import csv
import gzip
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import usrl
from usrl.errors import UserError

SECONDS, GIB, LETTERS = 10, 2, 4000
"""Most computing time of an input, most memory above that of the idle process, longest message."""
HUNG = 120
"""Seconds on the clock after which a process is ended: others may use the machine too."""
Random = random.Random


# --- What may be wrong with any file ---

# fmt: off
NUMBERS = (
    0, 1, -1, 2, 7, 8, 16, 31, 32, 127, 128, 255, 256, 1000, 65_535, 65_536, 10**6, 2**31 - 1, 2**31, 2**32,
    2**53 + 1, 2**63, 2**64, 10**12, -(2**63), 10**40,
)
# fmt: on
# fmt: off
FRACTIONS = (
    0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 1e-3, 1e-9, 1e-320, 1e15, 1e38, 1e308, float("nan"), float("inf"),
)
# fmt: on
# fmt: off
TEXTS = (
    "", " ", "a", "x" * 5000, "\0", "\ufeff", "é", "e\u0301", "\u2028", "..", "/", "=cmd|' /C calc'!A0",
    "nan", "lin_1e-3", "lin_x", "lin_nan", "lin_", "auto", "auto_1", "auto_x", "1e999", "9" * 5000, "true",
    "None", "\t", "-inf", "1_0", "٣", "²", "0x1f", "1,5", "+", "%s", "{}", "~", "\U0001f9ea",
)
# fmt: on


def nested(rng: Random) -> Any:
    value: Any = rng.choice([0, "a", None])
    for _ in range(rng.choice([1, 2, 5, 19, 60])):
        value = [value] if rng.random() < 0.5 else {rng.choice("abc"): value}
    return value


def wild(rng: Random) -> Any:
    """Return any value that JSON can hold."""
    makers: list[Callable[[], Any]] = [
        lambda: rng.choice([None, True, False]),
        lambda: rng.choice(NUMBERS),
        lambda: int(10 ** rng.uniform(0, 9)),
        lambda: rng.choice(FRACTIONS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice([[], {}, [[]], [1, 2, 3], {"a": 1}, [0] * 1000, {f"k{i}": i for i in range(300)}]),
        lambda: nested(rng),
    ]
    return rng.choice(makers)()


def damage(data: bytes, rng: Random) -> bytes:
    """Return bytes with some of them changed, lost, doubled or added."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(len(content) + 1)
        if rng.random() < 0.5:  # headers matter more than pixels
            place = min(place, rng.randrange(128))
        length = int(2 ** rng.uniform(0, 10))
        kind = rng.randrange(8)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place : place + 1] = rng.randbytes(1)
        elif kind == 2:
            content[place:] = b""
        elif kind == 3:
            content[place : place + length] = b""
        elif kind == 4:
            content[place:place] = content[place : place + length]
        elif kind == 5:
            content[place : place + length] = rng.choice([b"\0", b"\xff", b" "]) * length
        elif kind == 6:
            size = rng.choice("BHIQ")
            number = rng.choice(NUMBERS) % 256 ** struct.calcsize(size)
            written = struct.pack(rng.choice("<>") + size, number)
            content[place : place + len(written)] = written
        else:
            content[place:place] = rng.randbytes(length)
    return bytes(content)


def encoded(text: str, rng: Random) -> bytes:
    """Return text as some program may have saved it."""
    if rng.random() < 0.2:
        text = text.replace("\n", rng.choice(["\r\n", "\r", "\n\n", "\u2028", "\v", "\0\n", ""]))
    if rng.random() < 0.75:
        return text.encode("utf-8", "surrogatepass")
    name = rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7"])
    return text.encode(name, "replace")


def reworded(text: str, rng: Random) -> str:
    """Return text with some words or lines replaced, lost, doubled or moved."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        pattern = rng.choice([r"[^\n]*\n?", r"[\w.+-]+|\s+|."])
        words = re.findall(pattern, text, re.DOTALL) or [""]
        place = rng.randrange(len(words))
        kind = rng.randrange(6)
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, rng.choice(words))
        elif kind == 2:
            words[place] = str(wild(rng))
        elif kind == 3:
            words[place] = json.dumps(wild(rng))
        elif kind == 4:
            words[place] = rng.choice(
                [",", ";", "\t", ":", '"', "'", "\0", "-", "{", "[", "#", "\\", "=", "x" * 200_000]
            )
        else:
            other = rng.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        text = "".join(words)
    return text


def grafted(tree: Any, rng: Random) -> Any:
    """Return a tree of JSON with one node replaced, lost or added."""
    tree = json.loads(json.dumps(tree))
    nodes: list[tuple[Any, Any]] = [({"": tree}, "")]
    for owner, key in nodes:
        value = owner[key]
        inner = (
            value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        )
        nodes += [(value, name) for name in inner]
    owner, key = rng.choice(nodes)
    kind = rng.randrange(4)
    if kind == 0 and owner is not nodes[0][0]:
        del owner[key]
    elif kind == 1 and isinstance(owner[key], dict):
        owner[key][rng.choice(["a", "", "kind", "x" * 300, *owner[key]])] = wild(rng)
    else:
        owner[key] = wild(rng)
    return nodes[0][0][""]


def json_text(tree: Any, rng: Random) -> str:
    """Return a tree as JSON, at times with something that is not."""
    text = json.dumps(tree)
    if rng.random() < 0.15:
        bad = rng.choice(
            ["[" * 20_000, '{"a":' * 20_000, "9" * 5000, "1e999", "NaN", "{}{}", '"\\ud800"', "'", "\0"]
        )
        text = text.replace(rng.choice(re.findall(r'"[^"]*"|[\w.-]+', text) or [""]), bad, 1)
    return text


# --- Images ---

SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
# fmt: off
MODES = (
    "1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "La",
    "RGBa", "PA",
)
# fmt: on
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
# fmt: off
FOREIGN = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"DDS |\0\0\0\x07\x10", b"%PDF-1.7\n", b"PK\3\4",
    b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", b"\0\0\1\0\1\0\x10\x10", b"SIMPLE  =                    T", b"",
    b"\x89HDF\r\n\x1a\n", b"8BPS\0\1", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"II*\0", b"BM",
    b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 ", b"qoif", b"P6\n",
    b"<svg/>", b"\x7fELF",
)
# fmt: on


def levels(rng: Random, is_mask: bool, shape: tuple[int, int]) -> np.ndarray:
    """Return levels of an image or a mask, uint8."""
    random_levels = np.random.default_rng(rng.randrange(2**32))
    if not is_mask:
        return random_levels.integers(0, 256, shape, np.uint8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot((y - shape[0] / 2) / max(shape[0] / 3, 1), (x - shape[1] / 2) / max(shape[1] / 3, 1))
    blob = inside < 1
    makers: list[Callable[[], Any]] = [
        lambda: 255 * blob,
        lambda: rng.randrange(1, 256) * blob,
        lambda: blob * random_levels.integers(1, rng.choice([3, 4, 33, 256]), shape),
        lambda: np.where(blob, 1, 2 * (x < 3)),
        lambda: np.select([blob, x < 3, y < 3], [85, 170, 255]),
        lambda: np.clip(255 * (1.5 - inside), 0, 255),
        lambda: np.full(shape, rng.choice([0, 1, 128, 255])),
        lambda: 255 * ~blob,
    ]
    return np.asarray(rng.choice(makers)()).astype(np.uint8)


def picture(rng: Random, is_mask: bool, shape: tuple[int, int] | None) -> bytes:
    """Return an image file that some program may have written."""
    if shape is None:
        shape = (rng.randint(1, 40), rng.randint(1, 40))
        if rng.random() < 0.03:
            shape = rng.choice([(1, 3000), (3000, 1), (1, 1), (700, 700)])
    gray, mode = levels(rng, is_mask, shape), rng.choice(MODES if rng.random() < 0.7 else ["L", "RGB"])
    image = Image.fromarray(gray)
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        scale = rng.choice([1, 16, 257, 1 if mode == "I;16" else rng.choice([-3, 0.25, 1e30])])
        with np.errstate(all="ignore"):
            values = (gray.astype(np.float64) * scale).astype(kind)
        if mode == "F" and rng.random() < 0.2:
            values[0, 0] = rng.choice([np.nan, np.inf, -1e38])
        image = Image.fromarray(values)
    elif mode == "P" and rng.random() < 0.7:
        image = Image.fromarray(gray, "P")
        image.putpalette(rng.randbytes(3 * rng.choice([1, 2, 16, 256])))
    elif is_mask and mode in ("LA", "RGBA") and rng.random() < 0.5:
        image = Image.new(mode, image.size)
        image.putalpha(Image.fromarray(gray))
    elif mode not in ("P", "PA", "La", "RGBa"):
        image = (image.convert("RGB") if mode in ("LAB", "HSV") else image).convert(mode)
        if mode == "RGB" and rng.random() < 0.6:
            image = Image.merge(
                "RGB",
                [image.getchannel(0), *rng.choices([image.getchannel(1), Image.new("L", image.size)], k=2)],
            )
    return saved(image, rng)


def saved(image: Image.Image, rng: Random) -> bytes:
    """Return an image in some format that takes its mode, with some of the format's options."""
    options: dict[str, Any] = {}
    if rng.random() < 0.15:
        exif = Image.Exif()
        exif[274] = rng.choice([*range(10), 300])
        options["exif"] = exif
    if rng.random() < 0.06:
        options |= {"save_all": True, "append_images": [image, image]}
    options["compression"] = rng.choice(
        [
            None,
            "tiff_lzw",
            "tiff_deflate",
            "packbits",
            "jpeg",
            "group4",
            "group3",
            "zstd",
            "lzma",
            "webp",
            "tiff_ccitt",
        ]
    )
    if rng.random() < 0.3:
        options["tiffinfo"] = {262: rng.choice([0, 1, 2, 3, 5, 6, 8]), 317: 2, 339: rng.choice([1, 2, 3, 4])}
        if rng.random() < 0.5:
            del options["tiffinfo"][339]
    options |= {
        "quality": rng.choice([1, 40, 95]),
        "progressive": rng.random() < 0.3,
        "lossless": rng.random() < 0.5,
    }
    options |= {"transparency": 0} if rng.random() < 0.1 and image.mode in ("L", "P", "RGB") else {}
    for kind in (rng.choice(FORMATS), "PNG"):
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind, **options)
            return buffer.getvalue()
        except Exception:
            image = image if image.mode in ("1", "L", "P", "RGB", "RGBA", "I;16") else image.convert("RGB")
            options = {}
    return b""


def png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def odd_png(rng: Random) -> bytes:
    """Return a PNG with sound checksums and anything within."""
    width, height = (
        rng.choice([0, 1, 3, 16, 100, 9459, 20_000, 2**31 - 1, rng.randint(1, 60)]) for _ in range(2)
    )
    depth, colour = rng.choice([1, 2, 4, 8, 16, 16, 3]), rng.choice([0, 2, 3, 4, 6, 0, 2, 5])
    header = struct.pack(
        ">IIBBBBB",
        width,
        height,
        depth,
        colour,
        *(rng.choice([0, 0, 0, 1, 9]) for _ in range(2)),
        rng.choice([0, 0, 1, 2]),
    )
    row = 1 + (min(width, 200) * depth * {2: 3, 4: 2, 6: 4}.get(colour, 1) + 7) // 8
    rows = min(height, 200) + rng.choice([0, 0, 0, -1, 1, 50])
    pixels = rng.choice([bytes, rng.randbytes])(row * max(rows, 0))
    if rng.random() < 0.5:  # a filter of each row that exists
        pixels = b"".join(
            bytes([rng.randrange(5)]) + pixels[at + 1 : at + row] for at in range(0, len(pixels), row)
        )
    packed = zlib.compress(pixels)
    chunks = [
        (b"IHDR", header),
        (b"IDAT", packed[: len(packed) // 2]),
        (b"IDAT", packed[len(packed) // 2 :]),
        (b"IEND", b""),
    ]
    more = [
        (b"PLTE", rng.randbytes(rng.choice([0, 3, 6, 7, 768, 900]))),
        (b"tRNS", rng.randbytes(rng.choice([0, 1, 2, 6, 256]))),
        (b"eXIf", rng.choice([b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff" + rng.randbytes(40)])),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(rng.choice([0, 100, 10**7])))),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(rng.choice([0, 100, 10**8 if rng.random() < 0.1 else 9])))),
        (b"iTXt", rng.randbytes(30)),
        (b"gAMA", rng.randbytes(rng.choice([0, 4]))),
        (b"acTL", struct.pack(">II", rng.choice([0, 1, 2, 2**31]), 0)),
        (b"fcTL", rng.randbytes(26)),
        (b"pHYs", rng.randbytes(rng.choice([0, 9]))),
        (b"sBIT", rng.randbytes(3)),
        (rng.randbytes(4), rng.randbytes(5)),
    ]
    for chunk in rng.sample(more, rng.choice([0, 0, 1, 2, 4])):
        chunks.insert(rng.randint(1, len(chunks) - 1), chunk)
    if colour == 3 and rng.random() < 0.8:
        chunks.insert(1, (b"PLTE", rng.randbytes(768)))
    if rng.random() < 0.15:
        rng.shuffle(chunks)
    if rng.random() < 0.15:
        del chunks[rng.randrange(len(chunks))]
    return png(chunks)


def odd_tiff(rng: Random) -> bytes:
    """Return a TIFF of random tags, most of them as they should be."""
    width, height = rng.randint(1, 30), rng.randint(1, 30)
    bits, samples = rng.choice([1, 2, 4, 8, 12, 16, 24, 32, 64]), rng.choice([1, 1, 1, 3, 4, 2, 5])
    pixels = rng.randbytes((width * bits * samples + 7) // 8 * height)
    order, compressions = rng.choice("<>"), [1, 1, 1, 5, 7, 8, 32773, 4, 50000, 34925]
    tags: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [bits] * samples, 259: [rng.choice(compressions)],
        262: [rng.choice([0, 1, 2, 3, 5, 6, 8, 32803])], 273: [8], 277: [samples], 278: [height],
        279: [len(pixels)],
    }  # fmt: skip
    extra = {
        284: [1, 2],
        339: [1, 2, 3, 4],
        317: [1, 2, 3],
        338: [0, 1, 2],
        266: [1, 2],
        274: [1, 3, 6, 9],
        322: [16],
        323: [16],
        324: [8],
        320: [1],
    }
    for tag in rng.sample(sorted(extra), rng.choice([0, 0, 1, 2])):
        tags[tag] = [rng.choice(extra[tag])]
    for _ in range(rng.choice([0, 0, 1, 2])):
        tag = rng.choice(sorted(tags))
        if rng.random() < 0.3:
            del tags[tag]
        else:
            tags[tag] = [rng.choice(NUMBERS) % 2**32] * rng.choice([0, 1, 1, 2])
    entries, place = b"", 8 + len(pixels) + 2 + 12 * len(tags) + 4
    tail = b""
    for tag, values in sorted(tags.items()):
        kind = 4 if any(value > 65_535 for value in values) else rng.choice([3, 4])
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            tail, packed = tail + packed, struct.pack(order + "I", place + len(tail))
        entries += struct.pack(
            order + "HHI", tag, rng.choice([kind] * 20 + [1, 2, 5, 12, 99]), len(values)
        ) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels))
    return (
        head
        + pixels
        + struct.pack(order + "H", len(tags))
        + entries
        + struct.pack(order + "I", rng.choice([0, 0, 0, 8]))
        + tail
    )


def odd_netpbm(rng: Random) -> bytes:
    width, height, top = (rng.choice([0, 1, 5, 20, 20, 10**5, 10**12, -3]) for _ in range(3))
    head = rng.choice(["P1", "P2", "P3", "P4", "P5", "P6", "P7", "Pf", "PF", "P0"])
    text = f"{head} {width} {height} {rng.choice([255, 65_535, 1, 70_000, top, '', '-1.0'])}\n"
    return text.encode() + rng.choice([rng.randbytes(1600), b"1 2 3 300 x " * 50, b"0 1 " * 400])


@cache
def bomb(number: int) -> bytes:
    """Return a small file of many pixels."""
    side = 9459 if number < 3 else 7000
    kinds = {0: np.uint16, 3: np.uint8, 4: np.uint8, 5: np.float32}
    row = np.linspace(0, 255, side).astype(kinds.get(number, np.uint8))
    if number == 1:  # more pixels than are read
        return png(
            [
                (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)),
                (b"IDAT", zlib.compress(bytes(10**6))),
            ]
        )
    buffer = io.BytesIO()
    if number == 2:  # RGB of 16 bits
        pixels = zlib.compress(bytes(1 + 6 * 4000) * 4000, 1)
        return png(
            [
                (b"IHDR", struct.pack(">IIBBBBB", 4000, 4000, 16, 2, 0, 0, 0)),
                (b"IDAT", pixels),
                (b"IEND", b""),
            ]
        )
    image = Image.fromarray(np.tile(row, (side, 1)))
    image.save(
        buffer,
        {4: "JPEG", 5: "TIFF"}.get(number, "PNG"),
        **({"compression": "tiff_lzw"} if number == 5 else {}),
    )
    return buffer.getvalue()


def image_file(rng: Random, is_mask: bool, shape: tuple[int, int] | None = None) -> bytes:
    """Return an image or a mask file, most of them damaged."""
    kind = rng.random()
    if kind < 0.12 and shape is None:
        data = odd_png(rng)
    elif kind < 0.2 and shape is None:
        data = odd_tiff(rng)
    elif kind < 0.23 and shape is None:
        data = odd_netpbm(rng)
    elif kind < 0.27:
        data = rng.choice(FOREIGN) + rng.choice([b"", rng.randbytes(300), bytes(5000)])
    elif kind < 0.275 and shape is None:
        return bomb(rng.randrange(6))
    else:
        data = picture(rng, is_mask, shape)
    return damage(data, rng) if rng.random() < 0.4 else data


def file_name(rng: Random, data: bytes) -> str:
    """Return the name of an image, often with the suffix of another format."""
    heads = {
        b"\x89PNG": ".png",
        b"\xff\xd8\xff": ".jpg",
        b"II": ".tif",
        b"MM": ".tif",
        b"BM": ".bmp",
        b"GIF": ".gif",
    }
    right = next((suffix for head, suffix in heads.items() if data.startswith(head)), ".png")
    return "image" + (right if rng.random() < 0.6 else rng.choice(SUFFIXES))


def try_image(rng: Random, place: Path) -> None:
    from usrl.data.reading.files import has_more_than_8_bits, read_gray, read_shape

    data = image_file(rng, is_mask=False)
    path = place / file_name(rng, data)
    path.write_bytes(data)
    shape = read_shape(path)
    image = read_gray(path)
    assert image.dtype == np.uint8
    assert image.shape == shape
    has_more_than_8_bits(path)


def try_mask(rng: Random, place: Path) -> None:
    from usrl.data.reading.files import read_classes, read_labels, read_mask

    data = image_file(rng, is_mask=True)
    path = place / file_name(rng, data)
    path.write_bytes(data)
    for read in (read_mask, lambda path: read_classes(path, (1, 2)), lambda path: read_classes(path, (1,))):
        with contextlib.suppress(UserError):
            read(path)
    read_labels(path)


# --- Folders of images, and their tables ---


def disk(shape: tuple[int, int], centre: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def png_of(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def pair(number: int, value: int = 255) -> tuple[bytes, bytes]:
    """Return a small image and its mask."""
    mask = disk((24, 32), (10 + number, 14), 6)
    return png_of(60 + 90 * mask + 3 * number), png_of(value * mask)


def folder_files(rng: Random) -> dict[str, bytes]:
    value = rng.choice([255, 1])
    pairs = {f"case {number}": pair(number, value) for number in range(4)}
    files = {f"images/{name}.png": image for name, (image, _) in pairs.items()}
    files |= {f"masks/{name}.png": mask for name, (_, mask) in pairs.items()}
    if rng.random() < 0.6:
        files["groups.csv"] = "".join(
            ["name,group\n", *(f"{name},p{i // 2}\n" for i, name in enumerate(pairs))]
        ).encode()
    if rng.random() < 0.4:
        files["structures.csv"] = b"number,name\n1,nerve\n2,vessel\n"
    return files


def busi_files(rng: Random) -> dict[str, bytes]:
    files = {}
    for number, label in enumerate(["benign", "malignant", "normal"]):
        image, mask = pair(number)
        files |= {f"{label}/{label} (1).png": image, f"{label}/{label} (1)_mask.png": mask}
    return files | {"benign/benign (1)_mask_1.png": files["benign/benign (1)_mask.png"]}


def usgra_files(rng: Random) -> dict[str, bytes]:
    pairs = {f"{number:04d}": pair(number, 1) for number in range(3)}
    files = {f"dataset/images/{name}.png": image for name, (image, _) in pairs.items()}
    return files | {f"dataset/masks/{name}.png": mask for name, (_, mask) in pairs.items()}


def hc18_files(rng: Random) -> dict[str, bytes]:
    rows = ["filename,pixel size(mm),head circumference (mm)\n"]
    files = {}
    for number, radius in enumerate([30, 36]):
        outline = disk((90, 110), (45, 55), radius + 1) & ~disk((90, 110), (45, 55), radius - 1)
        name = f"{number:03d}_HC"
        files |= {
            f"training_set/{name}.png": png_of(outline * 9),
            f"training_set/{name}_Annotation.png": png_of(255 * outline),
        }
        rows.append(f"{name}.png,0.1,{0.2 * np.pi * radius:.3f}\n")
    return files | {"training_set_pixel_size_and_HC.csv": "".join(rows).encode()}


def ddti_files(rng: Random) -> dict[str, bytes]:
    points = [{"x": 4, "y": 3}, {"x": 20, "y": 4}, {"x": 15, "y": 18}]
    regions = [{"points": points, "annotation": {}, "regionType": rng.choice(["freehand"] * 5 + ["arrow"])}]
    mark = f"<mark><image>1</image><svg>{json.dumps(regions * rng.choice([1, 2, 40]))}</svg></mark>"
    files = {}
    for number in range(1, 4):
        case = f"<case><number>{number}</number><tirads>4a</tirads>{mark}</case>".encode()
        place = rng.randrange(len(case))
        if rng.random() < 0.3:
            case = rng.choice([case[:place], case[:place] + rng.randbytes(3) + case[place:], b""])
        files |= {f"{number}.xml": case, f"{number}_1.jpg": pair(number)[0]}
    return files


def bus_bra_files(rng: Random) -> dict[str, bytes]:
    rows, folds = ["ID,Case,Pathology,BIRADS,Width,Height\n"], ["ID,kFold\n"]
    files = {}
    for number in range(3):
        image, mask = pair(number)
        files |= {f"Images/bus_{number:04d}-l.png": image, f"Masks/mask_{number:04d}-l.png": mask}
        rows.append(f"bus_{number:04d}-l,{number // 2},benign,3,32,24\n")
        folds.append(f"bus_{number:04d}-l,{number // 2 + 1}\n")
    return files | {"bus_data.csv": "".join(rows).encode(), "5-fold-cv.csv": "".join(folds).encode()}


def cva_net_files(rng: Random) -> dict[str, bytes]:
    images = [{"id": number, "file_name": f"benign/v/{number:06d}.png"} for number in range(3)]
    boxes = [
        {"image_id": number, "category_id": 1, "bbox": [4, 3, rng.choice([9, -3, 0, 1e9]), 8]}
        for number in range(3)
    ]
    tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "benign"}]}
    text = json.dumps(tree).encode()
    place = rng.randrange(len(text))
    if rng.random() < 0.6:
        odd = rng.choice([b"", b"null", b"[]", b"{}", b"-1", b'"', b"1e400", b"\xff", b"..", b"\\u0000"])
        text = text[:place] + odd + text[place + rng.choice([0, 1, 5]) :]
    files = {f"rawframes/{image['file_name']}": pair(number)[0] for number, image in enumerate(images)}
    return files | {"imagenet_vid_val.json": text}


def camus_files(rng: Random) -> dict[str, bytes]:
    import nibabel

    files = {"patient0001/Info_2CH.cfg": b"ImageQuality: Good\n"}
    for view, instant in itertools.product(("2CH", "4CH"), ("ED", "ES")):
        for suffix, top in (("", 255), ("_gt", 3)):
            values = np.full((20, 16), top, np.uint8)
            values[:9] = 0
            data = bytearray(nibabel.Nifti1Image(values, np.diag([0.3, 0.2, 1.0, 1.0])).to_bytes())
            if rng.random() < 0.3:
                for _ in range(rng.choice([1, 3])):
                    data[rng.randrange(352)] = rng.randrange(256)
            if rng.random() < 0.1:
                del data[rng.randrange(len(data)) :]
            name = f"patient0001/patient0001_{view}_{instant}{suffix}.nii.gz"
            files[name] = gzip.compress(bytes(data)) if rng.random() < 0.5 else bytes(data)
    return files


def try_folder(name: str, make: Callable[[Random], dict[str, bytes]], rng: Random, place: Path) -> None:
    """Damage one or two files of a data set, check it and load it."""
    from usrl.data.catalogue import check_dataset, load_split
    from usrl.data.recipe import DataRecipe

    files = make(rng)
    tables = [path for path in files if path.endswith(".csv")]
    for _ in range(rng.choice([1, 1, 2])):
        images = sorted(path for path in files if not path.endswith((".xml", ".json", ".nii.gz", ".cfg")))
        if not images:
            break
        path = rng.choice(tables) if tables and rng.random() < 0.6 else rng.choice(images)
        if path.endswith(".csv"):
            files[path] = table_of(files[path].decode(errors="replace"), rng)
        elif rng.random() < 0.1:
            del files[path]
        elif rng.random() < 0.1:
            renamed = str(
                Path(path).with_name(
                    rng.choice(
                        ["e\u0301.png", "é.png", "a b.PNG", "=1.png", ".png", "a.b.png", "000_2HC.png"]
                    )
                )
            )
            files[renamed] = files.pop(path)
        else:
            shape = rng.choice([(24, 32), None])
            files[path] = image_file(rng, "mask" in path or "Annot" in path, shape)
        tables = [path for path in files if path.endswith(".csv")]
    write_files(place, files)
    usual = {"usgra": "nerve", "camus": "atrium"}.get(name)
    structure = rng.choice([usual] * 8 + ["nerve", "1", "2", "é", None])
    data = DataRecipe(name=name, root=str(place), structure=structure)
    report = check_dataset(data)
    report.lines()
    load_split(data, rng.choice(["all", "train"]))
    assert report.is_sound


HEADER_FIELDS = (
    *((place, "<h") for place in (0, *range(40, 56, 2), 70, 72, 252, 254)),
    *((place, "<f") for place in (*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4))),
    (123, "<B"),
)
"""Where a NIfTI header has numbers of sizes, types, spacing and orientation, and how they are packed."""


@cache
def label_volume(number: int) -> bytes:
    """Return a small volume of three tissues, as NIfTI."""
    import nibabel

    values = np.ones((30, 24, 20), np.uint8)
    values[8:22, 8 + number : 15, 7:12] = 2
    values[:, 20:] = 0
    return nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 2.0, 1.0])).to_bytes()


def spoiled_volume(data: bytes, rng: Random) -> bytes:
    """Return a NIfTI file with wrong numbers in its header, damage, or another packing."""
    changed = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        place, form = rng.choice(HEADER_FIELDS)
        value = rng.choice(FRACTIONS if form == "<f" else NUMBERS)
        size = struct.calcsize(form)
        if form == "<f":
            changed[place : place + size] = np.array(value, np.float64).astype("<f4").tobytes()
        else:
            changed[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    spoiled = bytes(changed)
    if rng.random() < 0.4:
        spoiled = damage(spoiled, rng)
    if rng.random() < 0.7:
        spoiled = gzip.compress(spoiled, 1)
        if rng.random() < 0.1:
            spoiled += gzip.compress(bytes(2**24), 1) * rng.choice([1, 40])
        if rng.random() < 0.2:
            spoiled = damage(spoiled, rng)
    return spoiled


def try_volumes(rng: Random, place: Path) -> None:
    """Damage volumes, their table or their groups, check them and load them."""
    from usrl.data.catalogue import check_dataset, load_cases
    from usrl.data.recipe import DataRecipe

    files = {f"labels/{name}.nii": label_volume(number) for number, name in enumerate("abc")}
    table = "skin: anterior\ntissues:\n  0: outside\n  1: organ\n  2: lesion\n"
    files["tissues.yaml"] = table.encode()
    if rng.random() < 0.3:
        files["groups.csv"] = table_of("name,group\na,p1\nb,p1\nc,p2\n", rng)
    what = rng.random()
    if what < 0.7:
        name = rng.choice("abc")
        suffix = rng.choice([".nii", ".nii.gz", ".NII"])
        files[f"labels/{name}{suffix}"] = spoiled_volume(files.pop(f"labels/{name}.nii"), rng)
    elif what < 0.9:
        files["tissues.yaml"] = spoiled_yaml(table, rng)
    write_files(place, files)
    data = DataRecipe(name="volumes", root=str(place))
    report = check_dataset(data)
    report.lines()
    try:
        load_cases(data, "all")
    except UserError:
        assert not report.is_sound
        raise
    assert report.is_sound


@cache
def clip_files() -> dict[str, bytes]:
    """Return small clips of every container, and of several kinds of DICOM."""
    from data.clip_builders import moving_bar, write_dicom, write_video  # tests/data

    frames, kinds = moving_bar(6), {"mp4": "mp4v", "mov": "mp4v", "avi": "MJPG", "mpg": "mp1v"}
    colour = np.stack([frames, frames // 2, frames // 3], axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for suffix, codec in kinds.items():
            write_video(place / f"a.{suffix}", frames, fps=25, codec=codec)
        write_dicom(place / "gray.dcm", frames, FrameTime="40", PixelSpacing=[0.2, 0.2], PatientID="7")
        write_dicom(place / "deep.dcm", frames.astype(np.uint16) * 9, "MONOCHROME1")
        write_dicom(place / "colour.dcm", colour, "RGB", CineRate="25")
        write_dicom(place / "jpeg.dcm", colour, "YBR_FULL_422", jpeg=True)
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def spoiled_clip(data: bytes, rng: Random) -> bytes:
    """Return a clip with damage, at times where its container says how long, large or fast it is."""
    changed = bytearray(data)
    names = [
        name
        for name in (b"stts", b"stsz", b"stsc", b"stco", b"mvhd", b"tkhd", b"avih", b"strh")
        if name in data
    ]
    for _ in range(rng.choice([0, 1, 1, 3]) if names else 0):
        place = data.index(rng.choice(names)) + rng.randrange(0, 40)
        changed[place : place + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS) % 2**32)
    return damage(bytes(changed), rng) if not names or rng.random() < 0.5 else bytes(changed)


def try_clip(rng: Random, place: Path) -> None:
    """Read a damaged clip, whole or letterboxed, and at times under the suffix of another kind."""
    from usrl.data.clips.reading import read_clip

    name = rng.choice(sorted(clip_files()))
    data = spoiled_clip(clip_files()[name], rng)
    if rng.random() < 0.1:
        name = Path(name).stem + rng.choice([".mp4", ".avi", ".dcm", ".mpg", ""])
    (place / name).write_bytes(data)
    clip = read_clip(place / name, rng.choice([None, 16, 64]))
    assert len(clip.frames) >= 2
    assert clip.fps > 0


@cache
def clip_folders() -> dict[str, dict[str, bytes]]:
    """Return small data sets of clips by name."""
    videos = clip_files()
    tables = {
        "groups.csv": b"name,group\na,p1\nb,p1\nc,p2\n",
        "labels.csv": b"name,severity,b_lines\na,2,1\nb,0,0\nc,3,1\n",
        "informative.csv": b"name,frame\na,0\na,5\nb,2\nc,1\n",
    }
    own = {"clips/a.mp4": videos["a.mp4"], "clips/b.dcm": videos["gray.dcm"]}
    own |= {f"clips/c/{number}.png": png_of(disk((40, 48), (20, 24), 9) * 200) for number in range(6)}
    rows = "patient_1_L1,2.0,no,yes ,\npatient_2_R1,0.0,yes,no,\npatient_3_L2,3.0,no,no,none\n"
    covid = {f"lus_videos/patient_{name}.mp4": videos["a.mp4"] for name in ("1_L1", "2_R1")}
    covid["severity.csv"] = f"video_file,Severity Score,A-lines,B-lines,comments\n{rows}".encode()
    return {"clips": own | tables, "covid-blues": covid}


def try_clip_folder(rng: Random, place: Path) -> None:
    """Damage a table or a file of a data set of clips, check it and load it."""
    from usrl.data.catalogue import check_dataset, load_cases
    from usrl.data.recipe import DataRecipe

    name = rng.choice(sorted(clip_folders()))
    files = dict(clip_folders()[name])
    for table in [path for path in files if path.endswith(".csv")]:
        if name == "clips" and rng.random() < 0.4:
            del files[table]
    path = rng.choice([path for path in files if path.endswith(".csv")] or sorted(files))
    if path.endswith(".csv"):
        files[path] = table_of(files[path].decode(), rng)
    elif rng.random() < 0.3:
        del files[path]
    else:
        files[path] = damage(files[path], rng)
    write_files(place, files)
    data = DataRecipe(name=name, root=str(place), size=16)
    report = check_dataset(data)
    report.lines()
    try:
        load_cases(data, "all")
    except UserError:
        assert not report.is_sound
        raise
    assert report.is_sound


@cache
def readable_files() -> dict[str, bytes]:
    """Return small images and label maps of the kinds that scanners and research tools write."""
    import nibabel
    import SimpleITK as sitk  # noqa: N813
    from data.clip_builders import moving_bar, region, write_dicom  # tests/data
    from pydicom.sequence import Sequence as Items

    gray = moving_bar(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        regions = Items([region(4, 3, 30, 25, (0.02, 0.03)), region(0, 0, 9, 9, (0.1, 0.1))])
        write_dicom(place / "scan.dcm", gray[None], SequenceOfUltrasoundRegions=regions)
        write_dicom(place / "deep.dcm", gray[None].astype(np.uint16) * 9, PixelSpacing=[0.2, 0.2])
        colour = np.stack([gray, gray // 2, gray // 3], axis=-1)
        write_dicom(place / "jpeg.dcm", colour[None], "YBR_FULL_422", jpeg=True)
        for number, values in enumerate((gray, gray.astype(np.int16), gray // 200, gray[None] / 2)):
            image = sitk.GetImageFromArray(values)
            image.SetSpacing((0.2, 0.3, 1.0)[: values.ndim])
            for suffix in ("nrrd", "mha"):
                sitk.WriteImage(image, str(place / f"itk{number}.{suffix}"), bool(number % 2))
            plane = nibabel.Nifti1Image(values.T, np.diag([0.2, 0.3, 1.0, 1.0]))
            nibabel.save(plane, place / f"plane{number}.nii")
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(place / "colour.mha"))
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def try_readable(rng: Random, place: Path) -> None:
    """Read a damaged image of any kind, by its own levels or a window, and as a label map."""
    from usrl.data.reading.files import read_classes, read_labels
    from usrl.data.reading.images import open_image, read_image

    name = rng.choice(sorted(readable_files()))
    data = readable_files()[name]
    end = max(data.find(b"\n\n"), data.find(b"LOCAL") + 5, 400)
    if name.endswith((".nrrd", ".mha")) and rng.random() < 0.4:
        data = reworded(data[:end].decode("latin-1"), rng).encode("utf-8", "replace") + data[end:]
    elif name.endswith(".nii") and rng.random() < 0.6:
        data = spoiled_volume(data, rng)
    else:
        data = damage(data[:end], rng) + data[end:] if rng.random() < 0.5 else damage(data, rng)
    if rng.random() < 0.1:
        name = Path(name).stem + rng.choice([".nii.gz", ".mha", ".nrrd", ".dcm", ".png", ""])
    (place / name).write_bytes(data)
    for read in (read_labels, lambda path: read_classes(path, (1, 2))):
        with contextlib.suppress(UserError):
            read(place / name)
    opened = open_image(place / name)
    image, file = read_image(place / name, rng.choice([None, (0.0, 200.0), (-5.0, 1e9)]))
    assert image.dtype == np.uint8
    assert image.shape == file.shape == opened.shape
    assert file.frame.place(image > 100).shape == file.frame.shape


SQUARE = ((3, 4), (20, 4), (20, 15), (3, 15))


def annotation_files() -> dict[str, dict[str, str]]:
    """Return annotations of a.png and b.png, 32 x 24 px, in every format, by the file's path."""
    sides, points = [side for point in SQUARE for side in point], [list(point) for point in SQUARE]
    runs, packed = [24 * 5, 100, 24 * 27 - 100], {"size": [24, 32], "counts": "h3T3Ta0"}
    coco = {
        "images": [{"id": k, "file_name": f"{n}.png", "width": 32, "height": 24} for k, n in enumerate("ab")],
        "categories": [{"id": 1, "name": "nerve"}, {"id": 2, "name": "vessel"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [sides], "bbox": [3, 4, 17, 11]},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [24, 32], "counts": runs}},
            {
                "id": 3,
                "image_id": 1,
                "category_id": 2,
                "segmentation": packed,
            },
        ],
    }
    mask = base64.b64encode(png_of(np.ones((6, 9), np.uint8) * 255)).decode()
    shapes = [
        {"label": "lesion", "points": points, "shape_type": "polygon"},
        {"label": "lesion", "points": [[9, 9], [12, 9]], "shape_type": "circle"},
        {"label": "cyst", "points": [[20, 16], [28, 21]], "shape_type": "mask", "mask": mask},
    ]
    labelme = {
        f"{name}.json": json.dumps(
            {"imagePath": f"{name}.png", "imageWidth": 32, "imageHeight": 24, "shapes": shapes}
        )
        for name in "ab"
    }
    drawn = (
        '<polygon label="a" points="3,4;20,4;20,15;3,15" z_order="0"/>'
        '<ellipse label="a" cx="9" cy="9" rx="4" ry="3" rotation="20.5" z_order="1"/>'
        '<mask label="b" rle="1, 2, 3" left="25" top="20" width="3" height="2" z_order="2"/><tag label="c"/>'
    )
    images = "".join(f'<image name="{name}.png" width="32" height="24">{drawn}</image>' for name in "ab")
    return {
        "coco": {"coco.json": json.dumps(coco)},
        "labelme": labelme,
        "cvat": {"cvat.xml": f"<annotations>{images}</annotations>"},
        "voc": {
            "Annotations/a.xml": "<annotation><object/></annotation>",
            "labelmap.txt": "background:0,0,0::\nnerve:255,255,255::\n",
            "class_names.txt": "_background_\nnerve\n",
        },
    }


def try_import(rng: Random, place: Path) -> None:
    """Import damaged annotations, and load the data set that they become."""
    from usrl.data.catalogue import DATASETS
    from usrl.data.importing.folder import import_annotations
    from usrl.data.recipe import DataRecipe

    kind, texts = rng.choice(list(annotation_files().items()))
    files = {f"images/{name}.png": pair(number)[0] for number, name in enumerate("ab")}
    for name, text in texts.items():
        if name.endswith(".json") and rng.random() < 0.6:
            text = json_text(grafted(json.loads(text), rng), rng)
        elif rng.random() < 0.5:
            text = reworded(text, rng)
        data = encoded(text, rng) if rng.random() < 0.3 else text.encode("utf-8", "surrogatepass")
        files[f"marks/{name}"] = damage(data, rng) if rng.random() < 0.2 else data
    if kind == "voc":
        names = ["class_names.txt", "labelmap.txt"]
        del files[f"marks/{rng.choice(names)}"]
        for number, name in enumerate("ab"):
            mask = pair(number, 1 if "marks/class_names.txt" in files else 255)[1]
            path = f"marks/SegmentationClass/{name}.png"
            files[path] = mask if rng.random() < 0.7 else image_file(rng, True, (24, 32))
    write_files(place, files)
    source = place / "marks" / (next(iter(texts)) if kind in ("coco", "cvat") else "")
    options = {"empty": rng.choice(["keep", "leave-out", None]), "overlap": rng.choice(["later", None])}
    done = import_annotations(kind, source, place / "images", place / "out", **options)
    samples = DATASETS["folder"].load(DataRecipe(name="folder", root=str(place / "out")), "all")
    assert len(samples) == done.images


def try_published(rng: Random, place: Path) -> None:
    """Split images by a damaged table."""
    from usrl.data.sample import Sample
    from usrl.data.split_files import format_split, read_split

    gray, mask = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.bool_)
    samples = [Sample(gray + k, mask, None, f"case {k}", f"p{k // 2}", "a") for k in range(6)]
    text = format_split(samples, {"train": [0, 1, 2, 3], "val": [4], "test": [5]}).decode()
    (place / "split.csv").write_bytes(table_of(text, rng))
    split = read_split(place / "split.csv", samples)
    assert sorted(index for part in split.values() for index in part) == list(range(6))


def table_of(text: str, rng: Random) -> bytes:
    """Return a CSV as a spreadsheet, an editor or an accident may leave it."""
    if rng.random() < 0.25:
        text = text.replace(",", rng.choice([";", "\t", ", ", "|", ",,", " , "]))
    if rng.random() < 0.15:
        rows = [line.split(",") for line in text.splitlines()]
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL, delimiter=rng.choice(",;\t")).writerows(rows)
        text = buffer.getvalue()
    if rng.random() < 0.03:
        text += "x,1,2,3,4\n" * 20_000
    text = reworded(text, rng) if rng.random() < 0.7 else text
    data = encoded(text, rng)
    return damage(data, rng) if rng.random() < 0.2 else data


# fmt: off
METHODS = (
    "otsu", "otsu-box", "multi-otsu", "adaptive", "chan-vese", "geodesic", "grabcut", "random-walker",
    "watershed", "proposal",
)
# fmt: on


def try_boxes(rng: Random, place: Path) -> None:
    """Segment an image with boxes that a table names, or those of a command line."""
    from usrl.data.prompts import parse_box, read_boxes
    from usrl.evaluation.segmentation import segment_files

    path, table = place / "a.png", place / "boxes.csv"
    path.write_bytes(pair(0)[0] if rng.random() < 0.7 else image_file(rng, is_mask=False))
    rows = [
        f"a.png,{rng.randint(-1, 12)},{rng.randint(-1, 8)},{rng.randint(12, 33)},{rng.randint(8, 25)}\n"
        for _ in range(rng.choice([1, 1, 2]))
    ]
    text = "image,x0,y0,x1,y1\n" + "".join(rows)
    table.write_bytes(table_of(text, rng) if rng.random() < 0.7 else text.encode())
    if rng.random() < 0.2:
        parse_box(reworded("1,2,10,12", rng))
    method = rng.choice(METHODS)
    boxes = {} if method == "otsu" else read_boxes(table)
    spacing = rng.choice([None, None, (0.1, 0.2), (0.0, 1.0), (float("nan"), 1.0), (1e-300, 1e300)])
    segment_files(usrl.open_segmenter(method, "cpu"), [path], boxes, place / "out", spacing)


def try_cases(rng: Random, place: Path) -> None:
    """Read what a foreign method has scored, or its masks."""
    import warnings

    from usrl.data.sample import Sample
    from usrl.evaluation.foreign import MaskFolder, read_cases

    mask = disk((24, 32), (12, 16), 6)
    samples = [Sample(mask.astype(np.uint8), mask, None, name, "a", "drawn") for name in ("a", "=b")]
    table, folder = place / "cases.csv", place / "masks"
    text = "case,method,dice,hd95_px,remark\na,m,0.5,1.5,x\n'=b,m,1.0,2,y\n"
    table.write_bytes(table_of(text, rng))
    folder.mkdir()
    for name in ("a", "=b"):
        shape = rng.choice([(24, 32), (24, 32), None])
        (folder / f"{name}.png").write_bytes(image_file(rng, is_mask=True, shape=shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if rng.random() < 0.7:
            cases = read_cases(table, samples)
            assert len(cases) % 2 == 0
            assert all(0 <= case["dice"] <= 1 for case in cases)
        else:
            method = MaskFolder("m", folder, samples)
            assert all(method.segment_sample(s, None).mask.dtype == bool for s in samples)


def try_proposals(rng: Random, place: Path) -> None:
    from usrl.data.sample import Sample
    from usrl.networks.proposals import read_proposals

    mask = disk((24, 32), (12, 16), 6)
    sample = Sample(mask.astype(np.uint8), mask, None, "a", "a", "drawn")
    (place / "a.png").write_bytes(image_file(rng, is_mask=True, shape=rng.choice([(24, 32), None])))
    read_proposals(place, [sample])


# --- Recipes ---

# fmt: off
SNIPPETS = (
    "!!bool abc", "!!timestamp abc", "!!python/object:os.system x", "!!int x", "!!float .", "!!binary ???",
    "!!null x", "!!set {a}", "!!omap [a]", "!<tag:x> y", "!a", "&a [*a]", "&a 1", "*b", "<<: {a: 1}",
    "{<<: 1}", "2001-13-45", "2001-02-03", "12:30:45", "0x", "0xffffffffffffffffffff", "0o9", "0b2",
    "1_000", ".inf", "-.inf", ".nan", "9" * 5000, "1e400", "1e-400", "-", "? [a]", "{[1]: 2}", "{1: 2}",
    "{null: 1}", "{true: 1}", "{1.5: 1, 1.5: 2}", "{a: 1, a: 2}", "|\n  text", ">-\n x", "'open", '"\\x',
    '"\\ud800"', "%YAML 3.0\n---\n", "%TAG ! x\n", "--- a\n--- b", "...", "\t", "[" * 20_000, "{a: " * 500,
    "- " * 2000, "a: " * 60, "@x", "`x`", "\ufeff", "\x07", "\x85", "# " + "x" * 600_000,
    "[" + "1, " * 50_000 + "1]", "[[[[[[[[[[1]]]]]]]]]]", "key: value: more", "? ", ": ", "{a, b}",
    "[a: 1]", "''", "~", "=", "<<",
)
# fmt: on


@cache
def names() -> dict[str, list[Any]]:
    """Return plausible values by the key of a recipe."""
    import sb3_contrib
    import stable_baselines3

    from usrl.networks.models import _BUILDERS
    from usrl.registry import REGISTRY

    found = {
        name.lower()
        for module in (stable_baselines3, sb3_contrib)
        for name in vars(module)
        if name[0].isupper()
    }
    policies = (
        "ContourPolicy MlpPolicy CnnPolicy MultiInputPolicy MlpLstmPolicy CnnLstmPolicy TablePolicy"
    ).split()
    return {
        "kind": ["agent", "network", "judge"],
        "id": sorted(REGISTRY),
        "name": ["phantom", "busi", "hc18", "usgra", "folder", "usgra-vessels"],
        "algorithm": [*sorted(found), "bc", "ppo-device", "q-learning"] * 2,
        "policy": policies,
        "network": [*_BUILDERS, "os:system", "torch.nn:Identity"],
        "prompt": ["none", "box", "crop"],
        "precision": ["float32", "bfloat16", "auto"],
        "init_from": ["contour-ppo", "contour-bc", "unet-phantom", "unet-prompted", "judge-phantom", "unet"],
        "refiner": ["contour-ppo", "unet-phantom", None],
        "proposals": ["/tmp", "contour-ppo"],
        "root": ["/tmp", "."],
        "observation": ["profile", "profile+start", "image", "features"],
        "scale": ["pixel", "proposal"],
        "parametrization": ["vertices", "fourier"],
        "reward": ["dice", "iou", "dice+boundary"],
        "proposal": ["box", "target", "network"],
        "roi": ["box", "network", "image"],
        "action": ["raster", "box"],
    }


@cache
def inner_keys() -> dict[str, list[str]]:
    """Return names that the open mappings of an agent's recipe take."""
    import inspect

    from usrl.agents.algorithms import find_algorithm
    from usrl.learners import load_object
    from usrl.registry import REGISTRY

    settings = {key for row in REGISTRY.values() for key in load_object(row.settings).model_fields}
    known = [name for name in names()["algorithm"] if not _is_unknown(find_algorithm, name)]
    arguments = {key for name in known for key in inspect.signature(find_algorithm(name)).parameters}
    policy = (
        "width layers log_std_init share_features_extractor net_arch activation_fn ortho_init use_sde"
    ).split()
    policy += (
        "n_critics lstm_hidden_size n_lstm_layers n_quantiles optimizer_class "
        "optimizer_kwargs full_std features_extractor_class"
    ).split()
    return {
        "env.kwargs": sorted(settings),
        "hyperparameters": sorted({*arguments, "epsilon_start", "teacher_share"}),
        "policy_kwargs": policy,
    }


def _is_unknown(find: Callable[[str], Any], name: str) -> bool:
    try:
        return find(name) is None
    except UserError:
        return True


@cache
def base_recipes() -> list[dict[str, Any]]:
    """Return the trees of recipes that are sound, small ones and those that come with usrl."""
    from usrl.runs.recipes import load_recipe
    from usrl.runs.shipped import list_shipped

    shipped = [load_recipe(name).model_dump(exclude={"search"}) for name in list_shipped()]
    return [json.loads(json.dumps(tree)) for tree in shipped]


def sensible(key: str, old: Any, rng: Random) -> Any:
    """Return a value of the kind that a key has."""
    last = key.rpartition(".")[2]
    if last in names() and rng.random() < 0.9:
        return rng.choice(names()[last])
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice([0, 1, 2, int(10 ** rng.uniform(0, 4)), int(10 ** rng.uniform(0, 10))])
    if isinstance(old, float):
        return rng.choice([0.0, 0.5, 1.0, 10 ** rng.uniform(-6, 3)])
    if isinstance(old, list) and old:
        return [sensible("", rng.choice(old), rng) for _ in range(rng.choice([1, 2, 4, 5, 8, 9]))]
    number = rng.choice(
        [0, 1, 3, 40, 1000, int(10 ** rng.uniform(0, 9)), 0.5, 1e-4, "lin_1e-3", "auto", True, None]
    )
    return rng.choice([number, number, wild(rng)])


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        yield f"{prefix}{key}", value


def changes(tree: dict[str, Any], rng: Random) -> dict[str, Any]:
    """Return values by dotted keys of a recipe, to change."""
    known = dict(flat(tree))
    found = {}
    for _ in range(rng.choice([1, 1, 2, 3])):
        key = rng.choice(sorted(known))
        if tree["kind"] == "agent" and rng.random() < 0.5:
            group = rng.choice(sorted(inner_keys()))
            key = f"{group}.{rng.choice(inner_keys()[group])}"
        if rng.random() < 0.05:
            key = rng.choice(
                [
                    key + ".a",
                    key[:-1],
                    "." + key,
                    key + ".",
                    "",
                    "a.b.c",
                    "search",
                    "x" * 5000,
                    "search." + key,
                ]
            )
        found[key] = sensible(key, known.get(key), rng) if rng.random() < 0.7 else wild(rng)
    return found


def search_range(rng: Random) -> Any:
    def number() -> Any:
        return rng.choice(
            [rng.choice(NUMBERS), rng.choice(FRACTIONS), rng.randint(1, 50), 10 ** rng.uniform(-5, 2)]
        )

    tree: dict[str, Any] = {"low": number(), "high": number()}
    if rng.random() < 0.4:
        tree["step"] = number()
    if rng.random() < 0.3:
        tree["log"] = rng.choice([True, True, 1, "yes"])
    if rng.random() < 0.2:
        tree["prefix"] = rng.choice(["lin_", "", "x", 3])
    if rng.random() < 0.25:
        tree = {"choices": [wild(rng) for _ in range(rng.choice([0, 1, 2, 5]))]}
    return tree if rng.random() < 0.8 else grafted(tree, rng)


def spoiled_yaml(text: str, rng: Random) -> bytes:
    """Return YAML with something strange in it."""
    kind = rng.random()
    if kind < 0.35:
        words = re.findall(r"[\w.+/-]+|\s+|.", text, re.DOTALL) or [""]
        words[rng.randrange(len(words))] = rng.choice(SNIPPETS)
        text = "".join(words)
    elif kind < 0.45:
        text = rng.choice([text + rng.choice(SNIPPETS), rng.choice(SNIPPETS) + text, rng.choice(SNIPPETS)])
    elif kind < 0.75:
        text = reworded(text, rng)
    data = encoded(text, rng)
    return damage(data, rng) if rng.random() < 0.15 else data


def build(recipe: Any) -> None:
    """Build what a recipe trains, and read back what it is written as."""
    from usrl.learners import check_recipe
    from usrl.runs.recipes import dump_recipe, parse_recipe
    from usrl.strict import parse_yaml

    again = parse_recipe(parse_yaml(dump_recipe(recipe), "dump"), "dump")
    assert again == recipe
    check_recipe(recipe)


def try_recipe(rng: Random, place: Path) -> None:
    """Change keys of a recipe, or its text, and build what it trains."""
    from usrl.runs.recipes import dump_yaml, load_recipe, set_key

    tree = json.loads(json.dumps(rng.choice(base_recipes())))
    if rng.random() < 0.75:
        for key, value in changes(tree, rng).items():
            with contextlib.suppress(UserError):
                set_key(tree, key, value, "")
    text = json.dumps(tree) if rng.random() < 0.3 else dump_yaml(tree)
    path = place / "recipe.yaml"
    path.write_bytes(spoiled_yaml(text, rng) if rng.random() < 0.35 else text.encode("utf-8", "replace"))
    build(load_recipe(rng.choice([path, place])))


def try_set(rng: Random, place: Path) -> None:
    """Load a recipe with overrides of a command line, and build what it trains."""
    from usrl.runs.recipes import load_recipe

    tree = rng.choice(base_recipes())
    (place / "recipe.yaml").write_text(json.dumps(tree))
    texts = []
    for key, value in changes(tree, rng).items():
        text = json.dumps(value) if rng.random() < 0.7 else rng.choice([str(value), rng.choice(SNIPPETS)])
        texts.append(f"{key}={text}")
    if rng.random() < 0.2:
        texts[0] = reworded(texts[0], rng)
    build(load_recipe(place, texts))


def try_search(rng: Random, place: Path) -> None:
    """Load a recipe that is searched, and draw values."""
    from usrl.runs.recipes import apply_values, dump_yaml, load_recipe
    from usrl.tuning.trials import propose

    tree = json.loads(json.dumps(rng.choice(base_recipes())))
    keys = [key for key, value in flat(tree) if not isinstance(value, dict)]
    tree["search"] = {rng.choice(keys): search_range(rng) for _ in range(rng.choice([1, 1, 2]))}
    if rng.random() < 0.2:
        tree["search"] = grafted(tree["search"], rng)
    (place / "recipe.yaml").write_bytes(dump_yaml(tree).encode("utf-8", "replace"))
    recipe = load_recipe(place)
    if recipe.search and (drawn := propose(recipe.search, [], recipe.seed)):
        apply_values(recipe, {key: recipe.search[key].value(value) for key, value in drawn.items()}, "drawn")


def try_plan(rng: Random, place: Path) -> None:
    """Resolve the plan of an ablation."""
    from usrl.ablation.plan import load_plan, resolve_plan
    from usrl.runs.recipes import dump_yaml
    from usrl.runs.shipped import shipped_root
    from usrl.strict import parse_yaml

    text = (shipped_root() / "contour-ppo" / "ablation.yaml").read_text(encoding="utf-8")
    text = text.replace("recipe: .", "recipe: contour-ppo")
    if rng.random() < 0.6:
        tree = parse_yaml(text, "plan")
        for _ in range(rng.choice([1, 1, 2])):
            tree = grafted(tree, rng)
        text = dump_yaml(tree) if isinstance(tree, dict) else json.dumps(tree)
    (place / "ablation.yaml").write_bytes(
        spoiled_yaml(text, rng) if rng.random() < 0.5 else text.encode("utf-8", "replace")
    )
    resolve_plan(load_plan(place), place, place / "out")


# --- Runs: logs, records, weights ---


@cache
def base_runs() -> dict[str, dict[str, bytes]]:
    """Return the files of small runs by kind: a network, an agent, a table and a judge with a refiner."""
    from usrl.learners import check_recipe
    from usrl.runs.recipes import dump_recipe, parse_recipe
    from usrl.runs.tensors import save_tensors, unique_state

    data = {"size": 32, "count": 20}
    scratch = Path(tempfile.mkdtemp())
    agent = {
        "kind": "agent",
        "data": data,
        "policy_kwargs": {"width": 8},
        "num_envs": 2,
        "hyperparameters": {"n_steps": 4, "batch_size": 8},
    }
    table = {
        "kind": "agent",
        "data": data,
        "algorithm": "q-learning",
        "policy": "TablePolicy",
        "env": {"id": "usrl/ThresholdSelect-v0", "kwargs": {"observation": "features", "action": "raster"}},
    }
    trees: dict[str, dict[str, Any]] = {
        "network": {
            "kind": "network",
            "data": data,
            "channels": [4, 8],
            "residual_units": 0,
            "prompt": "none",
        },
        "prompted": {
            "kind": "network",
            "data": data,
            "channels": [4, 8],
            "residual_units": 1,
            "prompt": "crop",
            "crop_size": 32,
        },
        "agent": agent,
        "table": table,
        "judge": {
            "kind": "judge",
            "data": data,
            "channels": [4, 8],
            "proposals": str(scratch),
            "refiner": None,
        },
    }
    log = b"".join(
        json.dumps({"step": s, "seconds": 2.5 * s, "val_score": 0.5 + s / 100, "val_dice": 0.5}).encode()
        + b"\n"
        for s in range(5)
    )
    parts = "".join(
        f"{'train' if n < 14 else 'val' if n < 16 else 'test'}\tphantom-{n:04d}\n" for n in range(20)
    ).encode()
    runs = {}
    for name, tree in trees.items():
        recipe = parse_recipe(tree, name)
        model = check_recipe(recipe)
        save_tensors(scratch / "w", unique_state(model), {"step": 3, "val_score": 0.5})
        runs[name] = {
            "recipe.yaml": dump_recipe(recipe).encode(),
            "weights.safetensors": (scratch / "w").read_bytes(),
            "log.jsonl": log,
            "split.tsv": parts,
            "versions.json": b'{"usrl": "1.0", "torch": "2.0"}',
        }
    refined = runs["judge"] | {f"refiner/{path}": data for path, data in runs["agent"].items()}
    runs["judge"] = refined | {
        "recipe.yaml": refined["recipe.yaml"].replace(b"refiner: null", b"refiner: somewhere")
    }
    shutil.rmtree(scratch)
    return runs


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def spoiled_json_lines(data: bytes, rng: Random) -> bytes:
    lines = data.decode().splitlines()
    for place in rng.sample(range(len(lines)), min(rng.choice([1, 1, 3]), len(lines))):
        tree = json.loads(lines[place])
        lines[place] = (
            json_text(grafted(tree, rng), rng) if rng.random() < 0.8 else reworded(lines[place], rng)
        )
    text = "".join(line + "\n" for line in lines)
    data = encoded(text, rng) if rng.random() < 0.2 else text.encode("utf-8", "surrogatepass")
    return damage(data, rng) if rng.random() < 0.2 else data


def try_log(rng: Random, place: Path) -> None:
    """Read the log and the versions of a run, and cut the log for a resumption."""
    from usrl.runs.recipes import load_recipe
    from usrl.runs.run import Run, create_run

    files = dict(base_runs()["network"])
    name = rng.choice(["log.jsonl", "log.jsonl", "versions.json"])
    files[name] = spoiled_json_lines(files[name], rng)
    write_files(place, files)
    recipe = load_recipe(place)
    run = Run(place, recipe)
    run.read_versions()
    run.is_finished()
    for row in run.read_log():
        row["step"] + row["val_score"]
    create_run(place, recipe, resume=True).truncate_log(rng.choice([-1, 2, 10**9]))


def try_split(rng: Random, place: Path) -> None:
    """Ask a run, and what it started from, which images it has learned from."""
    from usrl.data.recipe import DataRecipe
    from usrl.runs.leaks import check_source, find_parts, keep_source
    from usrl.runs.recipes import load_recipe
    from usrl.runs.run import Run

    files = dict(base_runs()["network"])
    spoiled = encoded(reworded(files["split.tsv"].decode(), rng), rng)
    spoiled = damage(spoiled, rng) if rng.random() < 0.3 else spoiled
    write_files(place / "run", files)
    write_files(place / "source", files | {"split.tsv": spoiled})
    if rng.random() < 0.3:
        tree = {"init_from": rng.choice([str(place / "source"), "unet-phantom", wild(rng)])}
        text = files["recipe.yaml"].decode().replace("init_from: null", json.dumps(tree)[1:-1])
        (place / "source" / "recipe.yaml").write_bytes(text.encode("utf-8", "replace"))
    source, run = (Run(place / name, load_recipe(place / name)) for name in ("source", "run"))
    find_parts(source, DataRecipe(count=20, size=32), ["phantom-0001", "phantom-0019"])
    check_source("init_from", source, run)
    keep_source(source, run)


def try_trial(rng: Random, place: Path) -> None:
    """Go on with a search whose records are damaged; nothing is trained."""
    from usrl.runs.recipes import dump_recipe, parse_recipe
    from usrl.strict import parse_yaml
    from usrl.tuning import trials

    tree = parse_yaml(base_runs()["network"]["recipe.yaml"].decode(), "")
    ranges = {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"low": 2, "high": 8},
        "flip_test": {"choices": [True, False]},
    }
    recipe = parse_recipe(tree | {"search": ranges}, "")
    drawn = {"learning_rate": 0.001, "batch_size": 3, "flip_test": 1}
    records = [
        {"number": n, "drawn": drawn, "val_score": 0.5, "seconds": 1.0, "failure": None} for n in range(2)
    ]
    write_files(place, {"recipe.yaml": dump_recipe(recipe).encode(), "versions.json": b"{}"})
    for number, record in enumerate(records):
        text = (
            json_text(grafted(record, rng), rng) if rng.random() < 0.8 else reworded(json.dumps(record), rng)
        )
        data = encoded(text, rng) if rng.random() < 0.3 else text.encode("utf-8", "surrogatepass")
        write_files(
            place, {f"trials/{number:03d}/trial.json": damage(data, rng) if rng.random() < 0.1 else data}
        )
    original, trials.train_run = trials.train_run, _refuse_training
    try:
        trials.tune(recipe, place, 2, _cpu(), resume=True)
    finally:
        trials.train_run = original


@cache
def page_files() -> dict[str, bytes]:
    """Return a folder of labels with an image that is accepted and one that is begun."""
    from usrl.page.sessions import Acceptance, Act, Desk
    from usrl.page.storage import ImageFolder, LabelFolder

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_files(place / "images", {f"{name}.png": pair(number)[0] for number, name in enumerate("ab")})
        labels = LabelFolder(place / "labels", ("nerve", "vessel"))
        with labels.open():
            desk = Desk(ImageFolder(place / "images"), labels, _page_method())
            for name in "ab":
                box = Act(revision=0, structure="vessel", verb="box", box=[5, 5, 30, 25])
                mark = Act(revision=1, structure="vessel", verb="mark", kind="border", point=[20, 30])
                desk.act(name, box)
                desk.act(name, mark)
            desk.accept("a", Acceptance(revision=2))
        found = [path for path in (place / "labels").rglob("*") if path.is_file()]
        journal = {"masks/a.json": "e30=", "structures.csv": "eA=="}
        files = {path.relative_to(place).as_posix(): path.read_bytes() for path in found}
        images = {
            path.relative_to(place).as_posix(): path.read_bytes() for path in (place / "images").iterdir()
        }
    return images | files | {"labels/.accepting.json": json.dumps(journal).encode()}


def _page_method() -> Any:
    from usrl.evaluation.methods import open_interactive

    return open_interactive("pull", _cpu())


def try_labels(rng: Random, place: Path) -> None:
    """Open the page over labels of which a file is damaged, and go on with both images."""
    from usrl.page.sessions import Acceptance, Act, Desk
    from usrl.page.storage import ImageFolder, LabelFolder

    files = dict(page_files())
    if rng.random() < 0.8:
        del files["labels/.accepting.json"]
    name = rng.choice([name for name in files if name.startswith("labels/") and "/images/" not in name])
    if name.endswith(".json") and rng.random() < 0.8:
        text = json_text(grafted(json.loads(files[name]), rng), rng)
        files[name] = encoded(text, rng) if rng.random() < 0.2 else text.encode("utf-8", "surrogatepass")
    else:
        files[name] = damage(files[name], rng)
    write_files(place, files)
    labels = LabelFolder(place / "labels", ("nerve", "vessel"))
    with labels.open():
        desk = Desk(ImageFolder(place / "images"), labels, _page_method())
        desk.describe()
        labels.accepted_in_order()
        for image in "ab":
            with contextlib.suppress(UserError):
                revision = desk.view(image)["revision"]
                act = rng.choice([{"verb": "undo"}, {"verb": "mark", "kind": "border", "point": [9, 9]}])
                revision = desk.act(image, Act(revision=revision, structure="vessel", **act))["revision"]
                desk.moves(image, "vessel")
                desk.accept(image, Acceptance(revision=revision))


def _refuse_training(*_: object, **__: object) -> None:
    raise UserError("nothing is trained here")


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def spoiled_tensors(data: bytes, rng: Random) -> bytes:  # noqa: C901
    """Return a safetensors file whose header or tensors are not what they should be."""
    import torch
    from safetensors.torch import load, save

    kind = rng.random()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if kind < 0.2:
        return damage(data, rng)
    if kind < 0.5:
        for _ in range(rng.choice([1, 1, 2])):
            header = grafted(header, rng)
        text = json_text(header, rng).encode("utf-8", "surrogatepass")
        length = rng.choice([len(text)] * 6 + [0, len(text) + 1, 2**63, 10**8])
        return length.to_bytes(8, "little") + text + body
    if kind < 0.65:
        facts = json_text(grafted({"step": 3, "seconds": 1.0, "best": 0.5, "val_score": 0.5}, rng), rng)
        return save(
            load(data),
            metadata=rng.choice([{"facts": facts}, {"facts": facts}, {"facts": ""}, {"a": "b"}, {}]),
        )
    tensors = load(data)
    kinds = [
        torch.float16,
        torch.float64,
        torch.bfloat16,
        torch.int8,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.float8_e4m3fn,
    ]
    for _ in range(rng.choice([1, 1, 2, len(tensors)])):
        name = rng.choice(sorted(tensors) or ["a"])
        tensor = tensors.pop(name, torch.zeros(2))
        what = rng.randrange(8)
        if what == 0:
            continue
        if what == 1:
            name += rng.choice(["x", ".0", "\u0301", "", "." * 300])
        elif what == 2:
            tensor = tensor.to(rng.choice(kinds))
        elif what == 3:
            tensor = tensor.reshape(-1) if rng.random() < 0.5 else tensor[None]
        elif what == 4 and tensor.numel() and tensor.is_floating_point():
            tensor = tensor.clone()
            tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice(
                [float("nan"), float("inf"), 3e38, -1e30]
            )
        elif what == 5 and tensor.is_floating_point():
            factor = rng.choice([0.0, -1.0, 1e6, 1e20, 1e36])
            tensor = (tensor.double() * factor).to(tensor.dtype)  # a float of 8 bits cannot multiply
        elif what == 6:
            tensor = torch.zeros(rng.choice([(0,), (1,), (), (2, 3), (0, 5)]))
        tensors[name] = tensor.contiguous()
    return save(tensors, metadata={"facts": '{"step": 3, "val_score": 0.5}'})


def try_weights(rng: Random, place: Path) -> None:
    """Open a run with damaged weights and segment an image with it."""
    from usrl.runs.checkpoints import read_best
    from usrl.runs.run import open_run

    name = rng.choice(["network", "prompted", "agent", "agent", "table", "judge"])
    files = dict(base_runs()[name])
    path = rng.choice([path for path in files if path.endswith(".safetensors")])
    files[path] = spoiled_tensors(files[path], rng)
    if rng.random() < 0.1:
        files["recipe.yaml"] = spoiled_yaml(files["recipe.yaml"].decode(), rng)
    write_files(place / name, files)
    spec = str(place / name)
    if name == "judge":
        write_files(place / "network", base_runs()["network"])
        spec = f"{place / 'network'}+{spec}"
    read_best(open_run(place / name))
    segmenter = usrl.open_segmenter(spec, "cpu", starts=rng.choice([1, 1, 3]))
    image = 50 + 120 * disk((40, 48), (20, 24), 9).astype(np.uint8)
    answer = segmenter.segment(image, ((14.5, 10.5, 33.5, 29.5),))
    assert answer.mask.shape == image.shape
    assert answer.uncertainty is None or np.isfinite(answer.uncertainty)
    assert answer.probability is None or np.isfinite(answer.probability).all()


def try_checkpoint(rng: Random, place: Path) -> None:
    """Go on with a training whose checkpoint is damaged."""
    import torch
    from torch import nn

    from usrl.runs.checkpoints import Record, save_checkpoint
    from usrl.runs.recipes import load_recipe
    from usrl.runs.run import Run

    make = rng.choice([torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = make(
        network.parameters(), lr=0.01, **({} if make is torch.optim.AdamW else {"momentum": 0.9})
    )
    parts = {"network/": network, "optimizer.": optimizer}
    network(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    write_files(place, base_runs()["network"])
    run = Run(place, load_recipe(place))
    save_checkpoint(run.checkpoint_path, parts, {"step": 3, "seconds": 1.0, "best": 0.5})
    run.checkpoint_path.write_bytes(spoiled_tensors(run.checkpoint_path.read_bytes(), rng))
    if rng.random() < 0.2:
        run.weights_path.write_bytes(spoiled_tensors(run.weights_path.read_bytes(), rng))
    record = Record(run, network, parts)
    assert record.begin(resume=True)
    optimizer.step()
    record.step += 1
    record.log({"val_score": 0.75})
    record.checkpoint()


KINDS: dict[str, tuple[int, Callable[[Random, Path], None]]] = {
    "image": (16, try_image),
    "mask": (16, try_mask),
    "folder": (10, lambda rng, place: try_folder("folder", folder_files, rng, place)),
    "busi": (3, lambda rng, place: try_folder("busi", busi_files, rng, place)),
    "usgra": (3, lambda rng, place: try_folder("usgra", usgra_files, rng, place)),
    "hc18": (5, lambda rng, place: try_folder("hc18", hc18_files, rng, place)),
    "ddti": (3, lambda rng, place: try_folder("ddti", ddti_files, rng, place)),
    "bus-bra": (2, lambda rng, place: try_folder("bus-bra", bus_bra_files, rng, place)),
    "cva-net": (2, lambda rng, place: try_folder("cva-net", cva_net_files, rng, place)),
    "camus": (3, lambda rng, place: try_folder("camus", camus_files, rng, place)),
    "readable": (12, try_readable),
    "import": (10, try_import),
    "published": (3, try_published),
    "volumes": (6, try_volumes),
    "clip": (8, try_clip),
    "clips": (5, try_clip_folder),
    "boxes": (6, try_boxes),
    "cases": (3, try_cases),
    "proposals": (2, try_proposals),
    "recipe": (10, try_recipe),
    "set": (8, try_set),
    "search": (5, try_search),
    "plan": (3, try_plan),
    "log": (5, try_log),
    "split": (4, try_split),
    "trial": (4, try_trial),
    "labels": (4, try_labels),
    "weights": (10, try_weights),
    "checkpoint": (6, try_checkpoint),
}
"""Kinds of inputs, with their share."""


# --- Trying them ---


class Late(BaseException):
    """An input that takes too long; no `except Exception` may hide it."""


@dataclass
class Outcome:
    """What came of an input: ``result``, ``UserError``, or a finding, which has a text."""

    kind: str
    seed: int
    end: str
    text: str = ""
    seconds: float = 0.0
    gib: float = 0.0

    @property
    def is_finding(self) -> bool:
        return self.end not in ("result", "UserError")


def work(pipe: Connection, kinds: Sequence[str]) -> None:
    """Try the inputs of some kinds that come through a pipe, in a process of its own."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    silence = os.open(os.devnull, os.O_WRONLY)  # for progress bars, and what decoders print
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _be_late)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for kind in kinds:  # compiles and imports, which no input should pay for
            for seed in range(-4, 0):
                _attempt(kind, seed, Path(folder), limit=0)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        room = _pages("size") + (4 * GIB << 30)
        resource.setrlimit(resource.RLIMIT_AS, (room, hard))
        pipe.send(None)
        while (task := pipe.recv()) is not None:
            pipe.send(_attempt(*task, Path(folder), limit=SECONDS))


def _attempt(kind: str, seed: int, folder: Path, limit: float) -> Outcome:
    place = folder / "in"
    place.mkdir()
    outcome = Outcome(kind, seed, "result")
    Path("/proc/self/clear_refs").write_text("5")  # begins a new peak of memory
    before, began = _pages("resident"), time.process_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, limit)
        try:
            KINDS[kind][1](Random(f"{kind}/{seed}"), place)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except UserError as error:
        longest = max(map(len, str(error).split("\n")))
        outcome.end = "UserError" if longest <= LETTERS else "long message"
        outcome.text = str(error)
    except BaseException as error:
        outcome.end = f"{type(error).__name__} in {_where(error)}"
        outcome.text = "".join(traceback.format_exception(error))
    outcome.seconds = time.process_time() - began
    outcome.gib = (_peak() - before) / 2**30
    if not outcome.is_finding and outcome.gib > GIB:
        outcome.end = "memory"
    if not outcome.is_finding and limit and outcome.seconds > limit:
        outcome.end = "time"
    shutil.rmtree(place, ignore_errors=True)
    return outcome


def _be_late(*_: object) -> None:
    raise Late


def _where(error: BaseException) -> str:
    """Return the last place in usrl that an error came through."""
    root = Path(usrl.__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root)
    ]
    if not frames:
        return "fuzz.py"
    return f"{Path(frames[-1].filename).relative_to(root.parent)}:{frames[-1].lineno}"


def _pages(what: str) -> int:
    size, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
    return (size if what == "size" else resident) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) << 10  # type: ignore[index]


@dataclass
class Worker:
    """A process, and the input that it is trying."""

    kinds: Sequence[str]
    task: tuple[str, int] | None = None
    since: float = 0.0
    pipe: Connection = field(init=False)
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, self.kinds), daemon=True)
        self.process.start()
        theirs.close()
        self.since = time.monotonic()

    def give(self, task: tuple[str, int] | None) -> None:
        self.task, self.since = task, time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def try_all(tasks: Sequence[tuple[str, int]], jobs: int) -> Iterator[Outcome]:
    """Yield what came of each input, in any order; a process that dies or hangs is replaced."""
    waiting, kinds = iter(tasks), sorted({kind for kind, _ in tasks})
    workers = [Worker(kinds) for _ in range(min(jobs, len(tasks)))]
    try:
        while workers:
            ready = wait([worker.pipe for worker in workers], timeout=1)
            for number, worker in reversed(list(enumerate(workers))):
                outcome: Outcome | None = None
                if worker.pipe in ready:
                    try:
                        outcome = worker.pipe.recv()
                    except EOFError:
                        worker.process.join()
                        outcome = _lost(worker, f"died ({worker.process.exitcode})")
                elif worker.task and time.monotonic() - worker.since > HUNG:
                    outcome = _lost(worker, "hung")
                else:
                    continue
                if outcome:
                    yield outcome
                if not worker.process.is_alive() or (outcome and outcome.end == "hung"):
                    worker.end()
                    workers[number] = Worker(kinds)
                elif task := next(waiting, None):
                    worker.give(task)
                else:
                    worker.give(None)
                    worker.process.join()
                    del workers[number]
    finally:
        for worker in workers:
            worker.end()


def _lost(worker: Worker, what: str) -> Outcome:
    if worker.task is None:
        raise SystemExit("a process ended before its first input")
    return Outcome(*worker.task, what, seconds=time.monotonic() - worker.since)


def choose_tasks(count: int, seed: int, only: str | None) -> list[tuple[str, int]]:
    if only:
        return [(only, seed + number) for number in range(count)]
    round_of_kinds = [kind for kind, (share, _) in KINDS.items() for _ in range(share)]
    random.Random(0).shuffle(round_of_kinds)
    return list(
        zip(itertools.islice(itertools.cycle(round_of_kinds), count), itertools.count(seed), strict=False)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, help="inputs; 10,000 if not given, and one with --only")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", choices=KINDS, help="inputs of one kind")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    call = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONHASHSEED": "0"}
    is_one = call.only and (call.count or 1) == 1
    tasks = choose_tasks(call.count or (1 if call.only else 10_000), call.seed, call.only)
    began, outcomes = time.monotonic(), []
    for outcome in try_all(tasks, call.jobs):
        outcomes.append(outcome)
        if is_one or (outcome.is_finding and sum(o.end == outcome.end for o in outcomes) <= 3):
            print(
                f"--only {outcome.kind} --seed {outcome.seed}: {outcome.end}\n{outcome.text[-3000:]}",
                flush=True,
            )
        if len(outcomes) % 250 == 0:
            found = sum(o.is_finding for o in outcomes)
            print(
                f"{len(outcomes)} of {len(tasks)}, {time.monotonic() - began:.0f} s, {found} findings",
                flush=True,
            )
    show(outcomes, time.monotonic() - began)
    return 1 if any(outcome.is_finding for outcome in outcomes) else 0


def show(outcomes: Sequence[Outcome], seconds: float) -> None:
    """Print the table of kinds, and the findings by what they ended in."""
    print(
        f"\n{'kind':<12}{'inputs':>8}{'results':>9}{'UserErrors':>12}{'findings':>10}{'slowest':>10}{'memory':>11}"
    )
    for kind in [*KINDS, "all"]:
        own = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        ends = Counter("finding" if o.is_finding else o.end for o in own)
        if own:
            slowest, most = max(o.seconds for o in own), max(o.gib for o in own)
            print(
                f"{kind:<12}{len(own):>8}{ends['result']:>9}{ends['UserError']:>12}{ends['finding']:>10}"
                f"{slowest:>8.2f} s{most:>7.2f} GiB"
            )
    print(f"{seconds:.0f} s")
    findings: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.is_finding:
            findings.setdefault(outcome.end, []).append(f"{outcome.kind} {outcome.seed}")
    for end, which in sorted(findings.items(), key=lambda item: -len(item[1])):
        print(f"{len(which):>5} x {end}: {', '.join(which[:6])}{', ...' if len(which) > 6 else ''}")


if __name__ == "__main__":
    sys.exit(main())

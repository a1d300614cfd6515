import numpy as np
from PIL import Image

from usrl.data.sample import Sample


def disk(shape=(40, 50), centre=(20, 25), radius=8):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def noise(seed, shape=(40, 50)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_sample(name="one", target=None, group=None, source="test", shape=(40, 50)):
    target = disk(shape) if target is None else target
    return Sample(noise(len(name), target.shape), target, None, name, group or name, source)


def write(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

import numpy as np
from PIL import Image

from usrl.data.catalogue import DATASETS
from usrl.data.recipe import DataRecipe
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


def write_classes(path, classes):
    """Write class numbers as a palette image whose colours are all darker than half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", classes.shape[::-1], classes.tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    image.save(path)
    return path


def draw_ellipse(centre, semi_axes, degrees=0.0, shape=(120, 160)):
    """Return a thin outline as HC18 has it, cut at the border, and the length of the whole curve in px."""
    t, angle = np.linspace(0, 2 * np.pi, 20001), np.deg2rad(degrees)
    along, across = semi_axes[0] * np.cos(t), semi_axes[1] * np.sin(t)
    x = centre[0] + along * np.cos(angle) - across * np.sin(angle)
    y = centre[1] + along * np.sin(angle) + across * np.cos(angle)
    columns, rows = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
    outline = np.zeros(shape, np.bool_)
    outline[rows[inside], columns[inside]] = True
    return outline, float(np.hypot(np.diff(x), np.diff(y)).sum())


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def load(name, root):
    """Return the samples of a data set, of several structures if it has several."""
    return DATASETS[name].load(DataRecipe(name=name, root=root), "all")


def inspect(name, root):
    """Return the report of a data set."""
    return DATASETS[name].check(DataRecipe(name=name, root=root))

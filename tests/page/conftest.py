import http.client
import json
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from usrl.page.server import address_of, build_app, listen, make_server
from usrl.page.sessions import Acceptance, Act, Desk
from usrl.page.storage import ImageFolder, LabelFolder
from usrl.segmenter import Answer
from usrl.session import Asks

HEIGHT, WIDTH = 60, 80


def make_image(number):
    """A dark disc on bright noise, uint8, (60, 80)."""
    rng = np.random.default_rng(number)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    is_dark = (rows - 30) ** 2 + (columns - 40) ** 2 < 15**2
    return (np.where(is_dark, 50, 150) + rng.integers(-20, 20, (HEIGHT, WIDTH))).astype(np.uint8)


@dataclass
class Painter:
    """Fills boxes, and adds a square at each point, or takes one away: what it answers can be foreseen."""

    name: str = "painter"
    asks: Asks = "border"
    reach: int = 2

    def begin(self, image, marks):
        if marks.mask is not None:
            return marks.mask
        mask = np.zeros(image.shape, bool)
        for x0, y0, x1, y1 in marks.boxes:
            mask[round(y0 + 0.5) : round(y1 + 0.5), round(x0 + 0.5) : round(x1 + 0.5)] = True
        return mask

    def correct(self, state, marks):
        painted = state.copy()
        for value, points in ((True, (*marks.border, *marks.inside)), (False, marks.outside)):
            for x, y in points:
                top, left = max(round(y) - self.reach, 0), max(round(x) - self.reach, 0)
                painted[top : round(y) + self.reach + 1, left : round(x) + self.reach + 1] = value
        return painted

    def answer(self, state):
        return Answer(state)


@dataclass(eq=False)
class Pupil(Painter):
    """A painter that remembers what was accepted, and adds as many squares to each point."""

    seen: list = field(default_factory=list)

    def accept(self, image, mask):
        time.sleep(0.1)  # learning takes its time
        self.seen.append((int(image.sum()), int(mask.sum())))

    def correct(self, state, marks):
        return Painter(reach=len(self.seen)).correct(state, marks)


@dataclass(frozen=True)
class Darkness:
    """An automatic method that finds what is dark."""

    name: str = "darkness"
    track: str = "automatic"

    def segment(self, image, prompt):
        assert prompt is None
        return Answer(cv2.GaussianBlur(image, (5, 5), 0) < 100)


class Person:
    """Sends acts with the revision that the desk has answered last."""

    def __init__(self, desk, name, structure="lesion"):
        self.desk, self.name, self.structure = desk, name, structure
        self.view = desk.view(name)

    def act(self, verb, **details):
        request = Act(revision=self.view["revision"], structure=self.structure, verb=verb, **details)
        self.view = self.desk.act(self.name, request)
        return self.view["works"][self.structure]

    def box(self, *sides):
        return self.act("box", box=list(sides))

    def mark(self, x, y, kind="border"):
        return self.act("mark", kind=kind, point=[x, y])

    def accept(self, **details):
        request = Acceptance(revision=self.view["revision"], **details)
        self.view = self.desk.accept(self.name, request)
        return self.view


class Caller:
    """Asks a server as the page does."""

    def __init__(self, address):
        _, _, self.host, self.token, _ = address.split("/")

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=30)
        own = (
            {"Origin": f"http://{self.host}", "Content-Type": "application/json"} if body is not None else {}
        )
        asked = own | {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in asked.items() if value is not None}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        read = response.read()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return SimpleNamespace(
            status=response.status, headers=response.headers, body=json.loads(read) if is_json else read
        )

    def get(self, path, **headers):
        return self.ask("GET", f"/{self.token}/{path}", **headers)

    def post(self, path, body, **headers):
        return self.ask("POST", f"/{self.token}/{path}", body, **headers)


@contextmanager
def serving(desk, token="secret-token"):
    """Serve a desk from a thread; the value is the address."""
    with listen("127.0.0.1", 0) as own:
        server = make_server(build_app(desk, token))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            yield address_of(own, token)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def toy():
    """What stands in for methods, people and the network in tests of the page."""
    return SimpleNamespace(
        make_image=make_image,
        Painter=Painter,
        Pupil=Pupil,
        Darkness=Darkness,
        Person=Person,
        Caller=Caller,
        serving=serving,
        shape=(HEIGHT, WIDTH),
    )


@pytest.fixture
def make_images(tmp_path):
    """Write a folder of images and return it."""

    def make(count=3, folder="scans"):
        path = tmp_path / folder
        path.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(path / f"scan {number}.png"), make_image(number))
        return path

    return make


@pytest.fixture
def open_desk(tmp_path):
    """Open a desk over a folder, as `usrl annotate` does; one that is open already is closed."""
    held = ExitStack()

    def open_one(images, method=None, structures=(), masks=None, spacing_mm=None, out="labels", **rest):
        held.close()
        labels = LabelFolder(tmp_path / out, structures)
        held.enter_context(labels.open())
        return Desk(ImageFolder(images, masks, spacing_mm), labels, method or Painter(), **rest)

    with held:
        yield open_one

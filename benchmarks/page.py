"""How long the page waits for an answer: from a request to the body of its response, through the server.

Simulated images, a box in each and three corrections. "Busy" is the share of the answer that the server's
process computes: on a shared machine the rest is waiting for others.

python benchmarks/page.py --method contour-ppo+pull --json page.json
"""

import http.client
import json
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from reporting import make_parser, parse, print_machine, write_rows

from usrl.compute.devices import select_device
from usrl.data.phantom.dataset import load_phantom
from usrl.data.prompts import bounding_box
from usrl.data.sample import BoolMask
from usrl.page.methods import PageMethod, open_method
from usrl.page.server import address_of, build_app, listen, make_server
from usrl.page.sessions import Desk
from usrl.page.storage import ImageFolder, LabelFolder

LIMIT_MS = 150
TOKEN = "benchmark"


class Client:
    """Asks a server on one connection, and keeps how long its answers take."""

    def __init__(self, host: str) -> None:
        self.host, self.connection = host, http.client.HTTPConnection(host)
        self.times: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def post(self, what: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return an answer; its time in ms, and what this process has computed, count as ``what``."""
        headers = {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        start, busy = time.perf_counter(), time.process_time()
        self.connection.request("POST", f"/{TOKEN}/api/images/{path}", json.dumps(body), headers)
        response = self.connection.getresponse()
        content = response.read()
        ended = time.perf_counter() - start, time.process_time() - busy
        self.times[what].append((1000 * ended[0], 1000 * ended[1]))
        answer: dict[str, Any] = json.loads(content)
        if response.status != 200:
            raise RuntimeError(answer)
        return answer


def annotate(client: Client, name: str, target: BoolMask, asks: str) -> None:
    """Draw a box, correct three times, undo and accept."""
    x0, y0, x1, y1 = bounding_box(target)
    steps: list[tuple[str, dict[str, Any]]] = [("box", {"box": [x0 - 4, y0 - 4, x1 + 4, y1 + 4]})]
    middle = (x0 + x1) / 2, (y0 + y1) / 2
    if asks == "border":
        points = ((x1, middle[1]), (middle[0], y0), (x0, middle[1]))
        steps += [("mark", {"kind": "border", "point": list(point)}) for point in points]
        steps.append(("move", {"number": 2, "point": [x0 + 2, middle[1]]}))
    elif asks == "clicks":
        points = (middle, (x0 + 4, middle[1]), (middle[0], y1 - 4))
        steps += [("mark", {"kind": "inside", "point": list(point)}) for point in points]
    revision = 0
    for verb, details in (*steps, ("undo", {})):
        body = {"revision": revision, "structure": "lesion", "verb": verb, **details}
        revision = client.post(verb, f"{name}/act", body)["revision"]
    client.post("redo", f"{name}/act", {"revision": revision, "structure": "lesion", "verb": "redo"})
    client.post("accept", f"{name}/accept", {"revision": revision + 1})


def write_images(folder: Path, count: int, size: int) -> dict[str, BoolMask]:
    """Write simulated images whose longer side has this many pixels; return their targets by name."""
    targets = {}
    for sample in load_phantom(count):
        scale = size / max(sample.image.shape)
        image = cv2.resize(sample.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        target = sample.target.astype(np.uint8)
        targets[sample.name] = cv2.resize(target, image.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        cv2.imwrite(str(folder / f"{sample.name}.png"), image)
    return targets


def play(folder: Path, method: PageMethod, targets: dict[str, BoolMask]) -> Client:
    """Annotate the images of a folder through a server of this process."""
    labels = LabelFolder(folder / "labels")
    with labels.open(), listen("127.0.0.1", 0) as own:
        desk = Desk(ImageFolder(folder), labels, method)
        desk.warm_up()
        server = make_server(build_app(desk, TOKEN))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        client = Client(address_of(own, TOKEN).split("/")[2])
        try:
            for name, target in targets.items():
                annotate(client, name, target, desk.describe()["method"]["asks"])
        finally:
            client.connection.close()
            server.should_exit = True
            thread.join()
    return client


def summarise(method: str, client: Client) -> list[dict[str, Any]]:
    """Print a line for each kind of answer, and return them as rows."""
    rows = []
    for what, times in client.times.items():
        walls, busy = np.array(times).T
        figures = {
            "median_ms": np.median(walls),
            "p95_ms": np.quantile(walls, 0.95),
            "median_busy_ms": np.median(busy),
            "p95_busy_ms": np.quantile(busy, 0.95),
            "p95_share_of_limit": np.quantile(walls, 0.95) / LIMIT_MS,
        }
        rows.append(
            {
                "method": method,
                "answer": what,
                "count": len(times),
                **{k: float(v) for k, v in figures.items()},
            }
        )
        print(
            f"{method}, {what:<7} n={len(times):<3}",
            *(f"{k} {v:.2f}" for k, v in figures.items()),
            flush=True,
        )
    return rows


def main() -> None:
    """Print the times of every kind of answer."""
    parser = make_parser(__doc__)
    parser.add_argument("--method", default="contour-ppo+pull", help="as of usrl annotate")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--size", type=int, default=256, help="longer side of the images, px")
    arguments = parse(parser)
    print_machine(arguments)
    method = open_method(arguments.method, select_device(arguments.device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        targets = write_images(folder, arguments.images, arguments.size)
        write_rows(summarise(arguments.method, play(folder, method, targets)), arguments.json)


if __name__ == "__main__":
    main()

"""The page in Chromium: what a person does, sees and finds on disk.

The tests are skipped where there is no Chromium, unless USRL_NEEDS_BROWSER is set.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browser_driver import open_browser
from sample_builders import load
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from usrl.evaluation.methods import open_interactive

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
READ_CENTRES = """
const [width, height] = arguments, done = arguments[2], canvas = document.getElementById("canvas");
requestAnimationFrame(() => requestAnimationFrame(() => {
  const [zoom, left, top] = ["zoom", "left", "top"].map((name) => Number(canvas.dataset[name]));
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const at = (place, start) => Math.floor((start + (place + 0.5) * zoom) * devicePixelRatio);
  const found = [];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const first = 4 * (at(y, top) * canvas.width + at(x, left));
    found.push(data[first], data[first + 1], data[first + 2]);
  }
  done(found);
}));
"""
"""Returns the colour of the canvas at the centre of every pixel of the image."""


@pytest.fixture(scope="module")
def driver():
    with open_browser() as driver:
        yield driver


class Tab:
    """A tab of the page, and the hands of a person."""

    def __init__(self, driver, address):
        self.driver, self.wait = driver, WebDriverWait(driver, 30, poll_frequency=0.02)
        self.open(address)

    def open(self, address):
        self.driver.get(address)
        self.wait.until(lambda _: self.revision is not None)

    @property
    def canvas(self):
        return self.driver.find_element(By.ID, "canvas")

    @property
    def revision(self):
        value = self.canvas.get_attribute("data-revision")
        return None if value is None else int(value)

    def text(self, element):
        return self.driver.find_element(By.ID, element).text

    @property
    def image(self):
        return self.text("title")

    @property
    def errors(self):
        """What the console says, except that this file reads the canvas often."""
        messages = [each["message"] for each in self.driver.get_log("browser")]
        return [message for message in messages if "willReadFrequently" not in message]

    def after(self, does, image=None):
        """Do something, and wait until its answer is shown."""
        before = (self.image, self.revision)
        does()
        self.wait.until(lambda _: (self.image, self.revision) != before and image in (None, self.image))

    def place(self, x, y):
        """Return the place of a pixel of the image, from the middle of the canvas."""
        zoom, left, top = (
            float(self.canvas.get_attribute(f"data-{name}")) for name in ("zoom", "left", "top")
        )
        size = self.canvas.rect
        return round(left + (x + 0.5) * zoom - size["width"] / 2), round(
            top + (y + 0.5) * zoom - size["height"] / 2
        )

    @property
    def hand(self):
        return ActionChains(self.driver, duration=0)

    def drag(self, start, end):
        ways = [self.place(*point) for point in (start, end)]
        hand = self.hand.move_to_element_with_offset(self.canvas, *ways[0]).click_and_hold()
        hand.move_to_element_with_offset(self.canvas, *ways[1]).release().perform()

    def click(self, x, y, held=None):
        hand = self.hand.move_to_element_with_offset(self.canvas, *self.place(x, y))
        if held:
            hand.key_down(held).click().key_up(held).perform()
        else:
            hand.click().perform()

    def press(self, *keys):
        self.hand.send_keys(*keys).perform()

    def push(self, action):
        self.driver.find_element(By.CSS_SELECTOR, f"[data-do={action}]").click()

    def shown_mask(self, marks=(), shape=(60, 80)):
        """Return which pixels of the image look different when masks are hidden, and which marks cover."""
        height, width = shape
        seen = []
        for _ in range(2):
            seen.append(np.array(self.driver.execute_async_script(READ_CENTRES, width, height)))
            self.press("h")
        rows, columns = np.mgrid[:height, :width]
        covered = np.zeros(shape, bool)
        for x, y in marks:
            covered |= np.hypot(columns - x, rows - y) * float(self.canvas.get_attribute("data-zoom")) < 12
        return (seen[0] != seen[1]).reshape(height, width, 3).any(axis=2), covered

    def check_mask(self, path, marks=()):
        """Check that the mask on disk is the one on the screen."""
        written = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
        shown, covered = self.shown_mask(marks, written.shape)
        assert covered.mean() < 0.02
        np.testing.assert_array_equal(shown[~covered], written[~covered])
        assert 100 < written.sum() < written.size / 2


@pytest.fixture
def serve_desk(toy, make_images, open_desk):
    """Serve desks from this process, until the test ends."""
    held = []

    def serve(count, method=None, **rest):
        context = toy.serving(open_desk(make_images(count), method, **rest))
        held.append(context)
        return context.__enter__()

    yield serve
    for context in held:
        context.__exit__(None, None, None)


def start_command(folder, out):
    """Start `usrl annotate`; return the process and the address that it prints."""
    words = ["annotate", str(folder), "--method", "pull", "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "usrl", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    found = re.search(r"open (http://127\.0\.0\.1:\d+/[\w-]{30,}/)", process.stdout.readline())
    assert found is not None
    return process, found[1]


def test_nothing_is_lost_by_reloading_or_by_killing_the_server(driver, make_images, tmp_path):
    images, masks = make_images(3), tmp_path / "labels" / "masks"
    process, address = start_command(images, tmp_path / "labels")
    try:
        tab = Tab(driver, address)
        assert (tab.image, tab.text("state")) == ("scan 0", "not begun")
        tab.after(lambda: tab.drag((23.5, 13.5), (55.5, 45.5)))
        tab.after(lambda: tab.click(58, 30))
        once = tab.shown_mask([(58, 30)])[0]
        tab.after(lambda: tab.click(40, 48))
        assert (tab.shown_mask([(58, 30)])[0] != once).any()
        tab.after(lambda: tab.push("undo"))
        np.testing.assert_array_equal(tab.shown_mask([(58, 30)])[0], once)
        assert not masks.joinpath("scan 0.png").exists()

        tab.after(lambda: tab.push("accept"), "scan 1")
        assert tab.text("progress") == "1 of 3 accepted"
        tab.after(lambda: tab.drag((23.5, 13.5), (55.5, 45.5)))
        tab.after(lambda: tab.click(22, 30))
        unfinished = tab.shown_mask([(22, 30)])[0]
        tab.driver.refresh()
        tab.wait.until(lambda _: tab.revision == 2)
        assert (tab.image, tab.text("state")) == ("scan 1", "begun")
        np.testing.assert_array_equal(tab.shown_mask([(22, 30)])[0], unfinished)
        tab.after(lambda: tab.push("previous"), "scan 0")
        tab.check_mask(masks / "scan 0.png", [(58, 30)])
        assert tab.errors == []

        process.send_signal(signal.SIGKILL)
        process.wait()
        tab.click(40, 48)
        tab.wait.until(lambda _: "The server does not answer" in tab.text("alert"))
        tab.errors.clear()
    finally:
        process.kill()
        process.wait()
    process, address = start_command(images, tmp_path / "labels")
    try:
        tab = Tab(driver, address)
        assert (tab.image, tab.text("progress")) == ("scan 1", "1 of 3 accepted")
        np.testing.assert_array_equal(tab.shown_mask([(22, 30)])[0], unfinished)
        tab.after(lambda: tab.push("previous"), "scan 0")
        tab.check_mask(masks / "scan 0.png", [(58, 30)])
        tab.after(lambda: tab.press("y"))  # even what was undone before the kill
        tab.after(lambda: tab.press(Keys.ENTER), "scan 1")
        assert len(json.loads((masks / "scan 0.json").read_text())["structures"]["lesion"]["points"]) == 2
        assert tab.errors == []
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_twenty_images_are_annotated_in_one_run_without_an_error(driver, serve_desk, tmp_path):
    tab = Tab(driver, serve_desk(20, open_interactive("pull", CPU)))
    for number in range(20):
        name = tab.image
        tab.after(lambda: tab.drag((23.5, 13.5), (55.5, 45.5)))
        tab.after(lambda number=number: tab.click(57 + number % 3, 30))
        if number % 4 == 0:
            tab.after(lambda number=number: tab.drag((57 + number % 3, 30), (61, 28)))
        if number % 5 == 0:
            tab.after(lambda: tab.press("z"))
        tab.after(lambda: tab.press(Keys.ENTER))
        tab.wait.until(lambda _, name=name: tab.image != name or "All images" in tab.text("status"))
        if number % 7 == 0 and number < 19:
            tab.after(lambda: tab.press(Keys.PAGE_UP), name)
            tab.check_mask(
                tmp_path / "labels" / "masks" / f"{name}.png", [(57, 30), (58, 30), (59, 30), (61, 28)]
            )
            tab.after(lambda: tab.press(Keys.PAGE_DOWN))
    assert tab.text("progress") == "20 of 20 accepted"
    assert len(load("folder", tmp_path / "labels")) == 20
    assert tab.errors == []


def test_everything_can_be_done_with_keys(driver, serve_desk, tmp_path):
    tab = Tab(driver, serve_desk(2))
    arrows = {name: getattr(Keys, f"ARROW_{name}") for name in ("LEFT", "RIGHT", "UP", "DOWN")}
    with_shift = lambda key: tab.hand.key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()  # noqa: E731
    tab.press("b", arrows["LEFT"], " ")  # first corner at (39, 30)
    with_shift(arrows["RIGHT"] * 2)
    with_shift(arrows["DOWN"])
    tab.after(lambda: tab.press(" "))
    assert "area 200 px" in tab.text("status")
    tab.press("p")
    with_shift(arrows["LEFT"] * 4)
    tab.after(lambda: tab.press(" "))
    assert "1 point" in tab.text("status")
    tab.press("[", "g", arrows["UP"] * 3)
    tab.after(lambda: tab.press(" "))
    tab.after(lambda: tab.press("z"))
    tab.after(lambda: tab.press("y"))
    tab.press("+", "-", "f", "a", "d", "w", "s", "x", ",", ".", ";", "'", "0", "m", "m", "v", "t", "t")
    tab.after(lambda: tab.press(Keys.ENTER), "scan 1")
    record = json.loads((tmp_path / "labels" / "masks" / "scan 0.json").read_text())
    assert record["structures"]["lesion"]["boxes"] == [[39.0, 30.0, 59.0, 40.0]]
    assert record["structures"]["lesion"]["points"] == [{"kind": "border", "x": 19.0, "y": 37.0}]
    tab.press("?")
    listed = {row.get_attribute("data-action") for row in driver.find_elements(By.CSS_SELECTOR, "#keys tr")}
    buttons = {each.get_attribute("data-do") for each in driver.find_elements(By.CSS_SELECTOR, "[data-do]")}
    assert buttons <= listed
    assert driver.find_element(By.ID, "sheet").is_displayed()
    tab.press(Keys.ESCAPE)
    assert not driver.find_element(By.ID, "sheet").is_displayed()
    tab.after(lambda: with_shift(Keys.ENTER))
    assert "All images are accepted" in tab.text("status")
    assert not load("folder", tmp_path / "labels")[1].target.any()
    assert tab.errors == []


def test_two_tabs_do_not_overwrite_each_other_in_silence(driver, serve_desk):
    address = serve_desk(1)
    first = Tab(driver, address)
    own = driver.current_window_handle
    driver.switch_to.new_window("tab")
    try:
        second = Tab(driver, address)
        second.after(lambda: second.drag((24, 14), (56, 46)))
        drawn = second.text("status")
        driver.switch_to.window(own)
        first.after(lambda: first.drag((4, 4), (20, 20)))
        assert "changed in another tab" in first.text("alert")
        assert first.revision == 1
        assert first.text("status") == drawn
        assert all("409" in message for message in first.errors)
        first.press("p")
        first.after(lambda: first.click(10, 10))
        assert not driver.find_element(By.ID, "alert").is_displayed()
    finally:
        for handle in set(driver.window_handles) - {own}:
            driver.switch_to.window(handle)
            driver.close()
        driver.switch_to.window(own)


def test_clicks_structures_and_fingers_on_a_narrow_screen_that_is_read_aloud(
    driver, serve_desk, toy, tmp_path
):
    method = toy.Painter(asks="clicks")
    driver.set_window_size(768, 1000)
    try:
        tab = Tab(driver, serve_desk(1, method, structures=("nerve", "vessel"), network=toy.Darkness()))
        finger = ActionBuilder(driver, mouse=PointerInput("touch", "finger"), duration=0)
        pointer = finger.pointer_action
        for (x, y), does in (((10, 10), pointer.pointer_down), ((30, 30), pointer.pointer_up)):
            across, down = tab.place(x, y)
            pointer.move_to(tab.canvas, across, down)
            does()
        tab.after(finger.perform)
        assert "nerve: area 400 px" in tab.text("status")
        tab.after(lambda: tab.click(50, 50))
        tab.after(lambda: tab.click(20, 20, held=Keys.SHIFT))
        assert "nerve: area 400 px in 2 parts" in tab.text("status")
        before = float(tab.canvas.get_attribute("data-zoom"))
        tab.hand.scroll_from_origin(ScrollOrigin.from_element(tab.canvas, 90, -40), 0, -200).perform()
        tab.wait.until(lambda _: float(tab.canvas.get_attribute("data-zoom")) > before)
        tab.after(lambda: tab.click(44, 40))  # where it was put, however the view is zoomed and moved
        tab.press("f", "2")
        tab.after(lambda: tab.press("n"))
        assert "vessel" in tab.text("status")
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        controls = driver.find_elements(
            By.CSS_SELECTOR, "button, input, select, canvas, dialog, nav, aside, table"
        )
        unnamed = [
            each.get_attribute("outerHTML")
            for each in controls
            if each.is_displayed() and not each.accessible_name
        ]
        assert [each for each in unnamed if not each.startswith("<table")] == []
        tab.after(lambda: tab.push("accept"))
        assert tab.errors == []
    finally:
        driver.set_window_size(1280, 900)
    labels = load("folder", tmp_path / "labels")[0]
    assert (labels.labels == 2).sum() == pytest.approx(np.pi * 15**2, rel=0.05)
    record = json.loads((tmp_path / "labels" / "masks" / "scan 0.json").read_text())["structures"]["nerve"]
    assert [mark["kind"] for mark in record["points"]] == ["inside", "outside", "inside"]
    assert (record["points"][2]["x"], record["points"][2]["y"]) == (
        pytest.approx(44, abs=0.2),
        pytest.approx(40, abs=0.2),
    )
    assert (labels.labels == 1)[48:53, 48:53].sum() + (labels.labels == 2)[48:53, 48:53].sum() == 25

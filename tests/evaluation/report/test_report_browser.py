"""The report in Chromium: it renders, sorts, filters and opens cases, and logs no error.

The tests are skipped where there is no Chromium, unless USRL_NEEDS_BROWSER is set.
"""

import dataclasses

import pytest
from browser_driver import open_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from usrl.classical import ProposalEllipse
from usrl.evaluation.compare import compare

HOSTILE = '</script><script>document.title="x"</script><img src=//evil onerror=document.title="x">'
UNNAMED = "button, input, select, dialog, table, svg[role=img]"


@pytest.fixture(scope="module")
def driver():
    with open_browser() as driver:
        yield driver


@pytest.fixture
def samples(toy):
    samples = [toy.make_sample(index) for index in range(5)]
    samples[4] = dataclasses.replace(samples[4], name=HOSTILE)
    kinds = ["toy/round", "toy/round", "toy/long", "toy/long", "toy/long"]
    return [dataclasses.replace(each, source=kind) for each, kind in zip(samples, kinds, strict=True)]


@pytest.fixture
def report(driver, toy, samples, tmp_path):
    methods = [ProposalEllipse(), toy.ShrinkingAgent(), toy.Darkness(misses=1)]
    compare(
        methods,
        [*samples, toy.make_sample(9, has_lesion=False)],
        tmp_path / "out",
        dataset="toy",
        split="all",
    )
    driver.get((tmp_path / "out" / "report.html").as_uri())
    yield driver
    assert [each["message"] for each in driver.get_log("browser")] == []


def read(driver, column):
    """Return what a column of the table of cases shows, from top to bottom."""
    script = "return [...document.querySelectorAll('#cases tbody tr')].filter((row) => !row.hidden)"
    return driver.execute_script(f"{script}.map((row) => row.cells[{column}].textContent)")


def find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def test_a_heading_sorts_both_ways_and_says_so(report):
    head = report.find_elements(By.CSS_SELECTOR, "#cases thead th")
    names = [each.text.split()[0] for each in head]
    assert names == ["case", "method", "class", "source", "group", "Dice", "HD95", "NSD", "area"]
    dice = head[5].find_element(By.TAG_NAME, "button")
    dice.send_keys(Keys.ENTER)
    shown = [float(text) for text in read(report, 5)]
    assert shown == sorted(shown)
    assert shown[0] == 0 < shown[-1]
    assert [each.get_attribute("aria-sort") for each in head].count("ascending") == 1
    dice.click()
    assert [float(text) for text in read(report, 5)] == shown[::-1]
    assert head[5].get_attribute("aria-sort") == "descending"
    head[0].find_element(By.TAG_NAME, "button").click()
    assert read(report, 0)[-1] == "case 3"
    assert head[5].get_attribute("aria-sort") == "none"


def test_filters_go_together_and_the_count_is_told(report):
    Select(find(report, "#filters select[data-column='1']")).select_by_visible_text("agent")
    assert set(read(report, 1)) == {"agent"}
    Select(find(report, "#filters select[data-column='2']")).select_by_visible_text("long")
    assert find(report, "#count").text == "3 of 15 rows"
    find(report, "#words").send_keys("case 3")
    assert read(report, 0) == ["case 3"]
    assert find(report, "#count").text == "1 of 15 rows"
    assert find(report, "#count").get_attribute("role") == "status"


def test_a_row_opens_its_case_for_every_method_side_by_side(report):
    report.find_elements(By.CSS_SELECTOR, "#cases tbody tr")[1].find_elements(By.TAG_NAME, "td")[0].click()
    dialog = find(report, "#case")
    assert dialog.is_displayed()
    assert find(report, "#case-name").text == "case 1"
    captions = [each.text for each in dialog.find_elements(By.TAG_NAME, "figcaption")]
    assert [text.split("\n")[0] for text in captions] == ["target", "proposal", "agent", "darkness"]
    assert captions[2].split("\n")[1].startswith("Dice 0.")
    uses = [each.get_attribute("class") for each in dialog.find_elements(By.CSS_SELECTOR, "svg g use")]
    assert uses == ["target", "box", "target", "pred", "box", "target", "proposal", "pred", "target", "pred"]
    widths = [line.size["width"] for line in dialog.find_elements(By.CSS_SELECTOR, "svg > use")]
    assert min(widths) > 100  # the image is drawn
    find(report, "#case button[data-step='1']").click()
    assert find(report, "#case-name").text == "case 2"
    find(report, "#lines").click()
    assert not dialog.find_element(By.CSS_SELECTOR, "svg g").is_displayed()
    find(report, "#close").click()
    assert not dialog.is_displayed()


def test_the_keyboard_opens_and_closes_a_case(report):
    button = find(report, "#cases tbody button")
    button.send_keys(Keys.ENTER)
    assert find(report, "#case-name").text == "case 0"
    find(report, "#close").send_keys(Keys.ARROW_LEFT)
    assert find(report, "#case-name").text == HOSTILE
    find(report, "#close").send_keys(Keys.ESCAPE)
    assert not find(report, "#case").is_displayed()
    assert report.switch_to.active_element == button


def test_a_hostile_name_is_text_and_every_control_has_a_name(report):
    assert report.title == "Segmentation of toy, all"
    controls = [each for each in report.find_elements(By.CSS_SELECTOR, UNNAMED) if each.is_displayed()]
    assert len(controls) > 40
    nameless = [each for each in controls if each.tag_name != "table" and not each.accessible_name]
    assert nameless == []
    assert find(report, "#cases").accessible_name == "Scores of every method on every image"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(report, scheme):
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    report.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    report.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert report.execute_script("return document.documentElement.scrollWidth <= 400")
        color = report.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert color == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 24, 30)"}[scheme]
    finally:
        report.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        report.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

import base64
import dataclasses
import io
import re
import warnings
from html.parser import HTMLParser

import pytest
from PIL import Image

from usrl.classical import ProposalEllipse
from usrl.evaluation.compare import compare
from usrl.evaluation.report.figures import plot_curves

HOSTILE = '<script>alert("x")</script>&\'<img src=//evil>'
CURVES = {
    "darkness": [{"step": 1, "seconds": 5.0, "val_score": 0.4}, {"step": 2, "seconds": 9.0, "val_score": 0.6}]
}
VOID = {"meta", "img", "br", "input"}


class Outline(HTMLParser):
    """Collects tags and attributes, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def write(tmp_path, methods, samples, **options) -> str:
    compare(methods, samples, tmp_path / "out", dataset="toy", split="test", **options)
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def page(toy, tmp_path, methods, samples):
    samples.append(toy.make_sample(9, has_lesion=False))
    return write(tmp_path, methods, samples, curves=CURVES)


def test_report_asks_nothing_of_another_place(page):
    text = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "DATA", page)
    outline = Outline(page)
    assert "://" not in text
    assert "url(" not in text
    assert "link" not in outline.tags
    assert outline.tags.count("script") == 2  # facts and report.js
    policy = next(value for name, value in outline.attributes if name == "content" and "src" in value)
    assert policy.startswith("default-src 'none'; img-src data:;")
    sources = [value for name, value in outline.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith(("data:image/", "#", "tables/", "cases.csv")) for source in sources)


def test_every_table_lies_beside_the_page_as_csv_and_latex(page, tmp_path):
    linked = {value for name, value in Outline(page).attributes if name == "href" and "/" in value}
    linked = {value for value in linked if not value.startswith("data:")}
    there = {f"tables/{path.name}" for path in (tmp_path / "out" / "tables").iterdir()}
    assert linked == there
    names = {path.partition("/")[2].partition(".")[0] for path in there}
    assert names == {
        *("results-prompted", "results-automatic", "tests", "dice-by-size", "agreement-area", "costs"),
        "negatives",
    }


def test_an_image_and_an_outline_are_stored_once_for_all_methods(page):
    ids = [value for name, value in Outline(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert [f"image-{number}" for number in range(6)] == [each for each in ids if each.startswith("image-")]
    assert (
        sum(each.startswith("target-") for each in ids) == sum(each.startswith("box-") for each in ids) == 6
    )
    # Three methods on six images, of which one finds nothing; the agent has proposals.
    assert sum(each.startswith("pred-") for each in ids) == 3 * 6 - 1
    assert sum(each.startswith("proposal-") for each in ids) == 6


def test_views_show_only_what_is_there(page):
    outline = Outline(page)
    ids = {value for name, value in outline.attributes if name == "id"}
    used = {
        value.removeprefix("#") for name, value in outline.attributes if name == "href" and value[0] == "#"
    }
    assert used
    assert used <= ids
    automatic = page.split("<h2>Failures</h2>")[1].split("<h3>darkness</h3>")[1].split("</div></div>")[0]
    assert "class=target" in automatic
    assert "class=box" not in automatic  # which the method has not seen


def test_failures_are_the_worst_images_of_each_method_the_worst_first(page):
    own = page.split("<h2>Failures</h2>")[1].split("<h3>darkness</h3>")[1].split("</div></div>")[0]
    scores = [float(value) for value in re.findall(r"Dice (\d\.\d+)", own)]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert len(scores) == 4


def test_report_is_well_formed(page):
    assert Outline(page).open == []


def test_report_shows_both_blocks_and_every_section(page):
    for heading in ("Prompted", "Automatic", "Paired tests", "Learning curves", "Images without lesion"):
        assert f">{heading}</h" in page
    assert "An episode of each agent" in page


def test_pictures_decode_and_the_episode_is_animated(page):
    uris = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", page)
    pictures = [Image.open(io.BytesIO(base64.b64decode(content))) for _, content in uris]
    frames = [getattr(picture, "n_frames", 1) for picture in pictures]
    assert frames.count(2) == 1
    # A plot of Dice for each block, agreement, learning curves, one film and six images.
    assert len(pictures) == 2 + 1 + 1 + 1 + 6


def test_headings_of_the_tables_say_what_they_mean(page):
    titles = [value for name, value in Outline(page).attributes if name == "title"]
    assert any(
        title.startswith("95th percentile of the distances (larger of the two directed") for title in titles
    )
    terms = page.split("<h2>Terms</h2>")[1]
    assert "<dt>HD95 [px]</dt><dd>95th percentile" in terms
    assert "[mm]" not in terms


def test_the_most_disputed_image_is_none_of_the_others(toy, tmp_path, samples):
    page = write(tmp_path, [ProposalEllipse(), toy.ShrinkingAgent()], samples)
    section = page.split("<h2>The same images")[1].split("<h2>")[0]
    row = section.split("<h3>agent</h3>")[1]
    names = re.findall(r"<b>[a-z ]+</b> <button[^>]+>(case \d)", row)
    assert len(names) == len(set(names)) == 4


def test_prompted_and_automatic_methods_have_plots_of_their_own(page):
    section = page.split("<h2>Dice of every image</h2>")[1].split("<h2>")[0]
    assert section.count("<img") == 2
    assert section.index(">Prompted</h3>") < section.index(">Automatic</h3>")


def test_one_group_gives_no_interval_and_no_p_value(toy, tmp_path):
    samples = [dataclasses.replace(toy.make_sample(index), group="one") for index in range(3)]
    page = write(tmp_path, [ProposalEllipse(), toy.ShrinkingAgent()], samples)
    results = page.split("<h2>Results</h2>")[1].split("<h2")[0]
    assert results.count("[—]") == 2
    section = page.split("<h2>Paired tests</h2>")[1].split("<h2>")[0]
    assert section.count("<td class=number>—</td>") == 2
    assert "With one group no p-value can be below 1: use more images." in section


def test_groups_too_few_for_a_test_are_pointed_out(toy, tmp_path, samples):
    methods = [ProposalEllipse(), toy.ShrinkingAgent()]
    assert "With 3 groups no p-value can be below 0.25" in write(tmp_path / "few", methods, samples)
    many = [dataclasses.replace(toy.make_sample(index), group=f"{index}") for index in range(6)]
    assert "no p-value can be" not in write(tmp_path / "many", methods, many)


def test_risk_over_coverage_is_drawn_for_methods_with_uncertainties(toy, doubter, tmp_path, samples):
    page = write(tmp_path, [doubter, toy.Darkness()], samples)
    section = page.split("<h2>Risk over coverage</h2>")[1].split("<h2>")[0]
    assert section.count("data:image/png") == 1
    assert section.count("<tr>") == 2
    assert "doubter" in section
    assert "darkness" not in section
    assert Outline(page).open == []


def test_sections_without_content_are_left_out(toy, tmp_path, samples):
    page = write(tmp_path, [toy.Darkness()], samples)
    for heading in (
        "Paired tests",
        "Learning curves",
        "Images without lesion",
        "Risk over coverage",
        "An episode",
        "Prompted</h3>",
    ):
        assert heading not in page


def test_hostile_names_are_escaped(toy, tmp_path):
    agent = toy.ShrinkingAgent()
    agent.name = HOSTILE
    samples = [toy.make_sample(index, name=f"{index}{HOSTILE}") for index in range(3)]
    compare(
        [agent, ProposalEllipse(), toy.Darkness(HOSTILE + "$^$")],
        samples,
        tmp_path / "out",
        dataset=HOSTILE,
        split=HOSTILE,
        curves={HOSTILE: CURVES["darkness"]},
    )
    page = (tmp_path / "out" / "report.html").read_text()
    outline = Outline(page)
    assert outline.open == []
    assert outline.tags.count("script") == 2
    assert not any("evil" in (value or "") for name, value in outline.attributes if name == "src")
    assert "&lt;script&gt;" in page


def test_a_single_image_makes_a_report(toy, tmp_path):
    page = write(tmp_path, [ProposalEllipse()], [toy.make_sample(0)])
    assert re.search(r"best</b> <button[^>]+>case 0", page)


def test_a_run_whose_name_begins_with_an_underscore_is_in_the_legend():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a legend without entries
        plot_curves({"_run": CURVES["darkness"]}, "Dice")

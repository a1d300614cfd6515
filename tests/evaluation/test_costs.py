import numpy as np
import torch
from torch import nn

from usrl.classical import ProposalEllipse
from usrl.evaluation.compare import compare
from usrl.evaluation.costs import COSTS, list_costs, measure_cost
from usrl.evaluation.methods import open_segmenter
from usrl.evaluation.report.papers import REVIEWED
from usrl.networks.models import _BUILDERS
from usrl.segmenter import Answer


class Convolving:
    """One convolution of 3x3 from one channel to four, whose answer is empty."""

    name, track = "convolving", "automatic"

    def __init__(self) -> None:
        self.network = nn.Conv2d(1, 4, 3, padding=1, bias=False)

    def networks(self):
        return [self.network, self.network]

    @torch.inference_mode()
    def segment(self, image, prompt):
        self.network(torch.from_numpy(image.astype(np.float32))[None, None])
        self.network(torch.zeros(1, 1, 8, 8))
        return Answer(np.zeros(image.shape, bool))


def test_costs_of_a_convolution_are_those_computed_by_hand(toy):
    sample = toy.make_sample(0)
    height, width = sample.image.shape
    cost = measure_cost(Convolving(), sample, None)
    assert cost["parameters"] == 4 * 9  # once, though it is named twice
    assert cost["flops"] == 2 * 4 * 9 * (height * width + 8 * 8)
    weights, result = 4 * 4 * 9, 4 * 4 * height * width
    assert (
        weights + result <= cost["peak_bytes"] < weights + result + 4 * height * width
    )  # the second fits in
    assert cost["without"] is None


def test_what_has_no_network_says_so(toy):
    sample, boxes = toy.make_sample(0), ((10, 10, 40, 40),)
    for method, why in ((ProposalEllipse(), "has no network"), (toy.TargetItself(), "a ceiling chooses")):
        cost = measure_cost(method, sample, boxes)
        assert [cost[key] for key in COSTS] == [None, None, None]
        assert cost["without"].startswith(why)


def test_every_method_has_a_row(toy):
    sample = toy.make_sample(0)
    methods = {"box": ProposalEllipse(), "net": Convolving()}
    rows = list_costs(methods, sample, {sample.name: ((10, 10, 40, 40),)})
    assert [(row["method"], row["track"], row["parameters"]) for row in rows] == [
        ("box", "prompted", None),
        ("net", "automatic", 36),
    ]


def test_a_chain_costs_more_than_its_first_part(toy):
    sample = toy.make_sample(0)
    network = open_segmenter("unet-phantom", "cpu")
    chain = open_segmenter("unet-phantom+contour-bc", "cpu")
    alone, both = (measure_cost(method, sample, None) for method in (network, chain))
    agent = measure_cost(open_segmenter("contour-bc", "cpu"), sample, ((10, 10, 40, 40),))
    assert both["parameters"] == alone["parameters"] + agent["parameters"]
    assert both["flops"] > alone["flops"] > 0
    assert alone["peak_bytes"] > 4 * alone["parameters"]


def test_networks_of_the_review_are_named_with_their_papers(toy, samples, tmp_path):
    compare(
        [open_segmenter("unet-phantom", "cpu"), toy.Darkness()],
        samples,
        tmp_path / "out",
        dataset="",
        split="",
    )
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    section = page.split("<h2>Networks of the review</h2>")[1].split("<h2")[0]
    assert "Ronneberger et al. 2015" in section
    assert "unet-phantom" in section
    assert "darkness" not in section
    assert "none is a published one" in section


def test_the_networks_of_the_review_are_names_of_recipes():
    assert set(REVIEWED) <= set(_BUILDERS)

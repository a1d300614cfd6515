import numpy as np
import torch
from torch import nn

from usrl.classical import ProposalEllipse
from usrl.evaluation.costs import COSTS, list_costs, measure_cost
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

import re
import xml.etree.ElementTree as ET
from dataclasses import asdict

import numpy as np
import pytest

from usrl.evaluation.report.diagrams import draw_profiles, draw_ranks
from usrl.evaluation.statistics.effects import rank_methods
from usrl.evaluation.statistics.summary import trace_profiles


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def ranks():
    base = np.random.default_rng(0).random(30)
    scores = {"good <b>": base + 1, "same": base + 1.0 + 0.01 * np.sin(np.arange(30)), "bad $x$": base}
    return asdict(rank_methods(scores))


def test_a_diagram_names_every_method_with_its_mean_rank(ranks):
    shown = texts(draw_ranks(ranks))
    for name, mean in ranks["mean_ranks"].items():
        own = name.replace("$", r"\$") if "$" in name else name
        assert any((name in text or own in text) and f"{mean:.2f}" in text for text in shown)
    assert f"Nemenyi's critical difference {ranks['critical_difference']:.2f}" in shown


def test_a_diagram_has_a_thick_line_for_each_clique(ranks):
    assert len(ranks["cliques"]) == 1
    thick = [draw_ranks(each).count(b"stroke-width: 4") for each in (ranks, ranks | {"cliques": []})]
    assert thick == [1, 0]


def test_profiles_have_a_curve_with_a_name_for_each_method():
    scores = {name: np.random.default_rng(place).random((2, 12)) for place, name in enumerate("abc")}
    svg = draw_profiles(trace_profiles(scores, list("aabbccddeeff"), 0))
    assert set("abc") <= set(texts(svg))


def test_the_same_figure_gives_the_same_bytes_and_asks_nobody_for_anything(ranks):
    svg = draw_ranks(ranks)
    assert svg == draw_ranks(ranks)
    assert not re.search(rb"(?:href|src)=\"(?!#)", svg)

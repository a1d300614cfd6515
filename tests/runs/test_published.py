"""The scores of single images next to weights are those that the cards state."""

import csv
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).parents[2] / "agents"
FILES = sorted(ROOT.glob("*/cases-*.csv"))


@pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])
def test_the_mean_of_published_cases_is_in_the_card(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["case"] for row in rows}) == len(rows) == 103
    (method,) = {row["method"] for row in rows}
    assert method.rpartition("+")[2] == path.parent.name
    card = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"{mean(float(row['dice']) for row in rows):.3f} [" in card
    assert f"({path.name})" in card


def test_agents_have_published_cases():
    assert len(FILES) >= 5

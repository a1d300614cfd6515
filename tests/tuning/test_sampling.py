import sys

import pytest

from usrl.errors import UserError
from usrl.runs.search import SearchRange
from usrl.tuning.trials import Trial, propose

SEARCH = {
    "rate": SearchRange(low=1e-5, high=1e-1, log=True),
    "layers": SearchRange(low=1, high=6),
    "scale": SearchRange(choices=["pixel", "proposal"]),
}


def _search(trials: int, seed: int, tried: tuple[Trial, ...] = ()) -> list[Trial]:
    """Search for many layers: the score is their number."""
    found = list(tried)
    while len(found) < trials:
        drawn = propose(SEARCH, found, seed)
        assert drawn is not None
        found.append(Trial(number=len(found), drawn=drawn, val_score=drawn["layers"] / 6))
    return found


def test_a_search_that_goes_on_proposes_what_an_uninterrupted_one_does() -> None:
    whole = _search(16, seed=3)
    assert _search(16, seed=3, tried=tuple(whole[:5])) == whole
    assert _search(16, seed=3, tried=tuple(whole[:13])) == whole
    assert _search(16, seed=4) != whole


def test_what_did_well_is_tried_more_often_than_chance() -> None:
    later = [trial.drawn["layers"] for seed in range(3) for trial in _search(40, seed)[15:]]
    assert sum(layers >= 5 for layers in later) / len(later) > 0.55  # a third by chance


def test_no_values_are_tried_twice_and_a_small_space_ends() -> None:
    search = {"a": SearchRange(choices=["x", "y"]), "b": SearchRange(low=1, high=3)}
    tried: list[Trial] = []
    for number in range(9):
        drawn = propose(search, tried, seed=0)
        if drawn is None:
            break
        failure = "diverged" if number == 2 else None
        tried.append(Trial(number=number, drawn=drawn, val_score=None if failure else 0.5, failure=failure))
    assert sorted((trial.drawn["a"], trial.drawn["b"]) for trial in tried) == [
        (a, b) for a in (0, 1) for b in (1, 2, 3)
    ]


def test_a_failed_trial_does_not_count_as_a_bad_one() -> None:
    failed = Trial(number=0, drawn={"rate": 0.1, "layers": 6, "scale": 0}, failure="diverged")
    assert propose(SEARCH, [failed], 0) is not None


def test_without_optuna_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r'pip install "usrl\[tune\]"'):
        propose(SEARCH, [], 0)

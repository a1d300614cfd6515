"""What is said of any segmenter."""

from usrl.classical import CLASSICAL
from usrl.segmenter import name_method


def test_a_method_says_how_often_it_starts_and_from_what() -> None:
    assert (name_method("agent"), name_method("agent", 8)) == ("agent", "agent x8")
    assert name_method("agent", 8, CLASSICAL["otsu"]()) == "otsu+agent x8"

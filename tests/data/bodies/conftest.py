import pytest

from usrl.data.bodies.dataset import make_body


@pytest.fixture(scope="session")
def bodies():
    """Four bodies of seed 0."""
    return [make_body(0, index) for index in range(4)]

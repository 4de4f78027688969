"""What the tests of families share."""

import jax
import pytest

from tests.problems import FAMILIES


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64():
        yield


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param

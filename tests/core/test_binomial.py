"""Binomial draws against SciPy's distribution, from one trial to millions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesclust.core import assign
from bayesclust.core.binomial import binomial
from tests.problems import KEY

DRAWS = 8000
CASES = [
    (0, 0.3),
    (1, 0.3),
    (3, 0.999),
    (10, 0.5),
    (17, 0.07),
    (40, 1.0),
    (100, 0.02),
    (1000, 0.0),
    (1000, 0.9),
    (10**6, 1e-6),
    (10**6, 0.37),
    (2**24, 1 - 1e-5),
]


@pytest.fixture(scope="module", params=["float32", "float64"])
def drawn(request):
    """Draws ``(cases, DRAWS)``, all by one program."""
    with jax.enable_x64(request.param == "float64"):
        n, p = np.array(CASES).T[..., None].astype(request.param)
        n, p = (jnp.asarray(np.repeat(v, DRAWS, axis=1)) for v in (n, p))
        return np.asarray(jax.jit(binomial)(KEY, n, p), np.float64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_have_the_distribution(drawn, case):
    n, p = case
    found = drawn[CASES.index(case)]
    np.testing.assert_array_equal(found, np.round(found))
    assert found.min() >= 0
    assert found.max() <= n
    law = stats.binom(n, p)
    # Cells of at least 1 % of the probability, by the law's own quantiles.
    edges = np.unique(law.ppf(np.linspace(0.01, 0.99, 30)))
    expected = np.diff(law.cdf(edges), prepend=0, append=1)
    observed = np.bincount(np.searchsorted(edges, found), minlength=len(edges) + 1)
    used = expected * DRAWS > 5
    assert (observed[expected == 0] == 0).all()
    z = (observed - DRAWS * expected)[used] / np.sqrt(DRAWS * expected * (1 - expected) + 1)[used]
    assert np.abs(z).max() < 4.5
    assert abs(found.mean() - law.mean()) <= 5 * law.std() / np.sqrt(DRAWS) + 1e-9
    assert abs(found.var() - law.var()) <= 5 * np.sqrt(
        2 * law.var() ** 2 / DRAWS + law.var() / DRAWS
    )


@pytest.mark.parametrize("k", [1, 3, 20])
def test_counts_of_rows_are_multinomial(k):
    weight = np.repeat([0.0, 1.0, 7.0, 1000.0], 2000)[None].astype("float32")
    p = np.random.default_rng(0).dirichlet(np.ones(k))
    p[k // 2] *= k == 1  # one component that no row may have
    p /= p.sum()
    with np.errstate(divide="ignore"):
        scores = np.tile(np.log(p)[:, None], (1, weight.size)).astype("float32") - 300
    share, value = assign.counted(KEY, jnp.asarray(weight))(jnp.asarray(scores), jnp.int32(0))
    count = np.asarray(share, np.float64) * weight[0]
    np.testing.assert_allclose(count, np.round(count), atol=1e-3)
    np.testing.assert_allclose(count.sum(axis=0), weight[0], rtol=1e-6)
    np.testing.assert_allclose(value, -300, rtol=1e-6)
    assert (count[p == 0] == 0).all()
    for w in (1, 7, 1000):
        part = count[:, weight[0] == w]
        np.testing.assert_allclose(
            part.mean(axis=1), w * p, atol=4.5 * np.sqrt(w * 0.25 / part.shape[1])
        )
        wanted = w * (np.diag(p) - np.outer(p, p))
        np.testing.assert_allclose(np.cov(part).reshape(k, k), wanted, atol=0.04 * w)


def test_single_rows_have_one_component():
    weight = jnp.ones((2, 64), jnp.float32)
    scores = jnp.asarray(np.random.default_rng(1).normal(size=(4, 64)), jnp.float32)
    first, value = assign.counted(KEY, weight)(scores, jnp.int32(0))
    second, _ = assign.counted(KEY, weight)(scores, jnp.int32(1))
    assert set(np.unique(first)) == {0, 1}
    assert not np.array_equal(first, second)  # blocks draw for themselves
    np.testing.assert_allclose(value, jax.scipy.special.logsumexp(scores, axis=0), rtol=1e-5)

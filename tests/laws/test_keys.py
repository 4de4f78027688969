"""Random numbers come from keys: of any kind, each used once."""

import collections
import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans, kmeans
from bayesclust.engines import CAVI, EM, NUTS, SVI, Bootstrap, Gibbs, Lloyd, PartitionGibbs
from bayesclust.engines.starts import RandomResponsibilities, SeededStart
from bayesclust.families import FullGaussian, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.problems import slowly

IMPLS = slowly(["threefry2x32", "rbg", "unsafe_rbg"], {"rbg"})
N, D = 41, 3  # of no other test: programs compiled elsewhere are not watched
X = np.random.default_rng(5).normal(size=(N, D)) * [1.0, 2.0, 0.5] + 7.0
X = X.astype(np.float32)


# -- every kind of key -----------------------------------------------------------------------

ONE = Mixture(FullGaussian(), 1)
TWO = Mixture(SphericalGaussian(), 2)


def bootstrapped_mean(key, weight=None):
    """Standard errors of the mean of all rows, and what they are."""
    draws = Bootstrap(EM(), num_draws=400).run(key, ONE, X, sample_weight=weight)
    # Weights n Dirichlet(1, .., 1) have variance n / (n + 1) and covariances -1 / (n + 1).
    return draws.params["mean"].reshape(-1, D).std(axis=0), X.std(axis=0) / np.sqrt(N + 1)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("weight", [None, np.ones(N, np.float32)], ids=["plain", "weights"])
def test_standard_errors_of_a_bootstrap_are_those_of_a_mean(impl, weight):
    found, wanted = bootstrapped_mean(jax.random.key(0, impl=impl), weight)
    np.testing.assert_allclose(found, wanted, rtol=5 / np.sqrt(2 * 400))


def means(engine, mixture, key, **kwargs):
    draws = engine.run(key, mixture, X, **kwargs)
    return np.asarray(draws.params["mean"]).reshape(*draws.shape, -1)


BAYESIAN = {
    "gibbs": Gibbs(20, 200, 2),
    "cavi": CAVI(num_draws=400),
    "nuts": NUTS(100, 200, 2),
    "svi": SVI(num_steps=1000, num_draws=400),
}


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", slowly(BAYESIAN, {"gibbs"}))
def test_posterior_of_one_mean_is_as_wide_as_theory_says(name, impl):
    """Under a weak prior the mean of n normal rows has standard deviation sd / sqrt(n)."""
    first, second = (means(BAYESIAN[name], ONE, jax.random.key(s, impl=impl)) for s in (1, 2))
    wanted = X.std(axis=0, ddof=1) / np.sqrt(N)
    np.testing.assert_allclose(first.reshape(-1, D).std(axis=0), wanted, rtol=0.25)
    assert np.isin(first, second).mean() < 0.05  # some are equal by chance
    if len(first) > 1:
        assert np.isin(first[0], first[1]).mean() < 0.05


@pytest.mark.parametrize("impl", IMPLS)
def test_posterior_of_the_temperature_of_one_cluster_is_a_gamma(impl):
    engine = PartitionGibbs(num_warmup=0, num_draws=200, num_chains=2, thinning=1)
    mixture = Mixture(SphericalGaussian(), 1)
    first, second = (engine.run(jax.random.key(s, impl=impl), mixture, X) for s in (1, 2))
    found = first.stats["temperature"]
    shape, rate = N * D / 2, ((X - X.mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(found.mean(), shape / rate, rtol=5 / np.sqrt(400 * shape))
    np.testing.assert_allclose(found.std(), np.sqrt(shape) / rate, rtol=5 / np.sqrt(800))
    for one, two in (found, first.params["mean"], (found, second.stats["temperature"])):
        assert np.isin(one, two).mean() < 0.05  # some are equal by chance
    # Centres are drawn with numbers of their own: standard normal, and unlike the temperature's.
    z = first.params["mean"][:, :, 0] - X.mean(axis=0)
    z = (z * np.sqrt(2 * found * N)[..., None]).reshape(-1, D)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=5 / np.sqrt(800))
    lines = np.column_stack([z, found.ravel(), np.roll(found.ravel(), -1)])
    assert np.abs(np.corrcoef(lines.T) - np.eye(D + 2))[:D].max() < 5 / np.sqrt(400)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("engine", "start"),
    [
        (Lloyd(max_iter=1), kmeans.greedy),
        (Lloyd(max_iter=1), kmeans.random_rows),
        (EM(max_iter=1), SeededStart()),
        (EM(max_iter=1), RandomResponsibilities()),
    ],
    ids=["lloyd-greedy", "lloyd-random", "em-seeds", "em-random"],
)
def test_other_keys_start_elsewhere(engine, start, impl):
    found = [means(engine, TWO, jax.random.key(s, impl=impl), start=start) for s in range(8)]
    assert len(np.unique(np.stack(found).round(4), axis=0)) >= 6


RAW = {
    "kmeans": lambda key: kmeans.fit(key, X, 2, init=kmeans.random_rows, n_init=3, seeding_rows=20),
    "em": lambda key: means(EM(max_iter=1), TWO, key, start=RandomResponsibilities()),
    "bootstrap": lambda key: means(Bootstrap(EM(), num_draws=400), ONE, key),
    "gibbs": lambda key: means(BAYESIAN["gibbs"], ONE, key),
}


@pytest.mark.parametrize("name", slowly(RAW, {"kmeans", "em"}))
def test_raw_keys_give_what_typed_ones_do(name):
    found, wanted = (RAW[name](key) for key in (jax.random.PRNGKey(3), jax.random.key(3)))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


SCRIPT = """
import sys
import jax
import numpy as np
from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans
from bayesclust.engines import Gibbs
X = np.random.default_rng(5).normal(size=(41, 3)).astype(np.float32)
assert jax.random.key_data(jax.random.key(0)).shape == (4,)
for seed in (1, 2):
    short = dict(init="random", max_iter=1, n_init=1, random_state=seed)
    gm = GaussianMixture(1, uncertainty="bootstrap", random_state=seed).fit(X)
    print(*np.ravel(gm.standard_errors()["mean"]))
    print(*np.ravel(KMeans(2, tol=1e9, **short).fit(X).cluster_centers_))
    print(*np.ravel(MiniBatchKMeans(2, batch_size=20, **short).fit(X).cluster_centers_))
    if sys.argv[1:]:
        engine = Gibbs(10, 50, 1)
        bm = BayesianMixture(1, engine=engine, random_state=seed, standardize=True).fit(X)
        print(*bm.clustering_.draws.params["mean"].ravel())
        print(*gm.sample(5)[0].ravel(), *bm.sample(5)[0].ravel())
        print(*bm.prior_predictive(1, 5)[0].ravel())
"""


@pytest.mark.parametrize("impl", IMPLS[1:])
def test_a_process_that_prefers_another_generator(impl):
    env = {**os.environ, "JAX_DEFAULT_PRNG_IMPL": impl}
    more = ["bayes"] if impl == "unsafe_rbg" else []
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *more],
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = [np.array(line.split(), float) for line in run.stdout.splitlines()]
    half = len(lines) // 2
    assert half == (6 if more else 3)
    rows = np.random.default_rng(5).normal(size=(41, 3)).astype(np.float32)
    wanted = rows.std(axis=0) / np.sqrt(len(rows) + 1)
    np.testing.assert_allclose(lines[0], wanted, rtol=5 / np.sqrt(2 * 200))
    for one, two in zip(lines[:half], lines[half:], strict=True):
        assert not np.isclose(one, two, rtol=1e-9).all()


# -- no key is used twice --------------------------------------------------------------------

DRAWING = ("bits", "categorical", "choice", "gamma", "normal", "permutation", "randint", "uniform")


class Watch:
    """Counts what is done with every key: split, drawn from, its words read, numbers folded in."""

    def __init__(self, monkeypatch):
        self.uses = collections.Counter()
        self.folded = collections.Counter()
        self._words = jax.random.key_data
        for name in ("split", "key_data", *DRAWING):
            self._replace(monkeypatch, name, self._use)
        self._replace(monkeypatch, "fold_in", self._fold)

    def _replace(self, monkeypatch, name, note):
        plain = getattr(jax.random, name)

        @functools.wraps(plain)
        def watched(key, *args, **kwargs):
            # NumPyro's own use of a key that it was handed is not ours.
            if sys._getframe(1).f_globals["__name__"].startswith(("bayesclust", __name__)):
                folded = args[:1] if name == "fold_in" else ()
                parts = (self._words(key), *folded)
                if any(isinstance(p, jax.core.Tracer) for p in parts):
                    jax.debug.callback(note, *parts)
                else:
                    note(*parts)
            return plain(key, *args, **kwargs)

        monkeypatch.setattr(jax.random, name, watched)

    def _use(self, words):
        self.uses[tuple(np.asarray(words).ravel().tolist())] += 1

    def _fold(self, words, number):
        self.folded[*np.asarray(words).ravel().tolist(), int(number)] += 1

    def check(self, least):
        jax.effects_barrier()
        assert len(self.uses) + len(self.folded) >= least  # it has seen what there is to see
        assert {key: n for key, n in self.uses.items() if n > 1} == {}
        assert {key: n for key, n in self.folded.items() if n > 1} == {}
        assert not {key[:-1] for key in self.folded} & self.uses.keys()


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


def test_the_watch_sees_a_key_used_twice(watch):
    key = jax.random.key(0)
    inside = jax.jit(lambda key: jax.random.normal(key) + jax.random.uniform(key))
    for twice in (
        lambda: [jax.random.split(key), jax.random.uniform(key)],
        lambda: [jax.random.fold_in(key, 1), jax.random.fold_in(key, 1)],
        lambda: [jax.random.fold_in(key, 1), jax.random.key_data(key)],
        lambda: inside(key),
    ):
        watch.uses.clear()
        watch.folded.clear()
        twice()
        with pytest.raises(AssertionError):
            watch.check(1)


def fit_and_sample(model):
    model.fit(X)
    if hasattr(model, "sample"):
        model.sample(6)
    if hasattr(model, "prior_predictive"):
        model.prior_predictive(2, 3)


ENGINES = {
    "gibbs": Gibbs(3, 4, 2),
    "cavi": CAVI(n_init=2, num_draws=4),
    "stochastic": CAVI(num_draws=4, batch_size=10, max_iter=3),
    "nuts": NUTS(3, 4, 2),
}
MODELS = {
    "kmeans-bootstrap": lambda: KMeans(
        2, init="random", n_init=3, seeding_rows=20, uncertainty="bootstrap", num_draws=8
    ),
    "kmeans-gibbs": lambda: KMeans(2, uncertainty="gibbs", num_draws=3),
    "minibatch": lambda: MiniBatchKMeans(2, batch_size=20, uncertainty="bootstrap", num_draws=8),
    "em-kmeans": lambda: GaussianMixture(2, n_init=2, uncertainty="bootstrap", num_draws=8),
    "em-random": lambda: GaussianMixture(2, init_params="random", tol=1e-2),
    **{
        f"bayes-{name}": functools.partial(BayesianMixture, 2, engine=engine)
        for name, engine in ENGINES.items()
    },
}

QUICK = {"kmeans-bootstrap", "kmeans-gibbs", "minibatch", "em-kmeans", "bayes-gibbs"}


@pytest.mark.filterwarnings("ignore")  # such short runs do not converge
@pytest.mark.parametrize("name", slowly(MODELS, QUICK))
def test_an_estimator_uses_no_key_twice(name, watch):
    fit_and_sample(MODELS[name]().set_params(random_state=11))
    watch.check(3)

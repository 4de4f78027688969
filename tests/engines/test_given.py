"""Pieces by themselves: what is wrong is told by its name before anything is built."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

from bayesclust import kmeans
from bayesclust.core.rows import pack
from bayesclust.engines import CAVI, EM, NUTS, SVI, Bootstrap, Gibbs, Lloyd, PartitionGibbs
from bayesclust.engines.program import program
from bayesclust.families import FullGaussian, NormalInverseWishart, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.problems import KEY, blobs

X, _ = blobs(30, 2, 2)
MIXTURE = Mixture(SphericalGaussian(), 2)
ENGINES = [Gibbs(), NUTS(), SVI(), CAVI(), EM(), Lloyd(), Bootstrap(EM()), PartitionGibbs()]
WRONG = {
    "one row": (KEY, X[0], None, "X has shape"),
    "rows of rows": (KEY, X[None], None, "X has shape"),
    "no rows": (KEY, X[:0], None, "X has shape"),
    "no columns": (KEY, X[:, :0], None, "X has shape"),
    "NaN": (KEY, np.where(np.eye(30, 2), np.nan, X), None, "X holds NaN"),
    "infinity": (KEY, np.where(np.eye(30, 2), -np.inf, X), None, "X holds NaN"),
    "text": (KEY, X.astype(str), None, "X holds <U"),
    "complex": (KEY, X + 1j, None, "X holds complex"),
    "half precision": (KEY, X.astype("float16"), None, "X holds float16"),
    "few weights": (KEY, X, np.ones(3), "sample_weight"),
    "weights in columns": (KEY, X, np.ones((30, 1)), "sample_weight"),
    "negative weights": (KEY, X, -np.ones(30), "sample_weight"),
    "weights of nought": (KEY, X, np.zeros(30), "sample_weight"),
    "NaN weights": (KEY, X, np.full(30, np.nan), "sample_weight"),
    "a number for a key": (0, X, None, "key must be"),
}


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told(engine, what):
    key, rows, weight, said = WRONG[what]
    with pytest.raises((ValueError, TypeError), match=said):
        engine.run(key, MIXTURE, rows, sample_weight=weight)


@pytest.mark.parametrize(
    "engine",
    [
        Gibbs(num_draws=0),
        Gibbs(num_chains=0),
        Gibbs(num_warmup=-1),
        Gibbs(thinning=0),
        Gibbs(num_draws=10.0),
        NUTS(num_draws=0),
        SVI(num_steps=0),
        CAVI(n_init=0),
        CAVI(batch_size=0),
        EM(n_init=0),
        Lloyd(n_init=0),
        Bootstrap(EM(), 0),
        PartitionGibbs(num_chains=0),
        PartitionGibbs(shape=-1.0),
    ],
    ids=str,
)
def test_settings_that_make_no_run_are_told(engine):
    with pytest.raises(ValueError, match=r"num_|n_init|thinning|batch_size|shape"):
        engine.run(KEY, MIXTURE, X)


@pytest.mark.parametrize("engine", [Gibbs(), NUTS(), SVI(), CAVI(), EM()], ids=str)
def test_a_start_must_be_one(engine):
    with pytest.raises(TypeError, match="start='kmeans'"):
        engine.run(KEY, MIXTURE, X, start="kmeans")


def test_whole_numbers_are_rows():
    whole = np.round(X)
    found = kmeans.fit(KEY, whole.astype(int).tolist(), 2)
    np.testing.assert_array_equal(found.centers, kmeans.fit(KEY, whole, 2).centers)


def test_parts_of_rows_are_refused_by_gibbs():
    with pytest.raises(ValueError, match=r"sample_weight.*whole.*NUTS, SVI or CAVI"):
        Gibbs().run(KEY, MIXTURE, X, sample_weight=np.full(30, 0.5))


@pytest.mark.parametrize(
    "family", [FullGaussian(), FullGaussian(prior=NormalInverseWishart(df=5.0))]
)
def test_a_prior_that_is_not_set_says_what_to_call(family):
    calls = [
        family.begin,
        lambda: family.from_prior(KEY, 2),
        lambda: numpyro.handlers.seed(program, 0)(Mixture(family, 2), X),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"prior of FullGaussian.*scaled_to.*informed"):
            call()
    with pytest.raises(ValueError, match="call scaled_to"):
        family.informed(2)


def test_a_program_that_draws_rows_asks_how_many():
    mixture = Mixture(FullGaussian().scaled_to(jnp.ones(2)).informed(2), 2)
    with pytest.raises(ValueError, match="give shape"):
        numpyro.handlers.seed(program, 0)(mixture)


def test_seeds_are_found_outside_a_program():
    rows = pack(jnp.asarray(X, jnp.float32))
    found = kmeans.greedy(KEY, rows, 2)
    inside = jax.jit(kmeans.greedy, static_argnums=2)(KEY, rows, 2)
    np.testing.assert_allclose(found, inside, rtol=1e-6)

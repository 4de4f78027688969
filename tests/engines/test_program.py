"""The NumPyro program is the mixture; NUTS and SVI run it, and programs of the user's own."""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density

from bayesclust import BayesianMixture
from bayesclust.engines import NUTS, SVI, chains
from bayesclust.engines.program import MixtureDensity, program
from bayesclust.families import DiagonalGaussian, Gamma, SphericalGaussian
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet
from tests.families.test_independent import PRIORS as INDEPENDENT
from tests.families.test_independent import learnt
from tests.problems import FAMILIES, KEY, blobs, slowly

K, D = 2, 2
X = blobs(40, D, K)[0]


@pytest.fixture
def double_precision():
    with jax.enable_x64():
        yield


def mixture_of(name, form):
    """A mixture with this form of prior."""
    family = FAMILIES[name](spread=jnp.ones(D))
    if form == "conjugate":
        family = family.informed(K)
    else:
        prior = INDEPENDENT[name] if form == "independent" else learnt(name)
        family = FAMILIES[name](prior=prior, spread=jnp.ones(D))
    return Mixture(family, K, Dirichlet(Gamma(2.0, 1.0)))


@jax.jit
def prior_draw(mixture, key_params, key_weights):
    """Parameters, hyperparameters, log weights and those of the weights, in one program."""
    dtype = jnp.result_type(float)
    return (
        *mixture.family.from_prior(key_params, K),
        *mixture.weights.from_prior(key_weights, K, dtype),
    )


@jax.jit
def sites_of(family, params):
    return family.as_sites(params)


@jax.jit
def theirs_and_ours(mixture, rows, values, draw):
    """Log density of the program at values of its sites, and of the mixture at a draw."""
    params, hyper, log_weights, state = draw
    theirs, _ = log_density(program, (mixture, rows), {}, values)
    ours = jnp.sum(mixture.log_density(params, log_weights, rows))
    ours += jnp.sum(mixture.family.log_prior(params, hyper))
    return theirs, ours + mixture.weights.log_prior(log_weights, state)


def forms():
    return [(n, f) for n in FAMILIES for f in ("conjugate", "independent", "hierarchical")]


@pytest.mark.parametrize("name, form", slowly(forms(), {("full", "hierarchical")}))
def test_the_program_has_the_density_of_the_mixture(name, form, double_precision):
    """Up to the Jacobian of the sites, which shows as the same gap at any weights and rows."""
    mixture = mixture_of(name, form)
    gaps = {}
    for seed in range(2):
        key_params, key_weights = jax.random.split(jax.random.key(seed))
        gaps[seed] = []
        for turn in range(3):
            key = jax.random.fold_in(key_weights, turn)
            draw = prior_draw(mixture, key_params, key)
            params, hyper, log_weights, state = draw
            sites = sites_of(mixture.family, params)
            values = {**sites, "weights": jnp.exp(log_weights), **state}
            if "prior_scale" in hyper:
                values["prior_scale_cholesky"] = jnp.linalg.cholesky(hyper["prior_scale"])
            else:
                values |= hyper
            theirs, ours = theirs_and_ours(mixture, X[10 * turn : 10 * turn + 10], values, draw)
            gaps[seed].append(float(theirs - ours))
        np.testing.assert_allclose(gaps[seed], gaps[seed][0], rtol=1e-8, atol=1e-8)
    if "cov" not in mixture.family.dims:  # sites are the parameters: no Jacobian at all
        np.testing.assert_allclose([*gaps[0], *gaps[1]], 0, atol=1e-8)


@pytest.mark.parametrize("form", slowly(["conjugate", "hierarchical"], {"hierarchical"}))
def test_the_jacobian_of_covariance_sites_is_that_of_their_map(form, double_precision):
    mixture = mixture_of("full", form)
    lower = jnp.tril_indices(D)

    def to_cov(entries):
        factor = jnp.zeros((D, D)).at[lower].set(entries)
        root = jnp.linalg.inv(factor)
        return (root.T @ root)[lower]

    to_cov_slope = jax.jit(jax.jacobian(to_cov))
    square = jax.jit(jax.jacobian(lambda e: _square(e, lower)))
    found = []
    for seed in range(3):
        draw = prior_draw(mixture, jax.random.key(seed), KEY)
        params, hyper, log_weights, state = draw
        sites = sites_of(mixture.family, params)
        values = {**sites, "weights": jnp.exp(log_weights), **state}
        jacobian = sum(
            np.linalg.slogdet(to_cov_slope(factor[lower]))[1]
            for factor in values["precision_cholesky"]
        )
        if hyper:
            values["prior_scale_cholesky"] = jnp.linalg.cholesky(hyper["prior_scale"])
            entries = values["prior_scale_cholesky"][lower]
            jacobian += np.linalg.slogdet(square(entries))[1]
        theirs, ours = theirs_and_ours(mixture, X, values, draw)
        found.append(float(theirs - ours - jacobian))
    np.testing.assert_allclose(found, 0, atol=1e-7)


def _square(entries, lower):
    factor = jnp.zeros((D, D)).at[lower].set(entries)
    return (factor @ factor.T)[lower]


def test_rows_are_drawn_where_none_are_given():
    mixture = mixture_of("diag", "conjugate")
    found = numpyro.infer.Predictive(program, num_samples=3)(KEY, mixture, shape=(7, D))
    assert found["x"].shape == (3, 7, D)
    assert np.isfinite(found["x"]).all()


def test_component_densities_give_memberships():
    mixture = Mixture(SphericalGaussian(), 2)
    params = {"mean": jnp.array([[0.0], [2.0]]), "var": jnp.ones(2)}
    density = MixtureDensity(mixture, params, jnp.log(jnp.array([0.5, 0.5])), 1)
    joint = density.component_log_probs(jnp.array([[1.0], [9.0]]))
    np.testing.assert_allclose(jax.nn.softmax(joint)[0], [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(
        jax.scipy.special.logsumexp(joint, axis=1),
        density.log_prob(jnp.array([[1.0], [9.0]])),
        rtol=1e-6,
    )


def own_model(X):
    """A model of the user's: half-Cauchy spreads, means tied to a common place."""
    with numpyro.plate("cluster", K):
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0).expand([D]).to_event(1))
        sd = numpyro.sample("sd", dist.HalfNormal(2.0).expand([D]).to_event(1))
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(K)))
    numpyro.deterministic("var", sd * sd)
    rows = dist.MixtureSameFamily(
        dist.Categorical(probs=weights), dist.Normal(mean, sd).to_event(1)
    )
    with numpyro.plate("obs", len(X)):
        numpyro.sample("x", rows, obs=X)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(NUTS(50, 50, 2, model=own_model), id="nuts", marks=pytest.mark.slow),
        pytest.param(SVI(num_steps=1000, num_draws=100, model=own_model), id="svi"),
    ],
)
def test_a_model_of_the_users_own_gets_the_same_answer(engine):
    z = np.arange(60) % K
    noise = np.random.default_rng(0).normal(size=(60, D))
    rows = (np.array([[-3.0, 0.0], [3.0, 1.0]])[z] + noise).astype("float32")
    model = BayesianMixture(K, family=DiagonalGaussian(), engine=engine, random_state=0)
    model.fit(rows + 5)
    found = model.membership(rows + 5)
    same = (np.asarray(found["label"]) == z).mean()
    assert max(same, 1 - same) > 0.95
    centers = np.stack([rows[z == j].mean(0) + 5 for j in range(K)])
    gap = np.linalg.norm(model.means_[:, None] - centers, axis=2).min(axis=1)
    assert gap.max() < 0.5
    assert {"log_likelihood", "log_posterior"} <= set(model.posterior_["sample_stats"])
    assert float(found["upper"].max()) <= 1


@pytest.mark.parametrize("kind", [NUTS, SVI])
def test_a_model_without_the_sites_is_refused(kind):
    def model(X):
        numpyro.sample("weights", dist.Dirichlet(jnp.ones(K)))
        numpyro.sample("x", dist.Normal(0, 1).expand(X.shape).to_event(2), obs=X)

    with pytest.raises(ValueError, match=r"no site mean, var.*numpyro\.deterministic"):
        kind(model=model).run(KEY, Mixture(DiagonalGaussian(), K), X)
    with pytest.raises(ValueError, match="sample_weight cannot be used with a model"):
        kind(model=own_model).run(
            KEY, Mixture(DiagonalGaussian(), K), X, sample_weight=np.ones(len(X))
        )
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 components"):
        kind(model=own_model).run(KEY, Mixture(DiagonalGaussian(), 3), X)


def test_rows_of_weight_two_are_rows_twice(double_precision):
    mixture = mixture_of("diag", "conjugate")
    params, _, log_weights, state = prior_draw(mixture, KEY, KEY)
    values = {**sites_of(mixture.family, params), "weights": jnp.exp(log_weights), **state}
    rows = jnp.asarray(X[:20])
    twice, _ = log_density(program, (mixture, jnp.concatenate([rows, rows])), {}, values)
    weighed, _ = log_density(program, (mixture, rows, jnp.full(20, 2.0)), {}, values)
    np.testing.assert_allclose(weighed, twice, rtol=1e-12)


def test_ctrl_c_keeps_the_steps_so_far():
    def stop(done, total):
        if done >= 500:
            raise KeyboardInterrupt

    engine = SVI(num_steps=5000, num_draws=20)
    draws = engine.run(KEY, Mixture(SphericalGaussian(), K), X, progress=stop)
    assert draws.flags["stopped"].all()
    assert draws.trace.shape == (1, 500)
    assert np.isfinite(draws.log_weights).all()


MENDED = """
import arviz
import numpyro.distributions as dist
import bayesclust.engines.program
import numpyro
assert numpyro.distributions is dist
assert dist.distribution.Unit
"""


def test_a_lazy_numpyro_is_mended():
    """ArviZ leaves one behind, which the usual import of distributions breaks."""
    subprocess.run([sys.executable, "-c", MENDED], check=True)


GUIDES = {
    "a class": AutoNormal,
    "a class with settings": functools.partial(AutoNormal, init_scale=0.05),
    "a function": lambda program: AutoNormal(program, init_scale=0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_of_ones_choice(guide):
    engine = SVI(GUIDES[guide], num_steps=500, num_draws=50)
    draws = engine.run(KEY, Mixture(SphericalGaussian(), K), X)
    assert draws.shape == (1, 50)
    assert draws.trace[0, -50:].mean() > draws.trace[0, :50].mean()
    assert np.isfinite(draws.log_weights).all()


@pytest.mark.slow
def test_nuts_goes_on_from_a_checkpoint_to_the_same_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(chains, "CHUNK", 20)
    engine = NUTS(20, 40, 2, checkpoint=str(tmp_path / "run.ckpt"))
    mixture = Mixture(SphericalGaussian(), K)

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done >= 40:
            raise KilledError

    with pytest.raises(KilledError):
        engine.run(KEY, mixture, X, progress=kill)
    began = []
    found = engine.run(KEY, mixture, X, progress=lambda done, total: began.append(done))
    assert began == [60]  # warm-up and half of the draws were not made again
    whole = dataclasses.replace(engine, checkpoint=None).run(KEY, mixture, X)
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    with pytest.raises(ValueError, match="another run"):
        engine.run(KEY, mixture, X + 1)

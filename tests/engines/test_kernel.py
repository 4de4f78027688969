"""Gibbs as a NumPyro kernel: same chain under every method, and a block of composable Gibbs."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro import infer

from bayesclust.engines import Gibbs, GibbsKernel
from bayesclust.engines.kernel import update_sites
from bayesclust.engines.program import parameter_sites, row_sites
from bayesclust.families import DiagonalGaussian, NormalInverseGamma
from bayesclust.mixture import Mixture
from bayesclust.weights import Dirichlet, Gamma
from tests.problems import KEY

K, D = 2, 2
Z = np.arange(60) % K
X = np.array([[-2.0, 0.0], [2.0, 1.0]])[Z] + np.random.default_rng(0).normal(size=(60, D))
X = X.astype("float32")
PRIOR = NormalInverseGamma(np.zeros(D, "float32"), 0.1, 2.0, np.ones(D, "float32"))
MIXTURE = Mixture(DiagonalGaussian(prior=PRIOR), K, Dirichlet(Gamma(2.0, 2.0)))


def run(method, chains=2, **kwargs):
    mcmc = infer.MCMC(
        GibbsKernel(MIXTURE),
        num_warmup=100,
        num_samples=300,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )
    mcmc.run(KEY, X, **kwargs)
    return mcmc


@pytest.fixture(scope="module")
def vectorized():
    return run("vectorized")


@pytest.mark.slow
def test_mcmc_runs_it_with_the_same_draws_by_every_method(vectorized):
    runs = (vectorized, run("sequential"))
    one, other = (m.get_samples(group_by_chain=True) for m in runs)
    assert set(one) == {"weights", "mean", "var", "concentration"}
    assert one["mean"].shape == (2, 300, K, D)
    for name, value in one.items():
        np.testing.assert_allclose(value[:, :20], other[name][:, :20], rtol=2e-3, atol=1e-3)
    fields = vectorized.get_extra_fields()
    assert np.isfinite(fields["log_posterior"]).all()


@pytest.mark.slow
def test_it_has_the_distribution_of_the_engine(vectorized):
    samples = vectorized.get_extra_fields()
    own = Gibbs(100, 300, 2).run(KEY, MIXTURE, X).stats["log_likelihood"]
    theirs = np.asarray(samples["log_likelihood"])
    error = np.sqrt(own.var() / 100 + theirs.var() / 100)  # far fewer effective draws than 600
    assert abs(own.mean() - theirs.mean()) < 5 * error


@pytest.mark.slow
def test_it_goes_on_where_it_stopped():
    whole = run("sequential", chains=1).get_samples()["weights"]
    mcmc = infer.MCMC(
        GibbsKernel(MIXTURE), num_warmup=100, num_samples=150, num_chains=1, progress_bar=False
    )
    mcmc.run(KEY, X)
    first = mcmc.get_samples()["weights"]
    mcmc.post_warmup_state = mcmc.last_state
    mcmc.run(mcmc.post_warmup_state.rng_key, X)
    both = np.concatenate([first, mcmc.get_samples()["weights"]])
    np.testing.assert_array_equal(whole, both)


@pytest.mark.slow
def test_a_larger_program_moves_the_rest_by_nuts():
    """Rows are shifted by an unknown offset, which only NUTS knows of."""
    mixture = Mixture(DiagonalGaussian(prior=PRIOR), K, Dirichlet(2.0))

    def model(X):
        offset = numpyro.sample("offset", dist.Normal(0.0, 10.0))
        params, log_weights = parameter_sites(mixture)
        row_sites(mixture, params, log_weights, X - offset)

    def move(rng_key, gibbs_sites, hmc_sites):
        return update_sites(mixture, X + 1.5 - hmc_sites["offset"], rng_key, gibbs_sites)

    blocks = [
        (infer.CustomGibbs(move), ["weights", "mean", "var"]),
        (infer.NUTS(model), ["offset"]),
    ]
    mcmc = infer.MCMC(infer.Gibbs(blocks), num_warmup=50, num_samples=100, progress_bar=False)
    mcmc.run(KEY, jnp.asarray(X + 1.5))
    found = mcmc.get_samples()
    place = found["offset"][:, None, None] + found["mean"]
    near = np.sort(np.asarray(place[..., 0]), axis=1).mean(0)
    np.testing.assert_allclose(near, [-0.5, 3.5], atol=0.5)


@pytest.mark.slow
def test_keys_of_all_shapes_start_chains():
    kernel = GibbsKernel(MIXTURE)
    single = kernel.init(KEY, 0, None, (X,), {})
    batch = kernel.init(jax.random.split(KEY, 3), 0, None, (X,), {})
    assert single.z["mean"].shape == (K, D)
    assert batch.z["mean"].shape == (3, K, D)
    assert "log posterior" in kernel.get_diagnostics_str(kernel.sample(single, (X,), {}))


def test_weights_of_rows_are_used():
    rows = np.concatenate([X, 50 + X])
    weight = np.repeat([1.0, 0.0], 60).astype("float32")
    kernel = GibbsKernel(MIXTURE)
    state = kernel.init(KEY, 0, None, (rows,), {"sample_weight": weight})
    state = jax.jit(kernel.sample)(state, (rows,), {"sample_weight": weight})
    assert np.abs(state.z["mean"]).max() < 20


@pytest.mark.parametrize("missing", ["weights", "mean"])
def test_init_params_replace_sites(missing):
    kernel = GibbsKernel(MIXTURE)
    value = {"weights": jnp.array([0.9, 0.1]), "mean": jnp.full((K, D), 7.0)}[missing]
    state = kernel.init(KEY, 0, {missing: value}, (X,), {})
    np.testing.assert_array_equal(state.z[missing], value)


def test_without_a_prior_it_takes_the_default_for_the_rows():
    """That of `Gibbs`, in the units of the rows, with and without weights."""
    open_one = Mixture(DiagonalGaussian(), K)
    weight = np.arange(60) % 3
    copies = np.repeat(X, weight, axis=0)
    found = GibbsKernel(open_one)._given(X, weight)[0].family.prior
    np.testing.assert_allclose(found.mean, copies.mean(axis=0), rtol=1e-4, atol=1e-5)
    wanted = 0.5 * copies.var(axis=0) / K ** (2.0 / D)  # a shape of 1.5, less one
    np.testing.assert_allclose(found.rate, wanted, rtol=1e-4)
    inside = jax.jit(lambda X, w: GibbsKernel(open_one)._given(X, w)[0].family.prior)(X, weight)
    np.testing.assert_allclose(inside.rate, wanted, rtol=1e-4)
    kernel = GibbsKernel(open_one)
    state = kernel.sample(kernel.init(KEY, 0, None, (X,), {}), (X,), {})
    assert all(np.isfinite(v).all() for v in state.z.values())


def test_parts_of_rows_are_refused_and_never_counted():
    kernel = GibbsKernel(MIXTURE)
    half = {"sample_weight": np.full(60, 0.5, "float32")}
    with pytest.raises(ValueError, match=r"sample_weight.*whole.*NUTS, SVI or CAVI"):
        kernel.init(KEY, 0, None, (X,), half)
    state = kernel.init(KEY, 0, None, (X,), {})
    # Inside a program there is nothing to refuse by.
    assert np.isnan(jax.jit(kernel.sample)(state, (X,), half).z["mean"]).all()


@pytest.mark.parametrize("rows", [X[0], X.astype(str)])
def test_rows_must_be_a_table_of_numbers(rows):
    with pytest.raises(ValueError, match=r"2D array|X must be numeric"):
        GibbsKernel(MIXTURE).init(KEY, 0, None, (rows,), {})

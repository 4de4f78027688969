"""JAX's own switches, set by a user for the user's code, change nothing of ours.

Each combination runs in a process of its own: switches belong to a process, and so do devices. The
right values are those without any switch.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import os, sys, warnings
import jax
import numpy as np
for switch in sys.argv[3:]:
    name, value = switch.split("=")
    jax.config.update(name, {"True": True, "False": False}.get(value, value))
import bayesclust
from bayesclust import BayesianMixture, GaussianMixture, KMeans, MiniBatchKMeans, Mixture, kmeans
from bayesclust.engines import CAVI, EM, NUTS, SVI, Gibbs
from bayesclust.families import SphericalGaussian

out, names = sys.argv[1], sys.argv[2].split(",")
rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + [4, 1.0]])
gibbs = Gibbs(num_warmup=20, num_draws=20, num_chains=2)
short = {"num_warmup": 20, "num_draws": 20, "num_chains": 2}
models = {
    "kmeans": KMeans(2),
    "bootstrap": KMeans(2, uncertainty="bootstrap", num_draws=8),
    "partitions": KMeans(2, uncertainty="gibbs", num_draws=20),
    "batches": MiniBatchKMeans(2, batch_size=50),
    "full": GaussianMixture(2, n_init=2),
    "tied": GaussianMixture(2, covariance_type="tied"),
    "diag": GaussianMixture(2, covariance_type="diag"),
    "spherical": GaussianMixture(2, covariance_type="spherical"),
    "em bootstrap": GaussianMixture(2, uncertainty="bootstrap", num_draws=8),
    "gibbs": BayesianMixture(2, engine=gibbs),
    "gibbs spherical": BayesianMixture(2, engine=gibbs, family="spherical", prior="hierarchical"),
    "gibbs hierarchical": BayesianMixture(2, engine=gibbs, prior="hierarchical"),
    "gibbs diag": BayesianMixture(2, engine=gibbs, family="diag", prior="independent"),
    "cavi": BayesianMixture(2, engine=CAVI(num_draws=20)),
    "nuts": BayesianMixture(2, engine=NUTS(**short)),
    "svi": BayesianMixture(2, engine=SVI(num_steps=250, num_draws=20)),
}
warnings.simplefilter("ignore", UserWarning)
found = {}
for dtype in ("float32", "float64"):
    rows = X.astype(dtype)
    for name in names:
        if name == "program":
            def run(key, x):
                fit = kmeans.fit(key, x, 2)
                draws = EM().run(key, Mixture(SphericalGaussian(), 2), x)
                return fit.labels, fit.centers, draws.params["mean"]
            with jax.enable_x64(dtype == "float64"), jax.transfer_guard("allow"):
                labels, *centers = jax.jit(run)(jax.random.key(0), rows)
                found[f"{dtype} program labels"] = np.asarray(labels)
                found[f"{dtype} program"] = np.concatenate([np.ravel(c) for c in centers])
            continue
        model = models[name].set_params(random_state=0).fit(rows)
        model.save(out + ".nc")
        loaded = bayesclust.load(out + ".nc")
        card = model.scorecard(rows)
        # Log densities, probabilities and margins, each by the row.
        found[f"{dtype} {name}"] = card.to_numpy(np.float64)
        again = loaded.predict_proba(rows)
        np.testing.assert_allclose(again, model.predict_proba(rows), rtol=1e-6, atol=1e-12)
        found[f"{dtype} {name} labels"] = np.asarray(model.labels_)
        model.summary(), model.diagnose()
        if hasattr(model, "sample"):
            found[f"{dtype} {name} sample"] = model.sample(5)[0]
np.savez(out, **found)
"""
QUICK = ["kmeans", "full", "gibbs", "program"]
REST = [
    "bootstrap", "partitions", "batches", "tied", "diag", "spherical", "em bootstrap",
    "gibbs spherical", "gibbs hierarchical", "gibbs diag", "cavi", "nuts", "svi",
]  # fmt: skip
STRICT = [
    "jax_numpy_dtype_promotion=strict",
    "jax_numpy_rank_promotion=raise",
    "jax_debug_nans=True",
    "jax_debug_infs=True",
    "jax_transfer_guard=disallow",
]


def answers(path, names, *switches, **environment):
    """What a process under these switches finds, by name."""
    command = [sys.executable, "-c", PROGRAM, str(path), ",".join(names), *switches]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(f"{path}.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Answers without any switch, by the names of models."""
    kept = {}

    def of(names):
        if names[0] not in kept:
            kept[names[0]] = answers(tmp_path_factory.mktemp("plain") / "found", names)
        return kept[names[0]]

    return of


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("labels"):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            tol = 1e-9 if name.startswith("float64") else 2e-3
            np.testing.assert_allclose(found[name], value, rtol=tol, atol=tol, err_msg=name)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(REST, marks=pytest.mark.slow)], ids=["quick", "rest"]
)
@pytest.mark.parametrize("switches", [[*STRICT, "jax_enable_x64=True"]], ids=["strict"])
def test_strict_switches_change_no_answer(plain, tmp_path, names, switches):
    assert_alike(answers(tmp_path / "found", names, *switches), plain(names))


@pytest.mark.slow
@pytest.mark.parametrize("names", [QUICK, REST], ids=["quick", "rest"])
@pytest.mark.parametrize("switch", [*STRICT, "jax_enable_x64=True", "jax_check_tracer_leaks=True"])
def test_each_switch_alone_changes_no_answer(plain, tmp_path, names, switch):
    assert_alike(answers(tmp_path / "found", names, switch), plain(names))


@pytest.mark.slow
def test_several_devices_and_narrow_defaults_change_no_answer(plain, tmp_path):
    several = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    assert_alike(answers(tmp_path / "several", QUICK, **several), plain(QUICK))
    narrow = {"JAX_DEFAULT_DTYPE_BITS": "32"}
    found = answers(tmp_path / "narrow", QUICK, "jax_enable_x64=True", **narrow)
    assert_alike(found, plain(QUICK))


@pytest.mark.slow
def test_point_fits_run_without_compilation(plain, tmp_path):
    found = answers(tmp_path / "found", ["kmeans"], "jax_disable_jit=True")
    assert_alike(found, {n: v for n, v in plain(QUICK).items() if n in found})

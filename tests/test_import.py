"""The face of the package: cheap to import, complete, and without side effects."""

import json
import subprocess
import sys

import pytest

import bayesclust

HEAVY = ["jax", "numpyro", "arviz", "xarray", "sklearn", "scipy", "matplotlib", "pandas"]


def in_new_process(code):
    """Run `code` in a fresh interpreter and hand back the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_loads_nothing_heavy():
    loaded = in_new_process("import bayesclust, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert "bayesclust" in loaded
    assert sorted(set(HEAVY) & set(loaded)) == []


def test_labels_need_no_tables():
    code = """
import json, sys
import bayesclust
labels = bayesclust.KMeans(2, random_state=0).fit_predict([[0.0], [1.0], [10.0], [11.0]])
assert labels.tolist() == [0, 0, 1, 1]
late = ["arviz", "matplotlib", "numpyro", "xarray"]
print(json.dumps([name for name in late if name in sys.modules]))
"""
    assert in_new_process(code) == []


def test_dir_lists_every_public_name_before_it_is_loaded():
    names, listed = in_new_process(
        "import bayesclust, json; print(json.dumps([bayesclust.__all__, dir(bayesclust)]))"
    )
    assert {"KMeans", "GaussianMixture", "load", "datasets", "__version__"} <= set(names)
    assert len(names) == len(set(names))
    assert set(names) <= set(listed)


@pytest.mark.parametrize("name", bayesclust.__all__)
def test_every_public_name_is_found_and_is_the_one_it_says(name):
    found = getattr(bayesclust, name)
    assert getattr(bayesclust, name) is found
    if name != "__version__":
        assert found.__name__.removeprefix("bayesclust.") == name


def test_jax_configuration_is_left_alone_even_when_everything_is_loaded():
    code = """
import json, jax
before = dict(jax.config.values)
import bayesclust
alone = dict(jax.config.values)
for name in bayesclust.__all__:
    getattr(bayesclust, name)
after = dict(jax.config.values)
changed = lambda now: sorted(k for k in before if before[k] != now[k])
print(json.dumps([len(before), changed(alone), changed(after)]))
"""
    count, by_import, by_use = in_new_process(code)
    assert count > 0
    assert by_import == []
    assert by_use == []


@pytest.mark.parametrize(
    "before", ["numpyro.distributions", "numpyro.infer", "bayesclust.engines.kernel"]
)
def test_arviz_may_come_first(before):
    """ArviZ leaves a lazy numpyro behind, of which an import makes subpackages twice."""
    code = f"""
import arviz, {before}
import json, warnings
import numpy as np
from bayesclust import BayesianMixture, NUTS, GibbsKernel
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(20, 1))
engine = NUTS(num_warmup=4, num_draws=4, num_chains=1)
model = BayesianMixture(1, engine=engine, family="spherical", prior="independent").fit(X)
print(json.dumps(model.means_.shape))
"""
    assert in_new_process(code) == [1, 1]


def test_other_packages_are_left_as_they_are():
    """Apart from names that a numpyro imported after ArviZ lacks, see `engines.program`."""
    code = """
import json, sys, warnings
import numpyro.distributions, pandas, sklearn, xarray, arviz, jax
packages = ["jax", "numpyro", "numpyro.distributions", "pandas", "sklearn", "xarray", "arviz"]
before = {name: (id(sys.modules[name]), dict(vars(sys.modules[name]))) for name in packages}
import bayesclust
for name in bayesclust.__all__:
    getattr(bayesclust, name)
model = bayesclust.KMeans(2, random_state=0).fit([[0.0], [1.0], [10.0], [11.0]])
model.summary()
changed = []
for name, (where, names) in before.items():
    module = sys.modules[name]
    now = vars(module)
    changed += [name] if id(module) != where else []
    changed += [f"{name}.{n}" for n in names if now.get(n) is not names[n]]
print(json.dumps(changed))
"""
    assert in_new_process(code) == []


def test_unknown_attribute_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'bayesclust' has no attribute 'KMeens'"):
        bayesclust.KMeens  # noqa: B018
    assert not hasattr(bayesclust, "KMeens")

"""The classics: right numbers, named columns, and nothing heavy loaded on import."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets as peer

import bayesclust.datasets
from bayesclust.datasets import load_galaxies, load_iris, load_old_faithful

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"

IMPORT_ALONE = """
import sys, types
package = types.ModuleType("bayesclust")
package.__path__ = [sys.argv[1]]
sys.modules["bayesclust"] = package
import bayesclust.datasets
print(sorted({"sklearn", "pandas", "jax", "scipy"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("load", "shape", "columns"),
    [
        (load_old_faithful, (272, 2), ["eruptions", "waiting"]),
        (load_galaxies, (82, 1), ["velocity"]),
        (load_iris, (150, 4), ["sepal_length", "sepal_width", "petal_length", "petal_width"]),
    ],
)
def test_frames_have_named_float_columns(load, shape, columns):
    frame = load()
    assert frame.shape == shape
    assert list(frame.columns) == columns
    assert (frame.dtypes == np.float64).all()
    assert frame.notna().all(axis=None)
    assert load() is not frame


def test_old_faithful_has_the_published_moments():
    frame = load_old_faithful()
    np.testing.assert_allclose(frame.mean(), [3.487783, 70.897059], atol=5e-7)
    np.testing.assert_allclose(frame.std(), [1.141371, 13.594974], atol=5e-7)


def test_old_faithful_is_the_file_of_the_examples():
    inside = files("bayesclust.datasets").joinpath("data", "old_faithful.csv")
    assert inside.read_bytes() == (EXAMPLES / "old_faithful.csv").read_bytes()


def test_galaxies_have_the_corrected_value():
    velocity = load_galaxies()["velocity"]
    assert velocity.iloc[77] == 26.960
    assert 26.690 not in set(velocity)
    assert velocity.is_monotonic_increasing
    assert (velocity.min(), velocity.max()) == (9.172, 34.279)


def test_iris_is_that_of_scikit_learn():
    measurements, species = load_iris(return_species=True)
    theirs = peer.load_iris()
    np.testing.assert_array_equal(measurements, theirs.data)
    np.testing.assert_array_equal(species, theirs.target_names[theirs.target])
    assert species.name == "species"
    assert species.index.equals(measurements.index)
    assert load_iris().equals(measurements)


def test_import_loads_nothing_heavy():
    package = Path(bayesclust.datasets.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALONE, str(package)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"

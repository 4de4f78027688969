"""Coverage of membership intervals of k-means: how often 90 % intervals hold the truth.

The table of docs/partitions.md: ``python -m tests.calibration.test_coverage_kmeans``.
"""

import functools
import sys
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from bayesclust import GaussianMixture, KMeans
from bayesclust.engines.partition_gibbs import PartitionGibbs
from bayesclust.estimators import _names

N = 300
# Means along the first axis, standard deviations, weights of two round clusters.
SCENES = {
    "apart": ((-3, 3), (1, 1), (0.5, 0.5)),
    "touching": ((-2, 2), (1, 1), (0.5, 0.5)),
    "overlapping": ((-1.25, 1.25), (1, 1), (0.5, 0.5)),
    "unequal spread": ((-2.5, 2.5), (0.6, 1.6), (0.5, 0.5)),
    "unequal size": ((-2, 2), (1, 1), (0.85, 0.15)),
}
MODELS = {
    "bootstrap": lambda: KMeans(2, uncertainty="bootstrap", random_state=0),
    "gibbs": lambda: KMeans(2, uncertainty="gibbs", random_state=0),
    "gibbs, means as centres": lambda: KMeans(2, uncertainty="gibbs", random_state=0),
    "mixture, bootstrap": lambda: GaussianMixture(2, uncertainty="bootstrap", random_state=0),
}


def scene(name, seed):
    """Rows and their true probability of the right-hand cluster."""
    means, sds, weights = (np.array(v, float) for v in SCENES[name])
    rng = np.random.default_rng(seed)
    z = (rng.random(N) < weights[1]).astype(int)
    X = sds[z][:, None] * rng.normal(size=(N, 2))
    X[:, 0] += means[z]
    log_p = [
        np.log(w) + norm.logpdf(X[:, 0], m, s) + norm.logpdf(X[:, 1], 0, s)
        for m, s, w in zip(means, sds, weights, strict=True)
    ]
    return X, 1 / (1 + np.exp(log_p[0] - log_p[1]))


def coverage(name, model, sims):
    """Coverage, mean width and mean error of the rows whose truth lies between 5 and 95 %."""
    inside, width, error = [], [], []
    for seed in range(sims):
        X, truth = scene(name, seed)
        doubtful = (truth > 0.05) & (truth < 0.95)
        fitted = MODELS[model]().fit(X)
        centers = getattr(fitted, "cluster_centers_", None)
        right = int(np.argmax((fitted.means_ if centers is None else centers)[:, 0]))
        answer = fitted.membership(X).isel(cluster=right, obs=doubtful)
        low, high = np.asarray(answer["lower"]), np.asarray(answer["upper"])
        truth = truth[doubtful]
        inside.append((low <= truth) & (truth <= high))
        width.append(high - low)
        error.append(np.abs(np.asarray(answer["probability"]) - truth))
    return tuple(float(np.concatenate(v).mean()) for v in (inside, width, error))


@pytest.fixture
def means_as_centres(monkeypatch):
    with_means(monkeypatch.setitem)


def with_means(setitem):
    make = functools.partial(PartitionGibbs, draw_centers=False)
    setitem(_names.HARD_UNCERTAINTIES, "gibbs", lambda base, num_draws: make(num_draws=num_draws))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_intervals_hold_the_truth_where_clusters_are_alike_and_round():
    found = {name: coverage(name, "gibbs", 20)[0] for name in SCENES}
    assert min(found[name] for name in ("apart", "touching", "overlapping")) > 0.7
    assert coverage("overlapping", "bootstrap", 20)[0] < found["overlapping"] - 0.1
    # The model is wrong there, and no interval of it says so.
    for name in ("unequal spread", "unequal size"):
        assert found[name] < 0.3
        assert coverage(name, "mixture, bootstrap", 20)[0] > 0.6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_centres_that_are_not_drawn_make_intervals_too_short(means_as_centres):
    assert coverage("apart", "gibbs", 20)[0] < 0.5


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sims = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    given = _names.HARD_UNCERTAINTIES["gibbs"]
    for model in MODELS:
        if model.endswith("centres"):
            with_means(dict.__setitem__)
        for name in SCENES:
            print(f"{model:24s} {name:15s}", *(f"{v:.3f}" for v in coverage(name, model, sims)))
        _names.HARD_UNCERTAINTIES["gibbs"] = given

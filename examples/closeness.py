"""How probable, and how close, is a sample to a cluster? Membership beside the usual answers.

Prints the numbers of docs/closeness.md.
"""

import numpy as np

from bayesclust import GaussianMixture, KMeans
from bayesclust.datasets import make_blobs


def log_loss(p, labels):
    """Mean negative log probability of the true cluster, up to the best renaming."""
    p = np.clip(p, 1e-15, 1)
    straight = -np.log(p[np.arange(len(p)), labels]).mean()
    swapped = -np.log(p[np.arange(len(p)), 1 - labels]).mean()
    return min(straight, swapped)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# One cluster sits at the origin, three do not.
rng = np.random.default_rng(0)
centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [6.0, 6.0]])
X = np.concatenate([c + rng.normal(size=(250, 2)) for c in centres])
km = KMeans(4, random_state=0, uncertainty="bootstrap").fit(X)

print("cosine of a row to its own centroid, and its membership")
card = km.scorecard(X)
for j, c in enumerate(km.cluster_centers_):
    own = X[km.labels_ == j]
    cosine = own @ c / (np.linalg.norm(own, axis=1) * np.linalg.norm(c))
    p = card.loc[km.labels_ == j, "probability"]
    print(
        f"  centre ({c[0]:5.2f}, {c[1]:5.2f}): median cosine {np.median(cosine):5.2f}, "
        f"median membership {p.median():.3f}"
    )

print("one new sample, asked of cluster 0")
sample = np.array([[2.6, 0.4]])
answer = km.membership(sample, to=0).isel(obs=0)
near = answer.sel(cluster=0)
print(f"  membership {float(near.probability):.3f}", end=" ")
print(f"[{float(near.lower):.3f}, {float(near.upper):.3f}]", end=", ")
print(f"tail probability {float(near.tail_probability):.3f}")
print(f"  distance to the boundary with its runner-up {float(km.membership(sample).margin[0]):.2f}")
far = km.membership(np.array([[3.6, 0.4]]), to=0)
print(f"  a row in cluster {int(far.label[0])} is {float(far.margin[0]):.2f} short of cluster 0")

print("log loss of memberships against the true labels, 2 clusters 2.4 sd apart")
for unit in (1.0, 10.0):
    truth = make_blobs(2000, 2, 2, separation=2.4, scale=unit, seed=1)
    fit = KMeans(2, random_state=0).fit(truth.X)
    gmm = GaussianMixture(2, covariance_type="spherical", random_state=0).fit(truth.X)
    d = fit.transform(truth.X)
    print(f"  coordinates times {unit:g}:")
    for name, p in {
        "truth": truth.membership,
        "learned temperature": fit.predict_proba(truth.X),
        "mixture by EM": gmm.predict_proba(truth.X),
        "softmax(-d)": softmax(-d),
        "softmax(-d^2)": softmax(-(d**2)),
    }.items():
        print(f"    {name:20s} {log_loss(p, truth.labels):.3f}")

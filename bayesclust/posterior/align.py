"""Cluster ids that stay the same from one fit to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from bayesclust.posterior.clustering import Clustering
from bayesclust.posterior.relabel import Alignment, in_order_of_means, permute
from bayesclust.table import read

ROWS = 4096
"""About how many held rows are compared."""

OVERLAP = 0.1
"""Clusters that share less are not the same."""


def align(new: Any, *, to: Any, X: Any = None) -> tuple[Clustering, pd.DataFrame]:
    """Give the clusters of one fit the ids they have in another.

    Clusters are matched one to one for the greatest total overlap of their members. A matched
    cluster takes the id of its match, as far as `new` has so many clusters; what is new takes ids
    that `to` does not have before those that are free again.

    Parameters
    ----------
    new, to : Clustering or fitted estimator
        Of the same features; the numbers of clusters may differ.
    X : (n, d) array or data frame, optional
        Rows to compare memberships on; default: the training rows that `to` holds.

    Returns
    -------
    clustering : Clustering
        `new` with its clusters renumbered, and nothing else changed.
    overlap : pandas.DataFrame
        One line per cluster of the answer: `before`, its id in `new`; `matched`, the cluster of
        `to` that it is, missing where it is none; `overlap`, how much they share, 0 to 1. With
        memberships p and q this is ``sum min(p, q) / sum max(p, q)`` over the rows: Jaccard's
        index of sets, for probabilities (Ruzicka 1958). A cluster without a match has the
        greatest overlap that it has with any.

    Raises
    ------
    ValueError
        If the features differ, or there are no rows to compare on.

    Examples
    --------
    >>> from bayesclust import GaussianMixture, align
    >>> from bayesclust.datasets import load_old_faithful
    >>> X = load_old_faithful()
    >>> old = GaussianMixture(2, standardize=True, random_state=0).fit(X[:200])
    >>> new = GaussianMixture(3, standardize=True, random_state=0).fit(X)
    >>> clustering, overlap = align(new, to=old)
    >>> overlap["matched"].isna().sum().item()
    1
    """
    new, to = (v if isinstance(v, Clustering) else v.clustering_ for v in (new, to))
    if set(new.features) != set(to.features):
        raise ValueError(
            f"new was fitted to {new.features} and to to {to.features}: ids can only be kept "
            "between fits to the same features"
        )
    rows = to.training_rows(ROWS) if X is None else read(X, to.features).values
    frame = pd.DataFrame(rows, columns=pd.Index(to.features))
    shared = overlaps(new.predict_proba(frame), to.predict_proba(frame))
    ours, theirs = linear_sum_assignment(shared, maximize=True)
    same = shared[ours, theirs] >= OVERLAP
    matched = np.full(new.n_clusters, -1)
    matched[ours[same]] = theirs[same]
    order = places(matched, to.n_clusters, in_order_of_means(new.point, new.mixture.family))
    overlap = np.where(matched >= 0, shared[np.arange(len(matched)), matched], shared.max(axis=1))
    table = pd.DataFrame(
        {
            "before": order,
            "matched": pd.array(np.where(matched < 0, None, matched)[order], dtype="Int64"),
            "overlap": overlap[order],
        },
        index=pd.RangeIndex(len(order), name="cluster"),
    )
    return _renumbered(new, order), table


def overlaps(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``sum min(p, q) / sum max(p, q)`` of all pairs of columns: ``(n, a), (n, b) -> (a, b)``."""
    p, q = p.astype(np.float64), q.astype(np.float64)
    least = np.stack([np.minimum(column[:, None], q).sum(axis=0) for column in p.T])
    most = p.sum(axis=0)[:, None] + q.sum(axis=0) - least
    return least / np.where(most > 0, most, 1)


def places(matched: np.ndarray, known: int, order: np.ndarray) -> np.ndarray:
    """Which cluster gets which id.

    Parameters
    ----------
    matched : (k,) int ndarray
        Id that each cluster should have; -1 for none.
    known : int
        Number of ids that are taken or were.
    order : (k,) int ndarray
        Clusters in the order in which those without an id get one.

    Returns
    -------
    (k,) int ndarray
        Cluster at each id.
    """
    k = len(matched)
    out = np.full(k, -1)
    kept = np.flatnonzero((matched >= 0) & (matched < k))
    out[matched[kept]] = kept
    # Ids too high for so few clusters, in their order; then those that never had one.
    rest = sorted(np.flatnonzero(matched >= k), key=lambda j: matched[j])
    rest += [j for j in order if matched[j] < 0]
    free = sorted(np.flatnonzero(out < 0), key=lambda j: (j < known, j))
    out[free] = rest
    return out


def _renumbered(clustering: Clustering, order: np.ndarray) -> Clustering:
    family, draws, alignment = clustering.mixture.family, clustering.draws, clustering.alignment
    if draws is not None and alignment is not None:
        every = np.broadcast_to(order, alignment.permutation.shape)
        draws = permute(draws, family, every)
        alignment = Alignment(alignment.permutation[..., order], *alignment[1:])
    return clustering.relabelled(
        permute(clustering.point, family, order[None, None]), draws, alignment
    )

"""Hard clustering by Lloyd's algorithm, complete in itself.

`fit` seeds, iterates and picks the best of several starts; `assign`, `seed` and `step` are its
parts. Everything is pure, takes a key first, and works under jit and vmap.
"""

from bayesclust.kmeans.assignment import assign
from bayesclust.kmeans.fit import KMeansFit, fit
from bayesclust.kmeans.lloyd import KMeansState, LloydStep
from bayesclust.kmeans.minibatch import MiniBatchState
from bayesclust.kmeans.seeding import greedy, random_rows

__all__ = [
    "KMeansFit",
    "KMeansState",
    "LloydStep",
    "MiniBatchState",
    "assign",
    "fit",
    "greedy",
    "random_rows",
]

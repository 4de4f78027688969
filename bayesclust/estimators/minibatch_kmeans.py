"""Mini-batch k-means in scikit-learn's language."""

from __future__ import annotations

from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp
import numpy as np

from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.random import generator
from bayesclust.core.rows import Rows, block_size, pack_host
from bayesclust.core.units import Units
from bayesclust.estimators import _names
from bayesclust.estimators._base import warn_short, whole
from bayesclust.estimators._parameters import Number, Whole, known_only
from bayesclust.estimators.kmeans import KMeans, given_or
from bayesclust.kmeans.assignment import assign_all
from bayesclust.kmeans.fit import KMeansFit
from bayesclust.kmeans.minibatch import MiniBatchState, step
from bayesclust.kmeans.restarts import seed_host


class MiniBatchKMeans(KMeans):
    """K-means on random batches of rows, for data that are large or arrive in parts.

    Each batch moves every centre towards the mean of the rows it serves, by the share that batch
    has in all it has served (Sculley 2010). `partial_fit` takes one batch.

    Parameters
    ----------
    n_clusters, init, max_iter, tol, standardize, uncertainty, num_draws, random_state, verbose
        As for `KMeans`; `max_iter` counts passes over the data. `tol` > 0 stops when the centres'
        smoothed squared moves, relative to the mean column variance, fall below it.
    batch_size : int
        Rows per batch.
    n_init : int or "auto"
        Seedings tried on a subsample; the best one is used.
    max_no_improvement : int or None
        Stop after so many batches without a lower smoothed inertia.
    reassignment_ratio : float
        A centre that has served less than this share of what the best-served one has moves to the
        batch's worst-served row.

    Attributes
    ----------
    n_steps_ : int
        Batches taken.
    counts_ : (n_clusters,) ndarray
        Weight each centre has served.

    The other attributes are those of `KMeans`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: rule
            for name, rule in KMeans._parameter_constraints.items()
            if name not in ("history", "seeding_rows")
        },
        "batch_size": [Whole()],
        "max_no_improvement": [Whole(0), None],
        "reassignment_ratio": [Number()],
    }

    @known_only
    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 100,
        batch_size: int = 1024,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        reassignment_ratio: float = 0.01,
        standardize: bool = False,
        uncertainty: str | None = None,
        num_draws: int = 200,
        random_state: Any = None,
        verbose: bool | int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.reassignment_ratio = reassignment_ratio
        self.standardize = standardize
        self.uncertainty = uncertainty
        self.num_draws = num_draws
        self.random_state = random_state
        self.verbose = verbose

    @whole
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Cluster the rows, batch by batch.

        Parameters
        ----------
        X : (n, d) array or data frame
        y : ignored
        sample_weight : (n,) array, optional

        Returns
        -------
        self
        """
        self._validate_params()
        self._refuse_unused()
        rows = self._validate(X, reset=True)
        weight = self._weights(sample_weight, rows)
        self._enough_rows(rows, weight, self.n_clusters, "n_clusters")
        units = self._units(rows, weight)
        key_seeds, key_order, key_draws = self._keys("fit", "order", "draws")
        self._batch_units, self._batch_dtype = units, rows.dtype
        with arithmetic(rows.dtype == np.float64):
            state = self._begin(key_seeds, rows, weight, units)
            state = self._passes(key_order, state, rows, weight, units)
        self._finish(state, rows, X, weight, units, key_draws, streams=False)
        return self

    @whole
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Take one batch in.

        The first batch sets the units, so it should be typical; it needs at least `n_clusters`
        rows. Parameters and result as for `fit`; `labels_` are those of this batch.
        """
        self._validate_params()
        self._refuse_unused()
        first = not hasattr(self, "_state")
        if first and hasattr(self, "clustering_"):
            raise ValueError(
                "a model from a file takes no further batches, since the file does not hold how "
                "many rows each centre has served: fit a new one"
            )
        rows = self._validate(X, reset=first)
        weight = self._weights(sample_weight, rows)
        key_seeds, key_draws = self._keys("fit", "draws")
        if first:
            self._enough_rows(rows, weight, self.n_clusters, "n_clusters")
            self._batch_units = self._units(rows, weight)
            self._batch_dtype = rows.dtype
        # Later batches are taken in the first one's precision.
        rows = rows.astype(self._batch_dtype, copy=False)
        weight = None if weight is None else weight.astype(rows.dtype, copy=False)
        units = self._batch_units
        with arithmetic(rows.dtype == np.float64):
            state = self._begin(key_seeds, rows, weight, units) if first else self._state
            state = jax.tree.map(jnp.asarray, state)
            batch = _batch(rows, weight, units, self.n_clusters)
            state = step(state, batch, self.reassignment_ratio, direct=_small(batch, state))
        self._finish(state, rows, X, weight, units, key_draws, streams=True)
        return self

    @override
    def _adopt(self) -> None:
        super()._adopt()
        self.n_steps_ = self.n_iter_
        del self.n_iter_  # passes over the data, which a file does not tell

    def _begin(self, key: Any, rows: np.ndarray, weight: Any, units: Units) -> MiniBatchState:
        init = given_or(_names.SEEDINGS, self.init, self.n_clusters, rows)
        n_init = 3 if self.n_init == "auto" else self.n_init
        size = max(3 * self.batch_size, 3 * self.n_clusters)
        centers = seed_host(
            key, rows, self.n_clusters, weight, init, units, n_init=n_init, sample=size
        )
        return MiniBatchState.start(jnp.asarray(centers))

    def _passes(
        self, key: Any, state: MiniBatchState, rows: np.ndarray, weight: Any, units: Units
    ) -> MiniBatchState:
        n = len(rows)
        size = min(self.batch_size, n)
        order = generator(key)
        mean_variance = float(np.mean(units.variance(rows, weight)))
        common = bool(np.all(units.scale == units.scale[0]))
        square = float(units.scale[0] ** 2) if common else 1.0
        smooth = best = move = None
        waiting = 0
        alpha = min(1.0, 2.0 * size / (n + 1))
        for done in range(self.max_iter):
            if self.verbose and smooth is not None:
                print(f"{type(self).__name__}, pass {done}: inertia {smooth * square:.6g} per row")
            shuffled = order.permutation(n)
            for first in range(0, n - size + 1, size):
                index = shuffled[first : first + size]
                w = None if weight is None else weight[index]
                if w is not None and not w.any():
                    continue
                batch = _batch(rows[index], w, units, self.n_clusters)
                state = step(state, batch, self.reassignment_ratio, direct=_small(batch, state))
                mass = size if w is None else float(w.sum())
                value, shift = float(state.inertia) / mass, float(state.shift)
                smooth = value if smooth is None else (1 - alpha) * smooth + alpha * value
                move = shift if move is None else (1 - alpha) * move + alpha * shift
                waiting = 0 if best is None or smooth < best else waiting + 1
                best = smooth if best is None else min(best, smooth)
                still = self.tol > 0 and move <= self.tol * mean_variance
                patience = self.max_no_improvement
                if still or (patience is not None and waiting >= patience > 0):
                    return state
        return state

    def _finish(
        self,
        state: MiniBatchState,
        rows: np.ndarray,
        X: Any,
        weight: Any,
        units: Units,
        key: Any,
        *,
        streams: bool,
    ) -> None:
        self._state = jax.device_get(state)
        served = np.asarray(self._state.counts)
        with arithmetic(rows.dtype == np.float64):
            labels, counts, inertia = assign_all(state.centers, rows, weight, units)
        short = (
            not streams
            and not counts.all()
            and warn_short(rows, weight, self.n_clusters, "n_clusters")
        )
        common = bool(np.all(units.scale == units.scale[0]))
        square = float(units.scale[0] ** 2) if common else 1.0
        self.n_steps_ = int(self._state.n_steps)
        self.counts_ = served.copy()
        result = KMeansFit(
            centers=units.outward(np.asarray(state.centers)).astype(rows.dtype),
            labels=labels,
            # A batch of a stream is not all rows that a cluster has.
            counts=np.where(served > 0, served, counts) if streams else counts,
            inertia=np.asarray(inertia * square, rows.dtype),
            n_steps=self._state.n_steps,
            converged=np.asarray(True),
            short=np.asarray(short),
            imprecise=np.asarray(False),
            objectives=np.asarray([inertia * square], rows.dtype),
            trace=np.zeros(0, rows.dtype),
        )
        self._report(result, rows, X, weight, units, key)
        passes = -(-self.n_steps_ * self.batch_size // max(len(rows), 1))
        self.n_iter_ = max(1, int(passes))


def _batch(rows: np.ndarray, weight: Any, units: Units, k: int) -> Rows:
    n, d = rows.shape
    return pack_host(
        np.ascontiguousarray(rows),
        weight,
        shift=units.shift,
        scale=units.scale,
        exponent=units.exponent,
        block=block_size(n, k + d, rows.dtype),
    )


def _small(batch: Rows, state: MiniBatchState) -> bool:
    return batch.weight.size * state.centers.size <= 1 << 18

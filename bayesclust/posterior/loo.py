"""Leave-one-out cross-validation in blocks of rows.

References
----------
A. Vehtari, A. Gelman and J. Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27, 1413-1432.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesclust.posterior import tree as tree_
from bayesclust.posterior.lazy import xr

if TYPE_CHECKING:
    from bayesclust.posterior.clustering import Clustering


def loo(clustering: Clustering, X: np.ndarray, obs: np.ndarray) -> Any:
    """Expected log predictive density of rows; see `Clustering.loo`."""
    import arviz

    draws = clustering.draws
    assert draws is not None
    posterior = tree_.parameters(clustering.mixture.family, draws, clustering.features)
    size = posterior.sizes["chain"] * posterior.sizes["draw"]
    # As `arviz.loo` does it; the same for all blocks.
    ess = arviz.ess(posterior, method="mean")
    reff = float(np.hstack([np.ravel(v) for v in ess.data_vars.values()]).mean() / size)
    block = max(1, tree_.LOG_LIKELIHOOD_SIZE // size)
    found = []
    for first in range(0, len(X), block):
        which = slice(first, first + block)
        part = tree_.log_likelihood(clustering, X[which], obs[which])
        data = xr.DataTree.from_dict({"posterior": posterior, "log_likelihood": part})
        with warnings.catch_warnings():
            # The answer tells it of all rows together.
            warnings.filterwarnings("ignore", "Estimated shape parameter")
            found.append(arviz.loo(data, pointwise=True, reff=reff))
    elpd_i = xr.concat([f.elpd_i for f in found], "obs")
    whole = dataclasses.replace(
        found[0],
        elpd=float(elpd_i.sum()),
        se=float(np.sqrt(len(X) * np.var(elpd_i.values, ddof=1))),
        p=sum(f.p for f in found),
        n_data_points=len(X),
        warning=any(f.warning for f in found),
        elpd_i=elpd_i,
        pareto_k=xr.concat([f.pareto_k for f in found], "obs"),
        log_weights=None,
    )
    return _as_refits(whole) if clustering.origin == "bootstrap refits" else whole


def _as_refits(data: Any) -> Any:
    """The same answer, which does not print that refits are posterior samples."""

    class OfRefits(type(data)):
        def __str__(self) -> str:
            return super().__str__().replace("posterior samples", "bootstrap refits")

    return OfRefits(**vars(data))

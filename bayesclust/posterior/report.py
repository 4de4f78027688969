"""What there is to say about a fit: a line per cluster, and sentences about what is doubtful."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesclust.posterior import diagnostics
from bayesclust.posterior.tree import over_draws

if TYPE_CHECKING:
    from bayesclust.posterior.clustering import Clustering
    from bayesclust.posterior.relabel import Alignment

CONFIDENCE = 0.5
"""Draws aligned with less are closer to labels at random than to the point fit."""

SHARE = 0.05
"""Share of such draws from which on clusters' parameters should not be read."""


class Summary(pd.DataFrame):
    """A table that prints the priors it was found under below its lines."""

    _metadata = ("prior",)
    prior: str | None = None

    @property
    def _constructor(self) -> Any:
        return Summary

    def __repr__(self) -> str:
        lines = [super().__repr__()]
        for part, fields in json.loads(self.prior or "{}").items():
            lines.append(f"prior of {part}: {_spelt(fields)}")
        return "\n".join(lines)


def _spelt(value: Any) -> str:
    """A prior with its hyperparameters, in four digits."""
    if isinstance(value, dict):
        inner = ", ".join(f"{n}={_spelt(v)}" for n, v in value.items() if n != "name")
        return f"{value['name']}({inner})"
    if isinstance(value, list):
        return f"[{', '.join(_spelt(v) for v in value)}]"
    return f"{value:.4g}"


def summary(clustering: Clustering) -> pd.DataFrame:
    """One line per cluster; see `Clustering.summary`."""
    groups = clustering.tree
    point = groups["point_estimate"].dataset
    if "prior" in clustering.settings:  # a Bayesian fit: posterior means
        point = over_draws(clustering, np.mean)
    out = Summary(index=pd.RangeIndex(clustering.n_clusters, name="cluster"))
    out.prior = clustering.settings.get("prior")
    if "membership" in groups.children:
        member = groups["membership"].dataset
        label = np.asarray(member["label"])
        best = np.asarray(member["probability"], np.float64).max(axis=1)
        weight = groups["observed_data"].get("sample_weight")
        weight = None if weight is None else np.asarray(weight, np.float64)
        size = np.bincount(label, weights=weight, minlength=clustering.n_clusters)
        if weight is not None:
            best = best * weight
        total = np.bincount(label, weights=best, minlength=clustering.n_clusters)
        out["size"] = size
        out["probability"] = total / np.where(size > 0, size, 1)
    out["weight"] = np.asarray(point["weights"])
    for j, feature in enumerate(clustering.features):
        out[feature] = np.asarray(point["mean"])[:, j]
    if clustering.draws is not None:
        error = np.asarray(clustering.standard_errors()["mean"])
        for j, feature in enumerate(clustering.features):
            out[f"se({feature})"] = error[:, j]
    return out


def unreadable(alignment: Alignment) -> list[str]:
    """A sentence if too many draws do not match the point fit cluster by cluster."""
    low = float(np.mean(alignment.confidence < CONFIDENCE))
    if low <= SHARE:
        return []
    return [
        f"{low:.0%} of the draws do not match the point fit cluster by cluster: read memberships "
        "of rows, not parameters of clusters."
    ]


def doubts(clustering: Clustering) -> list[str]:
    """What is doubtful about the fit, in sentences; see `Clustering.diagnose`."""
    said = []
    flags = clustering.point.flags
    if not bool(np.all(flags.get("converged", True))):
        said.append("The fit stopped before it converged: raise max_iter or tol.")
    floored = int(np.max(flags.get("floored", 0)))
    if floored:
        said.append(
            f"{floored} of {clustering.n_clusters} components have no spread of their own in some "
            "direction and are held up by reg_covar: use fewer components, drop constant or "
            "collinear columns, or raise reg_covar."
        )
    if bool(np.any(flags.get("imprecise", False))):
        said.append(
            "Clusters are so tight and so far apart that rounding blurs their densities: "
            "remove outlying rows or columns that say nothing."
        )
    if bool(np.any(flags.get("short", False))):
        said.append("There are fewer distinct rows than clusters: use fewer clusters.")
    if clustering.alignment is not None:
        said += unreadable(clustering.alignment)
    if clustering.sampled:
        assert clustering.draws is not None
        if bool(np.any(clustering.draws.flags["interrupted"])):
            said.append("The run was interrupted: these are the draws up to then.")
        diverging = int(np.sum(clustering.draws.flags.get("diverging", 0)))
        if diverging:
            said.append(
                f"{diverging} transitions diverged: parts of the posterior may be missing. Raise "
                "target_accept_prob, give a firmer prior, or use fewer components."
            )
        said += diagnostics.doubts(clustering.draws.stats)
    elif clustering.draws is not None:
        stuck = 1 - float(np.mean(clustering.draws.flags.get("converged", True)))
        if stuck == 1 and "prior" in clustering.settings:
            said.append("The bound had not converged: raise max_iter (CAVI) or num_steps (SVI).")
        elif stuck > 0.01:
            said.append(f"{stuck:.0%} of the refits stopped before they converged.")
    return said

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


SAME_OPTIMUM = 1e-3
"""Starts whose ends differ by less found the same: nats per row, or relative to the inertia."""


def n_best_starts(objectives: Any, *, hard: bool) -> int:
    """Count starts that reached the best objective, up to `SAME_OPTIMUM`.

    Parameters
    ----------
    objectives : (r,) array
        Where every start ended: inertia if `hard`, else mean log likelihood or bound.
    hard : bool
    """
    ends = np.asarray(objectives, np.float64)
    if hard:
        return int(np.sum(ends <= (1 + SAME_OPTIMUM) * np.fmin.reduce(ends)))
    return int(np.sum(ends >= np.fmax.reduce(ends) - SAME_OPTIMUM))


class Summary(pd.DataFrame):
    """A table that prints below its lines how many rows it does not describe, and the priors."""

    _metadata = ("outliers", "prior")
    outliers: int = 0
    prior: str | None = None

    @property
    def _constructor(self) -> Any:
        return Summary

    def __repr__(self) -> str:
        # Wrapped where it is wide: pandas' own way leaves columns out.
        lines = [self.to_string(line_width=pd.get_option("display.width"))]
        if self.outliers:
            rows = "row is" if self.outliers == 1 else "rows are"
            lines.append(f"{self.outliers} {rows} unlike any cluster (`outlier` of the scorecard)")
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
    columns: list[tuple[str, np.ndarray]] = []
    outliers = 0
    if "members" in groups.children:
        members = groups["members"].dataset
        size = np.asarray(members["size"])
        outliers = int(np.sum(members["outliers"]))
        columns += [("size", size), ("probability", np.asarray(members["probability"]))]
        if clustering.hard:
            columns.append(("share", size / size.sum()))
    if not clustering.hard:
        columns.append(("weight", np.asarray(point["weights"])))
    # In brackets, so that no feature can have the name of a column of ours.
    center = np.asarray(point["mean"])
    columns += [(f"mean({f})", center[:, j]) for j, f in enumerate(clustering.features)]
    if clustering.draws is not None:
        error = np.asarray(clustering.standard_errors()["mean"])
        columns += [(f"se({f})", error[:, j]) for j, f in enumerate(clustering.features)]
    # Side by side: features may have one name.
    out = Summary(
        dict(enumerate(value for _, value in columns)),
        index=pd.RangeIndex(clustering.n_clusters, name="cluster"),
    )
    out.columns = pd.Index([name for name, _ in columns])
    out.outliers, out.prior = outliers, clustering.settings.get("prior")
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
    ends = np.asarray(flags.get("objectives", ()))
    if len(ends) > 1 and n_best_starts(ends, hard=clustering.hard) == 1:
        bayes = "prior" in clustering.settings
        other = "n_init of CAVI" if bayes else "n_init or try another init"
        other += "" if bayes or clustering.hard else "_params, or several"
        said.append(f"Only 1 of {len(ends)} starts reached the best objective: raise {other}.")
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

"""How well Markov chains have mixed, judged by quantities that no relabelling changes.

References
----------
A. Vehtari et al. (2021), Rank-normalization, folding, and localization: an improved R-hat, Bayesian
    Analysis 16, 667-718.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

R_HAT = 1.01
"""Above this the chains disagree (Vehtari et al. 2021, section 4)."""

APART = 1.5
"""Above this, of the 1.8 that two chains have which nowhere overlap, chains are in two modes."""

WOBBLE = 16
"""Differences of so many units of rounding, and fewer, are none."""

ESS_PER_CHAIN = 100
"""Below this an effective sample size is too small to trust (the same)."""


def table(stats: dict[str, Any]) -> pd.DataFrame:
    """Mean, sd, Monte Carlo error, effective sample sizes and R-hat of label-free scalars.

    Parameters
    ----------
    stats : dict of (c, s) arrays
        Quantities that are constant over all draws, but for rounding, are left out. One that only
        the chains differ in has an infinite R-hat, and one effective draw in each.
    """
    from arviz_stats.base import array_stats

    lines = {}
    for name, value in stats.items():
        still = _constant(value, axis=1).all()
        if _constant(value):
            continue
        value = np.asarray(value, np.float64)
        if still:
            alone = {"mcse_mean": np.nan, "ess_bulk": len(value), "ess_tail": len(value)}
            lines[name] = {"mean": value.mean(), "sd": value.std(ddof=1), **alone, "r_hat": np.inf}
            continue
        axes = {"chain_axis": 0, "draw_axis": 1}
        lines[name] = {
            "mean": value.mean(),
            "sd": value.std(ddof=1),
            "mcse_mean": float(array_stats.mcse(value, **axes)),
            "ess_bulk": float(array_stats.ess(value, method="bulk", **axes)),
            "ess_tail": float(array_stats.ess(value, method="tail", prob=(0.05, 0.95), **axes)),
            "r_hat": float(array_stats.rhat(value, **axes)) if len(value) > 1 else np.nan,
        }
    columns = ["mean", "sd", "mcse_mean", "ess_bulk", "ess_tail", "r_hat"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns)


def _constant(value: Any, axis: int | None = None) -> Any:
    """Whether values differ by no more than rounding."""
    value = np.asarray(value)
    eps = np.finfo(value.dtype if value.dtype.kind == "f" else np.float64).eps
    size = np.abs(value.astype(np.float64)).max(axis)
    return np.ptp(value.astype(np.float64), axis) <= WOBBLE * eps * size


def modes(stats: dict[str, Any]) -> list[list[int]]:
    """Chains that sit together, in groups that stay apart; one group if chains mix.

    Two chains are together if the R-hat of these two alone is below `APART` for every quantity.
    Groups are what such pairs connect: a chain that visits two modes joins the chains in them.

    Parameters
    ----------
    stats : dict of (c, s) arrays
        Quantities that no relabelling changes.
    """
    chains = np.shape(next(iter(stats.values())))[0]
    together = np.eye(chains, dtype=bool)
    for i in range(chains):
        for j in range(i):
            pairs = (np.asarray(v)[[i, j]] for v in stats.values())
            together[i, j] = not any(_apart(pair) for pair in pairs)
    count, label = connected_components(together, directed=False)
    return [np.flatnonzero(label == g).tolist() for g in range(count)]


def _apart(pair: np.ndarray) -> bool:
    """Whether two chains ``(2, s)`` have nothing in common."""
    from arviz_stats.base import array_stats

    if _constant(pair, axis=1).all():
        return not _constant(pair)
    pair = pair.astype(np.float64)
    return bool(array_stats.rhat(pair, chain_axis=0, draw_axis=1) > APART)


def _named(chains: list[int]) -> str:
    *most, last = map(str, chains)
    return f"chains {', '.join(most)} and {last}" if most else f"chain {last}"


def doubts(stats: dict[str, Any]) -> list[str]:
    """What the chains give reason to doubt, in sentences; empty if nothing does."""
    found = table(stats)
    said = []
    apart = found[found["r_hat"] > R_HAT]
    if len(apart):
        said.append(_disagreement(stats, apart["r_hat"]))
    chains = np.shape(next(iter(stats.values())))[0]
    least = found[["ess_bulk", "ess_tail"]].min(axis=1)
    if len(least) and least.min() < ESS_PER_CHAIN * chains:
        said.append(
            f"Only {least.min():.0f} effective draws of {least.idxmin()}: raise num_draws, at "
            f"least {ESS_PER_CHAIN * chains / least.min():.1f}-fold."
        )
    return said


def _disagreement(stats: dict[str, Any], r_hat: pd.Series) -> str:
    how = f"(R-hat {r_hat.max():.2f} for {r_hat.idxmax()})"
    density = stats.get("log_posterior")
    if density is not None:  # its level is a matter of the data's units
        density = np.asarray(density) - np.mean(density, axis=1).max()
    groups = modes(stats)

    def with_density(group: list[int]) -> str:
        if density is None:
            return _named(group)
        below = abs(np.mean(density[group]))
        return f"{_named(group)} (mean log posterior {below:.1f} below the highest)"

    if len(groups) == 1:
        where = (
            ""
            if density is None
            else "; their mean log posteriors lie "
            + ", ".join(f"{abs(v):.1f}" for v in np.mean(density, axis=1))
            + " below the highest"
        )
        return (
            f"The chains disagree {how}{where}. They visit the same places, too seldom: run "
            "longer, raise num_warmup and num_draws."
        )
    where = ", apart from ".join(map(with_density, groups))
    return (
        f"The chains sit in different modes {how}: {where}. How much each mode weighs is not known "
        "from these draws: read the chains apart, give those of the greatest log posterior more "
        "trust, raise num_warmup, or try fewer components."
    )

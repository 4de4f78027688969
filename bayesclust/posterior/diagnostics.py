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

R_HAT = 1.01
"""Above this the chains disagree (Vehtari et al. 2021, section 4)."""

ESS_PER_CHAIN = 100
"""Below this an effective sample size is too small to trust (the same)."""


def table(stats: dict[str, Any]) -> pd.DataFrame:
    """Mean, sd, Monte Carlo error, effective sample sizes and R-hat of label-free scalars.

    Parameters
    ----------
    stats : dict of (c, s) arrays
        Quantities that are constant over all draws are left out.
    """
    from arviz_stats.base import array_stats

    lines = {}
    for name, value in stats.items():
        value = np.asarray(value, np.float64)
        if np.ptp(value) == 0:
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


def doubts(stats: dict[str, Any]) -> list[str]:
    """What the chains give reason to doubt, in sentences; empty if nothing does."""
    found = table(stats)
    said = []
    apart = found[found["r_hat"] > R_HAT]
    if len(apart):
        worst = apart["r_hat"].idxmax()
        density = np.asarray(stats["log_posterior"], np.float64)
        means = ", ".join(f"{v:.1f}" for v in density.mean(axis=1))
        said.append(
            f"The chains disagree (R-hat {apart['r_hat'].max():.2f} for {worst}); their mean log "
            f"posteriors are {means}. If some lie far below the rest, those chains sit in a minor "
            "mode; else run longer: raise num_warmup and num_draws."
        )
    chains = np.shape(next(iter(stats.values())))[0]
    least = found[["ess_bulk", "ess_tail"]].min(axis=1)
    if len(least) and least.min() < ESS_PER_CHAIN * chains:
        said.append(
            f"Only {least.min():.0f} effective draws of {least.idxmin()}: raise num_draws, at "
            f"least {ESS_PER_CHAIN * chains / least.min():.1f}-fold."
        )
    return said

"""How often the 90 % interval of a membership holds the truth: the table of docs/coverage.md.

    python docs/make_coverage.py --replications 100 --few 10

Rows come from two known normal clusters in the plane, so the true probability of membership of
another row is known, too. Of the rows that are in doubt, true probability between 5 and 95 %, we
count how often `membership(rows, level=0.9)` has it between `lower` and `upper`.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from bayesclust import BayesianMixture, GaussianMixture, KMeans
from bayesclust.engines import NUTS, SVI, Gibbs

SHARES = np.array([0.4, 0.6])
SEPARATIONS = (1.5, 2.5, 4.0)
SIZES = (100, 400)
LEVEL = 0.9
ROWS = 200

MODELS = {
    "`BayesianMixture`, Gibbs": lambda: BayesianMixture(2, engine=Gibbs(300, 500, 2)),
    "`BayesianMixture`, NUTS": lambda: BayesianMixture(2, engine=NUTS(200, 250, 2)),
    "`BayesianMixture`, SVI": lambda: BayesianMixture(2, engine=SVI(num_steps=4000)),
    "`BayesianMixture`, CAVI": lambda: BayesianMixture(2, engine="cavi"),
    "`GaussianMixture`, bootstrap": lambda: GaussianMixture(2, uncertainty="bootstrap"),
    "`KMeans`, bootstrap": lambda: KMeans(2, uncertainty="bootstrap"),
    "`KMeans`, Gibbs": lambda: KMeans(2, uncertainty="gibbs"),
}
SLOW = {"`BayesianMixture`, NUTS", "`BayesianMixture`, SVI"}


def sample(rng, n, separation):
    """Rows ``(n, 2)`` of unit normal clusters at ``+- separation / 2``."""
    z = rng.choice(2, size=n, p=SHARES)
    X = rng.normal(size=(n, 2))
    X[:, 0] += (z - 0.5) * separation
    return X


def truth(X, separation):
    """True probability of membership of the second cluster, ``(n,)``."""
    odds = separation * X[:, 0] + np.log(SHARES[1] / SHARES[0])
    return 1 / (1 + np.exp(-odds))


def doubtful(rng, separation):
    """New rows of true probability between 5 and 95 %, and that probability."""
    X = sample(rng, 100 * ROWS, separation)
    p = truth(X, separation)
    kept = np.flatnonzero((p > 0.05) & (p < 0.95))[:ROWS]
    return X[kept], p[kept]


def once(make, n, separation, seed):
    """Share of doubtful rows whose interval holds the truth, and mean width of the interval."""
    rng = np.random.default_rng(seed)
    X = sample(rng, n, separation)
    new, p = doubtful(rng, separation)
    model = make().set_params(random_state=seed).fit(X)
    told = model.clustering_.membership(new, level=LEVEL)
    probability, lower, upper = (
        np.asarray(told[name]) for name in ("probability", "lower", "upper")
    )
    # The truth knows the clusters by another number, perhaps.
    j = int(np.argmin(np.abs(probability - p[:, None]).mean(axis=0)))
    held = (lower[:, j] <= p) & (p <= upper[:, j])
    return held.mean(), (upper - lower)[:, j].mean()


def cell(name, n, separation, replications):
    """Coverage, its standard error and width as text, over replications."""
    found = np.array([once(MODELS[name], n, separation, seed) for seed in range(replications)])
    error = found[:, 0].std(ddof=1) / np.sqrt(len(found))
    return f"{found[:, 0].mean():.0%} ± {error:.0%} ({found[:, 1].mean():.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--few", type=int, default=10, help="of NUTS and SVI")
    parser.add_argument("--only", default="", help="part of a model's name; prints, writes nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = []
    for name in (m for m in MODELS if args.only in m):
        count = args.few if name in SLOW else args.replications
        for n in SIZES:
            begin = time.perf_counter()
            cells = [cell(name, n, s, count) for s in SEPARATIONS]
            lines.append(f"| {name} | {n} | {' | '.join(cells)} | {count} |")
            print(lines[-1], f"{time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    if not args.only:
        page = Path(__file__).parent / "coverage.md"
        before, _, rest = page.read_text().partition("|---|---|---|---|---|---|\n")
        after = rest[rest.index("\n\n") :]
        page.write_text(before + "|---|---|---|---|---|---|\n" + "\n".join(lines) + after)


if __name__ == "__main__":
    main()

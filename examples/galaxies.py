"""Galaxy velocities: a posterior over densities, and which galaxies nobody can place.

The hierarchical prior learns the size of clusters; the band holds 90 % of the posterior's
densities. Data of Roeder (1990), in 1000 km/s.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import logsumexp
from scipy.stats import norm

from bayesclust import BayesianMixture, Gibbs
from bayesclust.datasets import load_galaxies

X = load_galaxies()
engine = Gibbs(num_warmup=500, num_draws=1500, num_chains=4)
model = BayesianMixture(3, prior="hierarchical", engine=engine, random_state=0).fit(X)
print(model.summary().round(2))
print(model.diagnostics()[["mean", "ess_bulk", "r_hat"]].round(3).to_string())
for sentence in model.diagnose():
    print("note:", sentence)

card = model.scorecard(X)
columns = ["cluster", "probability", "lower", "upper", "entropy_overlap", "entropy_ignorance"]
print(X.join(card[columns]).nsmallest(5, "probability").round(3).to_string())

posterior = model.posterior_["posterior"].dataset.stack(sample=("chain", "draw"))
mean = posterior["mean"].isel(feature=0).transpose("sample", "cluster").to_numpy()
sd = np.sqrt(posterior["cov"].isel(feature=0, feature_bis=0).transpose("sample", "cluster"))
grid = np.linspace(7, 37, 400)
log_joint = norm.logpdf(grid[:, None, None], mean, sd.to_numpy()) + np.log(
    posterior["weights"].transpose("sample", "cluster").to_numpy()
)
density = np.exp(logsumexp(log_joint, axis=2))

figure, axes = plt.subplots(
    2, 1, figsize=(9, 6), sharex=True, layout="constrained", height_ratios=[2, 1]
)
axes[0].hist(X["velocity"], bins=40, density=True, color="0.85")
axes[0].plot(X["velocity"], np.full(len(X), -0.006), "|", color="k", alpha=0.6)
low, high = np.quantile(density, [0.05, 0.95], axis=1)
axes[0].fill_between(grid, low, high, color="#1b6ca8", alpha=0.3, label="90 % of the posterior")
axes[0].plot(grid, density.mean(axis=1), color="#1b6ca8", label="posterior predictive density")
axes[0].legend(frameon=False)
answer = model.membership(pd.DataFrame({"velocity": grid}))
for j, colour in enumerate(("#d95f02", "#1b6ca8", "#1b9e77")):
    p = answer.sel(cluster=j)
    axes[1].fill_between(grid, p["lower"], p["upper"], color=colour, alpha=0.25)
    axes[1].plot(grid, p["probability"], color=colour, label=f"cluster {j}")
axes[1].set(xlabel="velocity, 1000 km/s", ylabel="membership")
axes[1].legend(frameon=False, loc="center right")
figure.savefig("galaxies.png", dpi=110)

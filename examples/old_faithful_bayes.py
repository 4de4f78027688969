"""Old Faithful by full Bayes: two kinds of doubt, and what prior and engine change."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bayesclust import CAVI, BayesianMixture, Gibbs
from bayesclust.datasets import load_old_faithful

X = load_old_faithful()
gibbs = Gibbs(num_warmup=200, num_draws=300, num_chains=4)
model = BayesianMixture(2, engine=gibbs, standardize=True, random_state=0).fit(X)
print(model.summary().round(3).to_string())
print("doubts:", model.diagnose() or "none")

# One row between the clusters, by prior and by engine.
row = X.loc[[int(model.scorecard(X)["probability"].idxmin())]]
print(row.to_string())
settings = {
    "conjugate, Gibbs": {"engine": gibbs},
    "hierarchical, Gibbs": {"engine": gibbs, "prior": "hierarchical"},
    "conjugate, CAVI": {"engine": CAVI()},
}
for name, chosen in settings.items():
    fit = BayesianMixture(2, standardize=True, random_state=0, **chosen).fit(X)
    card = fit.scorecard(row).iloc[0]
    print(
        f"{name:20} in cluster {card['cluster']:.0f} with {card['probability']:.2f}, "
        f"90 % interval {card['lower']:.2f} to {card['upper']:.2f}"
    )

x, y = np.meshgrid(np.linspace(1, 6, 120), np.linspace(35, 105, 120))
grid = pd.DataFrame({"eruptions": x.ravel(), "waiting": y.ravel()})
answer = model.membership(grid)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
titles = {"entropy_overlap": "overlap: both clusters reach here",
          "entropy_ignorance": "ignorance: more data would tell"}  # fmt: skip
for axis, (column, title) in zip(axes, titles.items(), strict=True):
    doubt = answer[column].to_numpy().reshape(x.shape)
    shade = axis.contourf(x, y, doubt, 12, cmap="Oranges")
    figure.colorbar(shade, label="nats")
    axis.scatter(*X.to_numpy().T, s=10, color="#1b6ca8", alpha=0.7)
    axis.set(title=title, xlabel="eruption, minutes")
axes[0].set_ylabel("waiting time, minutes")
figure.savefig("old_faithful_bayes.png", dpi=110)

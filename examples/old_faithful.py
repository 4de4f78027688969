"""Old Faithful: a clustering, how sure each eruption's membership is, and a picture of it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bayesclust import GaussianMixture
from bayesclust.datasets import load_old_faithful

X = load_old_faithful()
model = GaussianMixture(2, standardize=True, uncertainty="bootstrap", random_state=0).fit(X)
print(model.summary().round(3).to_string())

card = model.scorecard(X)
doubtful = card.nsmallest(5, "probability")
columns = ["cluster", "probability", "lower", "upper", "tail_probability", "margin"]
print(X.join(doubtful[columns], how="right").round(3).to_string())

x, y = np.meshgrid(np.linspace(1.3, 5.4, 160), np.linspace(40, 100, 160))
grid = pd.DataFrame({"eruptions": x.ravel(), "waiting": y.ravel()})
answer = model.membership(grid)
p = answer["probability"].sel(cluster=1).to_numpy().reshape(x.shape)
width = (answer["upper"] - answer["lower"]).sel(cluster=1).to_numpy().reshape(x.shape)

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
colours = np.array(["#d95f02", "#1b6ca8"])[card["cluster"]]
shade = axes[0].contourf(x, y, p, np.linspace(0, 1, 11), cmap="RdBu", alpha=0.45)
axes[0].contour(x, y, p, [0.5], colors="k", linewidths=1)
figure.colorbar(shade, label="membership in cluster 1")
axes[0].set_title("how probable")
shade = axes[1].contourf(x, y, width, np.linspace(0, 1, 11), cmap="Purples")
figure.colorbar(shade, label="width of its 90 % interval")
axes[1].set_title("how firmly that is known")
for axis in axes:
    axis.scatter(*X.to_numpy().T, s=14, c=colours, edgecolors="white", linewidths=0.4)
    axis.scatter(
        *X.loc[doubtful.index].to_numpy().T, s=90, facecolors="none", edgecolors="k", linewidths=1.2
    )
    axis.set_xlabel("eruption, minutes")
axes[0].set_ylabel("waiting time, minutes")
figure.savefig("old_faithful.png", dpi=110)

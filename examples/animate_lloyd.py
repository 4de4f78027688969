"""Lloyd's algorithm step by step, as an animation."""

import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter

from bayesclust import KMeans, kmeans
from bayesclust.datasets import make_gaussian_board

X = make_gaussian_board(300, 5, seed=4).X
model = KMeans(5, init="random", n_init=1, tol=0, history=True, random_state=3).fit(X)
print(f"{model.n_iter_} steps to an inertia of {model.inertia_:.2f}")

figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")


def draw(step):
    centers = model.history_[step]
    axis.clear()
    axis.scatter(*X.T, c=kmeans.assign(X, centers), s=10, cmap="tab10", vmin=0, vmax=9)
    axis.scatter(*centers.T, marker="*", s=180, c="k")
    axis.set(title=f"step {step}", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")


FuncAnimation(figure, draw, len(model.history_)).save("lloyd.gif", PillowWriter(fps=2))

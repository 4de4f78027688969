"""How many clusters? Criteria for one to six components on Old Faithful."""

from bayesclust import GaussianMixture, KMeans
from bayesclust.datasets import load_old_faithful

X = load_old_faithful()
print(" k   inertia       BIC       ICL")
for k in range(1, 7):
    km = KMeans(k, standardize=True, random_state=0).fit(X)
    gm = GaussianMixture(k, n_init=10, standardize=True, random_state=0).fit(X)
    print(f"{k:2d} {km.inertia_:9.2f} {gm.bic(X):9.2f} {gm.icl(X):9.2f}")
print("lower is better; inertia always falls, ICL also charges for overlap")

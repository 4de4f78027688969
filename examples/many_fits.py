"""Many fits in one program: the functional core under jit, vmap and grad."""

import jax
import jax.numpy as jnp

from bayesclust import EM, FullGaussian, Mixture, kmeans

key = jax.random.key(0)
X = jax.random.normal(key, (8, 300, 2)) + 5 * jax.random.bernoulli(key, 0.4, (8, 300, 1))

# Eight data sets clustered at once.
fits = jax.jit(jax.vmap(lambda key, X: kmeans.fit(key, X, 2)))(jax.random.split(key, 8), X)
print("centres of eight data sets:", fits.centers.shape)

# Twenty starts of EM on one data set.
mixture = Mixture(FullGaussian(), 2)
starts = jax.vmap(lambda key: EM(max_iter=50).run(key, mixture, X[0]))(jax.random.split(key, 20))
objective = starts.stats["objective"].ravel()
print(f"twenty starts: mean log likelihood {objective.min():.4f} to {objective.max():.4f}")

# The gradient of a log density with respect to the row.
best = jnp.argmax(objective)
params = {name: v[best, 0, 0] for name, v in starts.params.items()}
log_weights = starts.log_weights[best, 0, 0]
slope = jax.grad(lambda row: mixture.log_density(params, log_weights, row[None])[0])
print("uphill from the origin:", slope(jnp.zeros(2)).round(2))

"""Numbers only: rows in blocks, the sweep over them, the loops around it.

Nothing here knows a distribution, an estimator or a label; everything is pure and works under
`jax.jit`, `jax.vmap` and, where there is a gradient, `jax.grad`.
"""

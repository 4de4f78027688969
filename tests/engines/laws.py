"""Laws that every engine of chains obeys."""

import jax
import numpy as np
import pytest

from bayesclust.engines import chains


def assert_same(a, b, rtol=0.0):
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, two, rtol=rtol)


def assert_an_interruption_keeps_draws(run, monkeypatch):
    """Of `run`, which makes two chains of 60 steps of warm-up and 60 draws."""
    monkeypatch.setattr(chains, "CHUNK", 20)

    def stop(done, total):
        assert total == 120
        if done >= 100:
            raise KeyboardInterrupt

    draws = run(progress=stop)
    assert draws.shape == (2, 40)
    assert draws.flags["interrupted"].all()
    assert_same(draws.params, jax.tree.map(lambda v: v[:, :40], run().params))

    def stop_early(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop_early)

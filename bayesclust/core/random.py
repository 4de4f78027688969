"""Random numbers of programs that need some in every sweep: Threefry with its rounds written out.

`jax.random` rolls the rounds into a loop on a CPU. With it a Gibbs sweep over 272 rows and two
components took 1.7 times as long (23 against 14 microseconds, three interleaved runs: 1.6, 1.7,
1.9) and the first k-means of a process, compilation included, 1.4 times (1.1 against 0.76 s); for
thousands of rows the difference is small. Numbers of a key that is no tracer need no program.

Keys themselves are JAX's, of any implementation, typed or raw. All words of a longer key than
Threefry's are hashed, so that numbers of a key do not depend on how programs batch them either.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw (2011), Parallel random numbers: as easy as
    1, 2, 3, SC '11: Threefry-2x32 of 20 rounds.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesclust._pytree import traced
from bayesclust._typing import Array, Key
from bayesclust.core.arithmetic import arithmetic
from bayesclust.core.fork import refuse_forked

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def key_of(seed: int, name: str = "") -> Key:
    """Make a key of a seed and of what it is for, without a program to compile.

    Parameters
    ----------
    seed : int
        Non-negative, below 2^32.
    name : str
        Keys of other names have streams of their own; that of no name is `jax.random.key(seed)`.

    Returns
    -------
    PRNG key
        Of Threefry, whatever `jax_default_prng_impl` says.
    """
    refuse_forked()
    words: Any = np.array([zlib.crc32(name.encode()), seed], np.uint32)
    with arithmetic():
        return jax.random.wrap_key_data(words, impl="threefry2x32")


def as_threefry(key: Key) -> Key:
    """Hash a key of any kind to one of Threefry, which NumPyro takes everywhere."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and jax.random.key_impl(key) == "threefry2x32":
        return key
    xp: Any = jnp if traced(key) else np
    return jax.random.wrap_key_data(xp.stack(_words(key)), impl="threefry2x32")


def generator(key: Key) -> np.random.Generator:
    """Seed a NumPy generator with a key, which must serve nothing else."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def uniform(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform numbers in [0, 1).

    Those of a key that is no tracer are found on the host: the same, with nothing to compile.

    Parameters
    ----------
    key : PRNG key
        Of any kind, typed or raw: the counters are hashed with all of its words.
    shape : tuple of int
        Of at most 2^32 numbers; the first of a longer row are those of a shorter one.
    dtype : float32 or float64

    Returns
    -------
    array
        Multiples of 2^-24, or of 2^-53.
    """
    number, size = _integers(key, shape, dtype)
    return _once((number + size) * (0.5 / size))


def symmetric(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform numbers in (-1, 1), as likely as their negatives, never 0; see `uniform`."""
    number, size = _integers(key, shape, dtype)
    return _once((number + 0.5) * (1 / size))


def normal(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Standard normal numbers; see `uniform`."""
    return to_normal(symmetric(key, shape, dtype))


def to_normal(u: Array) -> Array:
    """Standard normal numbers from those of `symmetric`."""
    return math.sqrt(2) * lax.erf_inv(u)


def random_order(key: Key, k: int) -> Array:
    """A random order ``(k,)`` of `k` things, each as likely: the ranks of uniform numbers.

    All pairs are compared; one in 2^24 is a tie, which stays as it stands. `jax.random.permutation`
    sorts, and a sort leaves a CPU's compiled loop.
    """
    u = uniform(key, (k,), jnp.float32)
    before = (u < u[:, None]) | ((u == u[:, None]) & jnp.tri(k, k=-1, dtype=bool))
    return jnp.sum(before, axis=1, dtype=jnp.int32)


def _integers(key: Key, shape: tuple[int, ...], dtype: Any) -> tuple[Array, float]:
    """Whole numbers from -size to size - 1, each as likely, and the size."""
    xp: Any = jnp if traced(key) else np
    count = xp.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
    high, low = threefry(*_words(key), count, xp.zeros_like(count))
    # Signed integers become floats in one instruction.
    upper = high.view(np.int32)
    if dtype == np.float64:
        lower = (low >> 6).view(np.int32).astype(dtype)
        return (upper >> 5).astype(dtype) * 2.0**26 + lower, 2.0**52
    return (upper >> 8).astype(dtype), 2.0**23


def _words(key: Key) -> tuple[Array, Array]:
    """Two words of a key, of a longer one hashed pair by pair.

    A sum will not do: JAX makes "rbg" keys of equal halves, which cancel.
    """
    xp: Any = jnp if traced(key) else np
    words = xp.asarray(jax.random.key_data(key)).reshape(-1, 2)
    key0, key1 = words[0]
    for more0, more1 in words[1:]:
        key0, key1 = threefry(key0, key1, more0, more1)
    return key0, key1


def _once(numbers: Any) -> Any:
    """The same; whoever compares one with several others must not compute it as often."""
    return lax.optimization_barrier(numbers) if isinstance(numbers, jax.Array) else numbers


def threefry(key0: Array, key1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Threefry-2x32 of 20 rounds: two words hashed with a key of two (uint32, elementwise)."""
    keys = (key0, key1, key0 ^ key1 ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):  # of a single number; arrays wrap around silently
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for i in range(5):
            for turn in ROTATIONS[i % 2]:
                x0 = x0 + x1
                x1 = x0 ^ ((x1 << turn) | (x1 >> (32 - turn)))
            x0 = x0 + keys[(i + 1) % 3]
            x1 = x1 + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x0, x1

"""What every test runs under. Environment first: JAX reads it once, when it is imported."""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

# Only defaults: JAX_PLATFORMS=cuda pytest runs the same tests on a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# A first call compiles, so time per example says nothing.
settings.register_profile(
    "default", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config):
    """Compile in a hurry: quick tests mostly wait for the compiler.

    The same programs, with LLVM's costly passes left out. Long proofs and benchmarks run what users
    run.
    """
    if config.option.markexpr == "not slow and not benchmark":
        jax.config.update("jax_disable_most_optimizations", True)


QUICK_FAMILY = {
    "test_em.py": "tied",
    "test_cavi.py": "diag",
    "test_conjugate.py": "diag",
    "test_independent.py": "spherical",
    "test_compilation.py": "spherical",
    "test_geweke.py": "spherical",
}
"""What a file tries of laws that hold for every family; "full" where it is not listed."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave other families to the long proofs: each costs a compilation of everything."""
    families = {"full", "tied", "diag", "spherical"}
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        family = params.get("name", params.get("family"))
        known = isinstance(family, str) and family in families
        if known and family != QUICK_FAMILY.get(item.path.name, "full"):
            item.add_marker(pytest.mark.slow)


def _memory_maps() -> int:
    try:
        with open("/proc/self/maps") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 65_000  # unknown: as if there were many


@pytest.fixture(autouse=True, scope="module")
def _programs_unloaded():
    """Unload compiled programs after a file once there are many.

    Each holds several memory maps, and a process may hold about 65,000: past that XLA crashes.
    """
    yield
    if _memory_maps() > 25_000:
        jax.clear_caches()

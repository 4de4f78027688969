"""Checkpoints: any number of cores, hostile files, two runs on one path."""

import dataclasses
import io
import os
import subprocess
import sys
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest

from bayesclust.core import rows as rows_
from bayesclust.core import threads
from bayesclust.engines import Gibbs, PartitionGibbs, chains, checkpoint
from bayesclust.families import FullGaussian, SphericalGaussian
from bayesclust.mixture import Mixture
from tests.engines.laws import assert_same
from tests.problems import KEY, blobs

X, _ = blobs(96, 2, 3, separation=8.0)
ENGINES = {
    "gibbs": (Gibbs(40, 40, 3), FullGaussian),
    "partition": (PartitionGibbs(0.0, 0.0, 40, 40, 3, 1), SphericalGaussian),
}


class KilledError(Exception):
    """The run ends here."""


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    monkeypatch.setattr(chains, "CHUNK", 20)


def run(name="gibbs", path=None, **settings):
    engine, family = ENGINES[name]
    engine = dataclasses.replace(engine, checkpoint=path)
    return engine.run(KEY, Mixture(family(), 3), X, **settings)


def kill_after(share):
    def kill(done, total):
        if done >= share * total:
            raise KilledError

    return kill


@pytest.fixture
def on(monkeypatch):
    """Make as if there were so many cores."""

    def set_cores(count):
        for module in (rows_, threads, chains):
            monkeypatch.setattr(module, "cores", lambda: count)
        threads._pool.cache_clear()

    yield set_cores
    threads._pool.cache_clear()


@pytest.mark.parametrize("name", ENGINES)
def test_a_run_goes_on_with_any_number_of_cores(name, tmp_path, on):
    path = str(tmp_path / "run.ckpt")
    on(2)
    whole = run(name)
    for share, cores in ((0.3, 2), (0.7, 1), (0.9, 8)):
        on(cores)
        with pytest.raises(KilledError):
            run(name, path, progress=kill_after(share))
    on(3)
    assert_same(run(name, path), whole)


ON_CORES = """
import os, sys
count = int(sys.argv[1])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
import jax, numpy as np
from bayesclust import Mixture, SphericalGaussian
from bayesclust.engines import NUTS, Gibbs, PartitionGibbs, chains

kind, rows, stop, path, out = sys.argv[2:]
chains.CHUNK = 10
engine = {
    "gibbs": Gibbs(20, 20, 3, checkpoint=path),
    "nuts": NUTS(20, 20, 3, checkpoint=path),
    "partition": PartitionGibbs(num_warmup=20, num_draws=20, num_chains=3, checkpoint=path),
}[kind]

def die(done, total):
    if done >= float(stop) * total:
        os._exit(9)

X = np.random.default_rng(0).normal(size=(int(rows), 4)) + 3 * (np.arange(int(rows)) % 3)[:, None]
draws = engine.run(jax.random.key(0), Mixture(SphericalGaussian(), 3), X, progress=die)
np.savez(out, *jax.tree.leaves(draws))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="cores cannot be told apart here",
)
@pytest.mark.parametrize(
    "case", [("gibbs", 200_000), ("gibbs", 90), ("nuts", 90), ("partition", 20_000)], ids=str
)
def test_a_killed_process_goes_on_with_other_cores(case, tmp_path):
    kind, rows = case

    def call(cores, stop, path, out):
        code = [sys.executable, "-c", ON_CORES, str(cores), kind, str(rows), str(stop), path, out]
        return subprocess.run(code, check=False).returncode

    whole, resumed, path = (str(tmp_path / name) for name in ("a.npz", "b.npz", "run.ckpt"))
    assert call(2, 2, str(tmp_path / "whole.ckpt"), whole) == 0
    assert call(2, 0.3, path, resumed) == 9
    assert call(1, 0.7, path, resumed) == 9
    assert call(2, 2, path, resumed) == 0
    with np.load(whole) as a, np.load(resumed) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


# -- files that are not what they should be -------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A checkpoint after warm-up and half of the draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "CHUNK", 20)
        path = tmp_path_factory.mktemp("run") / "run.ckpt"
        with pytest.raises(KilledError):
            run(path=str(path), progress=kill_after(0.7))
        return path.read_bytes()


def arrays_of(content):
    with np.load(io.BytesIO(content)) as file:
        return {name: file[name] for name in file.files}


def npz(arrays, save=np.savez):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def edited(**changes):
    def edit(content):
        arrays = arrays_of(content)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        return npz(arrays)

    return edit


def signed(change):
    """Changes of somebody who knows how we sign."""

    def edit(content):
        arrays = arrays_of(content)
        position, leaves = int(arrays["position"]), [v for n, v in arrays.items() if "leaf" in n]
        position, leaves = change(position, leaves)
        arrays["position"] = np.array(position)
        arrays.update({f"leaf_{i}": v for i, v in enumerate(leaves)})
        mark = str(arrays["mark"])
        arrays["digest"] = np.array(checkpoint.fingerprint(mark, position, leaves))
        return npz(arrays)

    return edit


def spoiled(position, leaves, value=np.nan):
    last = max(i for i, v in enumerate(leaves) if v.dtype.kind == "f")
    leaves[last] = leaves[last].copy()
    leaves[last].flat[0] = value
    return position, leaves


def declaring(shape):
    """The last array of the file claims another shape than it has numbers for."""

    def edit(content):
        arrays = arrays_of(content)
        name, value = list(arrays.items())[-1]
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"shape": shape, "fortran_order": False, "descr": value.dtype.str}
        )
        del arrays[name]
        file = io.BytesIO(npz(arrays))
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(f"{name}.npy", header.getvalue() + value.tobytes())
        return file.getvalue()

    return edit


def bomb(content):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as archive:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "leaf_0.npy":
                data += bytes(1 << 28)
            archive.writestr(info.filename, data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def npy(content):
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


HOSTILE = {
    "a position before it": edited(position=lambda v: v - 1),
    "a position after it": edited(position=lambda v: v + 1),
    "a position beyond the end": edited(position=lambda v: np.array(1000)),
    "a position below none": edited(position=lambda v: np.array(-1)),
    "several positions": edited(position=lambda v: np.array([3, 3])),
    "a position that is a fraction": edited(position=lambda v: np.array(2.5)),
    "a signed position before it": signed(lambda position, leaves: (position - 1, leaves)),
    "a signed position of none": signed(lambda position, leaves: (0, leaves)),
    "a signed position beyond": signed(lambda position, leaves: (1000, leaves)),
    "fewer draws": signed(lambda p, leaves: (p, [v[:, :-1] if v.ndim > 1 else v for v in leaves])),
    "more chains": signed(lambda p, leaves: (p, [np.concatenate([v, v]) for v in leaves])),
    "single precision": signed(
        lambda p, leaves: (p, [v.astype("f4") if v.dtype == "f8" else v for v in leaves])
    ),
    "complex numbers": signed(lambda p, leaves: (p, [v.astype(complex) for v in leaves])),
    "NaN": signed(spoiled),
    "infinity": signed(lambda p, leaves: spoiled(p, leaves, np.inf)),
    "another number": lambda content: edited(leaf_2=lambda v: v + 1e-9)(content),
    "an array too few": lambda content: npz(dict(list(arrays_of(content).items())[:-1])),
    "an array too many": lambda content: npz({**arrays_of(content), "more": np.zeros(2)}),
    "other names": lambda c: npz({f"{n}x": v for n, v in arrays_of(c).items()}),
    "pickled objects": edited(leaf_0=lambda v: np.array([{"a": 1}], object)),
    "compressed": lambda content: npz(arrays_of(content), np.savez_compressed),
    "zeros to fill the memory": bomb,
    "a shape to fill the memory": declaring((1 << 40,)),
    "a shape of too few": declaring((3, 1)),
    "cut short": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-3],
    "empty": lambda content: b"",
    "text": lambda content: b"a,b\n1,2\n",
    "one array": npy,
    "a file of a byte changed": lambda c: (
        c[: len(c) // 2] + bytes([c[len(c) // 2] ^ 1]) + c[len(c) // 2 + 1 :]
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_was_not_written_so_is_refused(what, stopped, tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(HOSTILE[what](stopped))
    before = path.read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"run\.ckpt.*remove it"):
            run(path=str(path), progress=lambda done, total: pytest.fail("it went on"))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]


def test_a_directory_in_its_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        run(path=str(tmp_path))


def test_a_missing_directory_is_told_before_anything_is_drawn(tmp_path):
    path = str(tmp_path / "nowhere" / "run.ckpt")
    with pytest.raises(OSError, match=r"nowhere.run\.ckpt"):
        run(path=path, progress=lambda done, total: pytest.fail("it went on"))


def test_the_file_as_written_is_taken(stopped, tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(stopped)
    began = []
    found = run(path=str(path), progress=lambda done, total: began.append(done))
    assert began == [80]
    assert_same(found, run())


@pytest.mark.parametrize("what", ["start", "weights"])
def test_another_start_or_weights_are_another_run(what, stopped, tmp_path):
    from bayesclust.engines import KMeansStart

    path = tmp_path / "run.ckpt"
    path.write_bytes(stopped)
    other = {"start": {"start": KMeansStart()}, "weights": {"sample_weight": np.full(96, 2)}}
    with pytest.raises(ValueError, match="another run"):
        run(path=str(path), **other[what])


# -- two runs on one path -------------------------------------------------------------------------


def test_a_second_run_on_one_path_is_refused(tmp_path):
    path = str(tmp_path / "run.ckpt")
    said = []

    def second(done, total):
        with pytest.raises(RuntimeError, match=r"run\.ckpt.*in use") as error:
            run(path=path)
        said.append(error)

    found = run(path=path, progress=second)
    assert len(said) == 4
    assert_same(found, run())
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
    assert_same(run(path=path), found)


HOLDER = """
import sys, time
from bayesclust.engines import checkpoint
with checkpoint.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_locks_nobody_out(tmp_path):
    path = str(tmp_path / "run.ckpt")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match="in use"), checkpoint.held(path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert (tmp_path / "run.ckpt.lock").exists()
    with checkpoint.held(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_lets_go(tmp_path):
    path = str(tmp_path / "run.ckpt")
    with pytest.raises(KilledError):
        run(path=path, progress=kill_after(0))
    with checkpoint.held(path):
        pass


def test_keys_of_all_kinds_come_back():
    for impl in ("threefry2x32", "rbg"):
        key = jax.random.key(3, impl=impl)
        back = checkpoint.restore(key, checkpoint.plain(key))
        assert jax.random.key_impl(back) == jax.random.key_impl(key)
        np.testing.assert_array_equal(jax.random.key_data(back), jax.random.key_data(key))

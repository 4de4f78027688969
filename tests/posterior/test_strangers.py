"""Model files that anyone may have made are refused by name, or score as they should."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import bayesclust


def reseal(path: Path) -> None:
    """Append the checksum that damage is told by, as somebody with intent would."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content + b"\nbayesclust sha256 " + digest + b"\n")


@contextlib.contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    with h5py.File(path, "r+") as file:
        yield file
    reseal(path)


def replaced(file: h5py.File, name: str, value: Any, **options: Any) -> None:
    """Another variable in the place of one, with its attributes."""
    attributes = dict(file[name].attrs)
    del file[name]
    variable = file.create_dataset(name, data=value, **options)
    for key in ("_FillValue", "dtype"):
        if key in attributes:
            variable.attrs[key] = attributes[key]


@pytest.fixture(scope="module")
def content(models: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "model.nc"
    models["mixture-drawn"].save(path)
    return path.read_bytes()


@pytest.fixture
def saved(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.nc"
    path.write_bytes(content)
    return path


def refused(path: Path, match: str = "") -> None:
    with pytest.raises(ValueError, match=rf"model\.nc.*{match}"):
        bayesclust.load(path)


# -- values ------------------------------------------------------------------------------------


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(old: np.ndarray) -> np.ndarray:
        old.flat[0] = value
        return old

    return change


def twice(old: np.ndarray) -> np.ndarray:
    old[..., 1] = old[..., 0]
    return old


def lopsided(old: np.ndarray) -> np.ndarray:
    old[..., 0, 1] += np.sqrt(old[..., 0, 0] * old[..., 1, 1]) / 2
    return old


def indefinite(old: np.ndarray) -> np.ndarray:
    root = 1.1 * np.sqrt(old[..., 0, 0] * old[..., 1, 1])
    old[..., 0, 1] = old[..., 1, 0] = root
    return old


VALUES: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
    *[
        (f"{group}/weights", name, change)
        for group in ("point_estimate", "posterior")
        for name, change in {
            "negative": lambda v: v * [-1, 1, 3],
            "NaN": first(np.nan),
            "infinite": first(np.inf),
            "twice as much": lambda v: 2 * v,
            "nothing": lambda v: 0 * v,
        }.items()
    ],
    *[
        (f"{group}/cov", name, change)
        for group in ("point_estimate", "posterior")
        for name, change in {
            "not symmetric": lopsided,
            "indefinite": indefinite,
            "negative": lambda v: -v,
            "zero": lambda v: 0 * v,
            "NaN": first(np.nan),
        }.items()
    ],
    ("point_estimate/mean", "NaN", first(np.nan)),
    ("posterior/mean", "infinite", first(np.inf)),
    ("posterior/mean", "far beyond the rows", first(1e300)),
    ("constant_data/scale", "zero", lambda v: 0 * v),
    ("constant_data/scale", "negative", lambda v: -v),
    ("constant_data/scale", "NaN", first(np.nan)),
    ("constant_data/scale", "too small", lambda v: 0 * v + 1e-250),
    ("constant_data/shift", "infinite", first(np.inf)),
    ("constant_data/reference_log_density", "unsorted", lambda v: v[::-1]),
    ("constant_data/reference_log_density", "NaN", first(np.nan)),
    ("alignment/permutation", "twice the same", twice),
    ("alignment/permutation", "out of range", lambda v: v + 1),
    ("alignment/confidence", "above one", first(1.5)),
    ("alignment/confidence", "NaN", first(np.nan)),
    ("sample_stats/converged", "no flag", lambda v: v + 2),
    ("membership/label", "no cluster", first(1_000_000_000)),
    ("membership/label", "negative", first(-1)),
    ("membership/probability", "above one", first(3.0)),
    ("membership/probability", "NaN", first(np.nan)),
    ("members/size", "negative", first(-1)),
    ("members/probability", "NaN", first(np.nan)),
    ("observed_data/x", "NaN", first(np.nan)),
]


@pytest.mark.parametrize(
    ("name", "change"), [pytest.param(n, c, id=f"{n}: {w}") for n, w, c in VALUES]
)
def test_values_that_no_fit_has(saved: Path, name: str, change: Any) -> None:
    with edited(saved) as file:
        file[name][...] = change(file[name][...])
    refused(saved)


@pytest.mark.parametrize("model", ["kmeans", "standardized"])
def test_spreads_of_other_families(models: Any, tmp_path: Path, model: str) -> None:
    path = tmp_path / "model.nc"
    name = "point_estimate/" + ("cov" if model == "standardized" else "var")
    models[model].save(path)
    with edited(path) as file:
        file[name][...] = -file[name][...]
    refused(path, name)


ATTRIBUTES = {
    "n_clusters": [1_000_000_000, 2, 0, -3, 3.0, "3", np.nan],
    "dtype": ["float16", "int8", "complex128", "object", 64],
    "hard": [2, -1, 1, "yes"],
    "has_draws": [0, 7, "no"],
    "has_rows": [0, 7],
    "family": ["Family", "GaussianFamily", "Prior", "Gamma", "NormalInverseWishart", "object", 3],
    "kind": [3.5],
    "weights": ["{", "[]", '{"name": "Dirichlet"}', '{"name": "Gamma", "shape": 1, "rate": 1}', 1],
    "prior": ["{", "[]", "{}{", '{"weights": null}', '{"weights": {"shape": 1}}', "NaN", 1],
    "standardize": [2, "yes"],
    "bayesclust_format": [0, 3, "2", np.nan],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in ATTRIBUTES for v in ATTRIBUTES[n]])
def test_attributes_that_no_fit_has(saved: Path, name: str, value: Any) -> None:
    with edited(saved) as file:
        file.attrs[name] = value
    refused(saved)


# -- kinds and shapes ----------------------------------------------------------------------------


KINDS = ["i1", "i8", "u4", "f2", "c16", "?", "S8", h5py.string_dtype(), "V8", ">c8"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", ["point_estimate/mean", "posterior/weights"])
def test_numbers_of_another_kind(saved: Path, name: str, kind: Any) -> None:
    with edited(saved) as file:
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape=shape, dtype=kind)
    refused(saved, name)


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one number": lambda v: v.flat[0],
    "one for all": lambda v: v[:1],
    "too few": lambda v: v[:-1],
    "too many": lambda v: np.concatenate([v, v[:1]]),
    "an axis more": lambda v: v[None],
    "no rows": lambda v: v[:0],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name",
    [
        "point_estimate/mean",
        "point_estimate/cov",
        "posterior/cov",
        "constant_data/shift",
        "constant_data/scale",
        "alignment/permutation",
        "membership/probability",
        "observed_data/x",
    ],
)
def test_shapes_that_do_not_belong_together(saved: Path, name: str, shape: str) -> None:
    with edited(saved) as file:
        replaced(file, name, SHAPES[shape](file[name][...]))
    refused(saved)


def test_features_must_have_names_of_their_own(saved: Path) -> None:
    with edited(saved) as file:
        file["constant_data/feature"][...] = ["height", "height"]
    refused(saved, "feature")


@pytest.mark.parametrize(
    "name", ["posterior", "alignment", "constant_data/feature", "members/size"]
)
def test_parts_that_are_missing(saved: Path, name: str) -> None:
    with edited(saved) as file:
        del file[name]
    refused(saved, name.split("/")[0])


# -- other files, and sizes ----------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the model that must not be read: numbers that would fit."""
    path = tmp_path / "secret"
    with h5py.File(path, "w") as file:
        file["weights"] = np.array([0.2, 0.3, 0.5])
        file["mean"] = np.zeros((3, 2))
        file.create_group("members")
    (tmp_path / "raw").write_bytes(np.array([0.2, 0.3, 0.5]).tobytes())
    return path


def test_no_other_file_is_read(saved: Path, secret: Path) -> None:
    name, raw = "point_estimate/weights", str(secret.parent / "raw")
    whole = saved.read_bytes()
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(secret), "weights", shape=(3,))
    places: list[Callable[[h5py.File], Any]] = [
        lambda f: f.create_dataset(name, (3,), "f8", external=[(raw, 0, 24)]),
        lambda f: f.create_virtual_dataset(name, layout),
        lambda f: f.__setitem__(name, h5py.ExternalLink(str(secret), "weights")),
        lambda f: f.__setitem__(name, h5py.SoftLink("/constant_data/scale")),
        lambda f: f.__setitem__(name, h5py.SoftLink("/nowhere")),
        lambda f: f.create_group(name),
        lambda f: f.__setitem__(name, np.dtype("f8")),
    ]
    for place in places:
        saved.write_bytes(whole)
        with edited(saved) as file:
            del file[name]
            place(file)
        refused(saved, name)
    for group in ("constant_data", "members", "log_likelihood"):
        saved.write_bytes(whole)
        with edited(saved) as file:
            del file[group]
            file[group] = h5py.ExternalLink(str(secret), "/")
        refused(saved, group)


def test_unknown_filters_are_not_loaded(saved: Path) -> None:
    with edited(saved) as file:
        replaced(file, "observed_data/x", file["observed_data/x"][...], compression="lzf")
    refused(saved, "observed_data/x.*gzip")


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (200_000_000, 2), "chunks": (1_000_000, 2), "compression": "gzip"},
        {"shape": (200_000_000, 2)},
        {"shape": (1 << 40, 2), "chunks": (1024, 2)},
        {"shape": (60, 2), "maxshape": (None, 2), "chunks": (100_000_000, 2)},
    ],
    ids=["compressed", "never written", "a terabyte", "one great chunk"],
)
def test_declared_sizes_are_within_the_budget(saved: Path, options: dict[str, Any]) -> None:
    with edited(saved) as file:
        del file["observed_data/x"]
        file["observed_data"].create_dataset("x", dtype="f8", **options)
    tracemalloc.start()
    try:
        refused(saved, "observed_data/x declares")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_the_number_of_clusters_is_bounded_by_the_arrays(saved: Path) -> None:
    k = 1_000_000_000
    with edited(saved) as file:
        file.attrs["n_clusters"] = k
        del file["point_estimate/weights"]
        file["point_estimate"].create_dataset("weights", shape=(k,), dtype="f8", fillvalue=1 / k)
    refused(saved, "point_estimate/weights declares")


def test_members_are_counted_before_they_are_read(saved: Path) -> None:
    with edited(saved) as file:
        for i in range(1100):
            file["sample_stats"].create_dataset(f"s{i}", data=np.zeros((4, 2)))
    refused(saved, "sample_stats has 11.. members")


def text_places(path: Path) -> tuple[int, int]:
    """Where the file refers to the names of rows, and how many there are."""
    with h5py.File(path) as file:
        variable = file["observed_data/obs"]
        return variable.id.get_offset(), len(variable)


def test_texts_are_measured_before_they_are_read(
    models: Any, X: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "model.nc"
    names = ["n" * 1_000_000, *(f"row {i}" for i in range(59))]
    frame = pd.DataFrame(X, columns=["height", "width"], index=names)
    bayesclust.KMeans(3, random_state=0).fit(frame).save(path)
    whole = path.read_bytes()
    place, count = text_places(path)
    reference = whole[place : place + 16]
    assert int.from_bytes(reference[:4], "little") == 1_000_000
    many = whole[:place] + reference * count + whole[place + 16 * count :]
    long = whole[:place] + b"\xff" * 4 + whole[place + 4 :]
    for content in (many, long):
        path.write_bytes(content)
        reseal(path)
        tracemalloc.start()
        try:
            refused(path, "observed_data/obs holds more text")
            assert tracemalloc.get_traced_memory()[1] < 50 << 20
        finally:
            tracemalloc.stop()


def test_a_heap_without_end_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())

    def number(at: int, size: int) -> int:
        return int.from_bytes(content[at : at + size], "little")

    def free(heap: int) -> int | None:
        """Place of object 0, which is what is free, if anything is."""
        at, end = heap + 16, heap + number(heap + 8, 8)
        while at + 16 <= end and number(at, 2):
            at += 16 + -(-number(at + 8, 8) // 8) * 8
        return at if at + 16 <= end else None

    heap = content.find(b"GCOL")
    while free(heap) is None:
        heap = content.find(b"GCOL", heap + 4)
    at = free(heap)
    assert heap > 0 and at is not None
    content[at + 8 : at + 16] = bytes(8)
    saved.write_bytes(content)
    reseal(saved)
    refused(saved, "no end")


# -- what does no harm ---------------------------------------------------------------------------


def harmless(file: h5py.File) -> None:
    for name in ("point_estimate/mean", "posterior/cov", "constant_data/scale"):
        file[name].attrs["scale_factor"] = 10.0
        file[name].attrs["add_offset"] = -1e9
        file[name].attrs["_FillValue"] = file[name][...].flat[0]
        file[name].attrs["missing_value"] = file[name][...].flat[-1]
        file[name].attrs["units"] = "days since 2000-01-01"
    mean = file["posterior/mean"][...]
    replaced(file, "posterior/mean", mean.astype(">f8"))
    cov = file["posterior/cov"][...]
    replaced(file, "posterior/cov", cov, compression="gzip", shuffle=True, fletcher32=True)
    file["posterior/feature"][...] = ["x", "x"]
    file["posterior/chain"][...] = 7
    file["deep/er/and/deeper/still"] = np.zeros(3)
    file["elsewhere"] = h5py.ExternalLink("nowhere", "/")
    file.attrs["note"] = "seen by me"


def test_what_is_not_asked_for_changes_nothing(
    saved: Path, models: Any, frame: pd.DataFrame
) -> None:
    with edited(saved) as file:
        harmless(file)
    card = bayesclust.load(saved).scorecard(frame)
    pd.testing.assert_frame_equal(card, models["mixture-drawn"].scorecard(frame))


def test_files_of_the_first_format_are_read(
    models: Any, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """They had no seal, no list of flags, no group of members, and three attributes fewer."""
    model, path = models["mixture-drawn"], tmp_path / "model.nc"
    model.save(path)
    with h5py.File(path, "r+") as file:
        for name in ("has_rows", "weights", "named"):
            del file.attrs[name]
        for name in ("point_stats", "sample_stats"):
            del file[name].attrs["flags"]
        del file["members"]
        file.attrs["bayesclust_format"] = 1
    loaded = bayesclust.load(path)
    pd.testing.assert_frame_equal(loaded.scorecard(frame), model.scorecard(frame))
    pd.testing.assert_frame_equal(loaded.summary(), model.summary())
    assert loaded.diagnose() == model.diagnose()


# -- damage --------------------------------------------------------------------------------------


def test_every_changed_byte_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 9, len(whole) - 1, len(whole) - 80, *rng.integers(0, len(whole), 200)]:
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        saved.write_bytes(content)
        refused(saved)
    saved.write_bytes(whole[:-84])
    refused(saved, "seal")


# -- seeded fuzz ---------------------------------------------------------------------------------

VALUES_OF_ANY_KIND: list[Any] = [np.nan, np.inf, -np.inf, -1.0, 0.0, 0.5, 2.0, 1e12, -1e12, 1e200]


def mutate(file: h5py.File, rng: np.random.Generator) -> None:
    """One change of a file's structure or numbers."""
    names: list[str] = []
    file.visit(names.append)
    name = names[rng.integers(len(names))]
    node = file[name]
    attributes = [key for key in file.attrs if not key.startswith("_")]
    kind = rng.integers(12)
    if kind == 0:
        del file[name]
    elif kind == 1:
        key = attributes[rng.integers(len(attributes))]
        value = rng.choice(np.array([0, 1, 2, -1, 10**9, 0.5, "", "x", "float32", "[]"], object))
        file.attrs[key] = value
    elif kind == 2:
        del file.attrs[attributes[rng.integers(len(attributes))]]
    elif kind == 3:
        del file[name]
        target = names[rng.integers(len(names))]
        file[name] = rng.choice(np.array([h5py.SoftLink(target), h5py.ExternalLink("a", target)]))
    elif kind == 4:
        other = names[rng.integers(len(names))]
        if not other.startswith(name) and not name.startswith(other):
            del file[name]
            file[name] = file[other]
    elif isinstance(node, h5py.Dataset) and node.size and node.shape:
        value = node[...]
        if kind == 5:
            replaced(file, name, value[:: rng.choice([-1, 2])])
        elif kind == 6:
            replaced(file, name, np.concatenate([value, value]))
        elif kind == 7:
            shape = tuple(rng.choice([1, 10**6, 10**9], size=value.ndim))
            del file[name]
            file.create_dataset(name, shape=shape, dtype="f8", chunks=True, compression="gzip")
        elif kind == 8 and value.dtype.kind in "if":
            with np.errstate(all="ignore"):
                replaced(
                    file, name, value.astype(rng.choice(["i1", "f4", "f2", "c8", ">f8", "S4"]))
                )
        elif kind == 9 and value.dtype.kind in "if":
            replaced(file, name, value.reshape(value.shape[::-1]))
        elif value.dtype.kind == "f":
            place = rng.integers(value.size)
            value.flat[place] = VALUES_OF_ANY_KIND[rng.integers(len(VALUES_OF_ANY_KIND))]
            node[...] = value
        elif value.dtype.kind == "i":
            value.flat[rng.integers(value.size)] = rng.integers(-3, 100)
            node[...] = value
        else:
            node[rng.integers(len(node))] = rng.choice(["", "é", "height", "x" * 1000])


def greatest_memory() -> int:
    """Bytes that this process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kmeans-drawn", "mixture", "standardized"])
def test_fuzzed_structure(models: Any, frame: pd.DataFrame, tmp_path: Path, name: str) -> None:
    """A changed file is refused by its name, or scores rows by probabilities."""
    path = tmp_path / "model.nc"
    models[name].save(path)
    whole, rows = path.read_bytes(), frame.iloc[:16]
    right = models[name].scorecard(rows)
    same = read = 0
    before = greatest_memory()
    for seed in range(150):
        path.write_bytes(whole)
        with edited(path) as file:
            mutate(file, np.random.default_rng(seed))
        try:
            loaded = bayesclust.load(path)
        except ValueError as error:
            assert "model.nc" in str(error), seed
            continue
        read += 1
        if set(loaded.features) != set(frame.columns):
            continue
        card = loaded.scorecard(rows)
        same += card.equals(right)
        total = loaded.predict_proba(rows).sum(axis=1)
        np.testing.assert_allclose(total, 1, rtol=1e-5, err_msg=str(seed))
        assert loaded.n_clusters == models[name].clustering_.n_clusters
        assert np.isfinite(card["log_density"]).all(), seed
        loaded.summary()
    assert 0 < same <= read < 150
    assert greatest_memory() < before + (400 << 20)


@pytest.mark.slow
def test_fuzzed_bytes(models: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Without a seal, too, whatever the HDF5 library meets ends in a ValueError or a model."""
    path = tmp_path / "model.nc"
    models["mixture-drawn"].save(path, rows=False)
    with h5py.File(path, "r+") as file:
        file.attrs["bayesclust_format"] = 1
    whole = path.read_bytes()
    before = greatest_memory()
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 6)):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            bayesclust.load(path)
        except ValueError as error:
            assert "model.nc" in str(error), seed
    assert greatest_memory() < before + (400 << 20)


def test_descriptions_of_priors_are_read_back() -> None:
    from bayesclust.posterior.priors import described, restored
    from bayesclust.weights import Dirichlet

    prior = Dirichlet(bayesclust.families.Gamma(2.0, 4.0))
    assert restored(json.loads(json.dumps(described(prior))), 3) == prior
    with pytest.raises(ValueError, match="above 0"):
        restored({"name": "Dirichlet", "concentration": -1}, 3)

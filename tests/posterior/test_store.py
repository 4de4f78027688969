"""Saved models score as they did, or say clearly why they cannot be read."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesclust
from bayesclust import Clustering, Draws, KMeans, Mixture, SphericalGaussian
from bayesclust.core.units import Units
from bayesclust.posterior import Alignment


def leftovers(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_scores_bit_for_bit(model: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    model.save(tmp_path / "model.nc")
    assert leftovers(tmp_path) == ["model.nc"]
    loaded = bayesclust.load(tmp_path / "model.nc")
    new = frame.iloc[::-1] * 1.1
    for rows in (frame, new):
        xr.testing.assert_identical(loaded.membership(rows), model.membership(rows))
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
        np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
        pd.testing.assert_frame_equal(loaded.scorecard(rows), model.scorecard(rows))
        np.testing.assert_array_equal(
            loaded.log_density(rows), model.clustering_.log_density(rows.to_numpy())
        )
    pd.testing.assert_frame_equal(loaded.summary(), model.summary())
    assert loaded.diagnose() == model.diagnose()
    assert repr(loaded) == repr(model.clustering_)
    np.testing.assert_array_equal(loaded.labels, model.clustering_.labels)


def test_saved_again(models: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    model = models["mixture-drawn"]
    model.save(tmp_path / "one.nc")
    bayesclust.load(tmp_path / "one.nc").save(tmp_path / "two.nc")
    bayesclust.load(tmp_path / "two.nc").save(tmp_path / "two.nc")  # over itself
    loaded = bayesclust.load(str(tmp_path / "two.nc"))
    xr.testing.assert_identical(loaded.membership(frame), model.membership(frame))
    for name, group in model.posterior_.children.items():
        xr.testing.assert_equal(loaded.tree[name].dataset, group.dataset)
    assert leftovers(tmp_path) == ["one.nc", "two.nc"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_kept(X: np.ndarray, dtype: str, tmp_path: Path) -> None:
    X = X.astype(dtype)
    model = KMeans(3, random_state=0).fit(X)
    model.save(tmp_path / "model.nc")
    loaded = bayesclust.load(tmp_path / "model.nc")
    assert loaded.predict_proba(X).dtype == dtype
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


INDEXES = {
    "strings": pd.Index([f"ä{i}" for i in range(60)]),
    "integers": pd.RangeIndex(100, 160),
    "floats": pd.Index(np.linspace(0, 1, 60)),
    "times": pd.date_range("2020-01-01", periods=60, freq="D"),
    "zoned times": pd.date_range("2020-01-01", periods=60, freq="D", tz="UTC"),
    "objects": pd.Index([*range(30), *"abcdefghij" * 3], dtype=object),
    "pairs": pd.MultiIndex.from_product([range(6), range(10)]),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_names_of_rows(X: np.ndarray, kind: str, tmp_path: Path) -> None:
    index = INDEXES[kind]
    frame = pd.DataFrame(X, columns=["a", "b"], index=index)
    model = KMeans(3, random_state=0).fit(frame)
    obs = model.posterior_["membership"]["obs"].values
    native = kind in ("strings", "integers", "floats", "times")
    assert list(obs) == (list(index.values) if native else [str(v) for v in index])
    model.save(tmp_path / "model.nc")
    loaded = bayesclust.load(tmp_path / "model.nc")
    assert (loaded.tree["membership"]["obs"].values == obs).all()
    assert loaded.membership(frame)["obs"].equals(model.membership(frame)["obs"])
    assert loaded.scorecard(frame).index.equals(index)


# -- what cannot be read -------------------------------------------------------------------------


@pytest.fixture
def saved(models: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.nc"
    models["mixture"].save(path)
    return path


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no saved model"):
        bayesclust.load(tmp_path / "nothing.nc")
    with pytest.raises(FileNotFoundError, match="no saved model"):
        bayesclust.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="no saved model, or is truncated"):
        bayesclust.load(saved)


class Trap:
    """Something that acts when unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("a file was executed",))


def test_not_ours(tmp_path: Path) -> None:
    for name, content in (("text", b"weights: 1"), ("trap", pickle.dumps(Trap()))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="no saved model"):
            bayesclust.load(tmp_path / name)
    xr.Dataset({"a": 1.0}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="not written by bayesclust"):
        bayesclust.load(tmp_path / "other.nc")


def test_another_version(saved: Path) -> None:
    with h5netcdf.File(saved, "a") as file:
        file.attrs["bayesclust_format"] = 99
        file.attrs["bayesclust_version"] = "12.3"
    with pytest.raises(ValueError, match=r"format 99 of bayesclust 12\.3.*fit again"):
        bayesclust.load(saved)


# -- without rows --------------------------------------------------------------------------------


@pytest.fixture
def lean(models: Any, tmp_path: Path) -> Any:
    models["mixture-drawn"].save(tmp_path / "lean.nc", rows=False)
    return bayesclust.load(tmp_path / "lean.nc")


def test_rows_are_left_out_and_not_needed(
    model: Any, X: np.ndarray, frame: pd.DataFrame, tmp_path: Path
) -> None:
    model.save(tmp_path / "lean.nc", rows=False)
    model.save(tmp_path / "full.nc")
    content, full = ((tmp_path / f"{n}.nc").read_bytes() for n in ("lean", "full"))
    for value in X.astype(np.float64).ravel():  # neither a row nor its name
        assert value.tobytes() in full and value.tobytes() not in content
    assert b"row 7" in full and b"row 7" not in content
    with h5netcdf.File(tmp_path / "lean.nc") as file:
        assert not {"membership", "observed_data", "log_likelihood"} & set(file.groups)
        assert file.attrs["has_rows"] == 0
    loaded = bayesclust.load(tmp_path / "lean.nc")
    for rows in (frame, frame * 1.1):
        pd.testing.assert_frame_equal(loaded.scorecard(rows), model.scorecard(rows))
    pd.testing.assert_frame_equal(loaded.summary(), model.summary())
    assert loaded.diagnose() == model.diagnose()
    loaded.save(tmp_path / "again.nc")
    again = bayesclust.load(tmp_path / "again.nc")
    pd.testing.assert_frame_equal(again.summary(), model.summary())
    labels = model.scorecard(frame)["cluster"].to_numpy()
    np.testing.assert_array_equal(again.summary()["size"], np.bincount(labels, minlength=3))


def test_what_needs_rows_says_so(lean: Any, models: Any, frame: pd.DataFrame) -> None:
    fitted = models["mixture-drawn"]
    with pytest.raises(ValueError, match=r"no training rows.*predict\(X\)"):
        _ = lean.labels
    calls: list[Any] = [
        lean.loo,
        lean.log_likelihood,
        lean.realigned,
        lambda: bayesclust.align(fitted, to=lean),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"no training rows.*pass rows as X"):
            call()
    _, overlap = bayesclust.align(fitted, to=lean, X=frame)
    np.testing.assert_allclose(overlap["overlap"], 1)
    assert lean.realigned("stephens", X=frame).n_clusters == 3
    np.testing.assert_array_equal(lean.score_samples(frame), fitted.score_samples(frame))


def test_weights_of_rows_are_summed_up(X: np.ndarray, tmp_path: Path) -> None:
    weight = np.arange(60) % 4
    model = KMeans(3, random_state=0).fit(X, sample_weight=weight)
    model.save(tmp_path / "lean.nc", rows=False)
    found = bayesclust.load(tmp_path / "lean.nc").summary()
    assert found["size"].sum() == weight.sum()
    label, p = model.scorecard(X)["cluster"], model.scorecard(X)["probability"]
    for j in range(3):
        mean = np.average(p[label == j], weights=weight[label == j])
        assert found["probability"][j] == pytest.approx(mean)


def test_a_pickle_of_a_loaded_model_keeps_no_rows(saved: Path) -> None:
    loaded = pickle.loads(pickle.dumps(bayesclust.load(saved)))
    with pytest.raises(ValueError, match="no training rows"):
        _ = loaded.rows
    assert "size" in loaded.summary()


# -- to the last bit -----------------------------------------------------------------------------


def drawn(log_weights: np.ndarray, **flags: np.ndarray) -> Clustering:
    """A clustering of two spheres with these log weights ``(c, s, 2)`` as draws."""
    c, s, k = log_weights.shape
    params = {"mean": np.zeros((c, s, k, 1)), "var": np.ones((c, s, k))}
    draws = Draws(params, log_weights, {}, np.zeros((0, 0)), flags)
    one = {n: v[:1, :1] for n, v in params.items()}
    point = Draws(one, log_weights[:1, :1], {}, np.zeros((0, 0)), {})
    alignment = Alignment(np.broadcast_to(np.arange(k), (c, s, k)), np.ones((c, s)))
    units = Units(np.zeros(1), np.ones(1))
    mixture = Mixture(SphericalGaussian(), k)
    return Clustering(
        mixture, point, draws, units, float, ["x"], hard=False, kind="mine", alignment=alignment
    )


def test_log_weights_come_back_to_the_last_bit(tmp_path: Path) -> None:
    """log(exp(v)) is not v, and not even log(exp(log(exp(v)))) once in some thousand values."""
    first = -np.random.default_rng(0).exponential(50, size=(4, 5000))
    with np.errstate(divide="ignore"):
        clustering = drawn(np.stack([first, np.log1p(-np.exp(first))], axis=-1))
    clustering.save(tmp_path / "model.nc")
    loaded = bayesclust.load(tmp_path / "model.nc")
    assert clustering.draws is not None and loaded.draws is not None
    np.testing.assert_array_equal(loaded.draws.log_weights, clustering.draws.log_weights)


@pytest.mark.parametrize("flag", ["stopped", "a_flag_of_a_later_engine"])
def test_flags_come_back_as_flags(tmp_path: Path, flag: str) -> None:
    clustering = drawn(np.full((2, 3, 2), np.log(0.5)), **{flag: np.ones((2, 3), bool)})
    clustering.save(tmp_path / "model.nc")
    loaded = bayesclust.load(tmp_path / "model.nc")
    assert loaded.draws is not None and not loaded.draws.stats
    assert loaded.draws.flags[flag].all()


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_nothing_is_saved_that_could_not_be_loaded(tmp_path: Path, value: float) -> None:
    clustering = drawn(np.full((2, 3, 2), np.log(0.5)))
    assert clustering.draws is not None
    clustering.draws.params["var"][0, 1, 1] = value
    with pytest.raises(ValueError, match=r"degenerate.*: posterior/var must be positive"):
        clustering.save(tmp_path / "model.nc")
    assert not leftovers(tmp_path)


# -- where nothing can be written ----------------------------------------------------------------


def test_no_directory(models: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no directory"):
        models["kmeans"].save(tmp_path / "none" / "model.nc")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        models["kmeans"].save(tmp_path / "taken")
    assert leftovers(tmp_path) == ["taken"]


def test_read_only(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:  # root may write anywhere
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=r"Read-only file system.*model\.nc'"):
        models["kmeans"].save(tmp_path / "model.nc")
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file(
    models: Any, saved: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before = saved.read_bytes()

    def fail(file: Any) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        models["kmeans"].save(saved)
    assert leftovers(saved.parent) == ["model.nc"]
    assert saved.read_bytes() == before


FULL = """
import resource, sys
import numpy as np
from bayesclust import KMeans

X = np.random.default_rng(0).normal(size=(3000, 2))
model = KMeans(2, n_init=1, random_state=0).fit(X)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    model.save(sys.argv[1])
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """HDF5 would end the process by a signal."""
    pytest.importorskip("resource")
    path = tmp_path / "model.nc"
    path.write_bytes(b"old")
    code = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["model.nc"]

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
from bayesclust import KMeans
from bayesclust.posterior import store


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


@pytest.mark.parametrize(
    ("name", "value"),
    [("family", "object"), ("family", "Family"), ("dtype", "nonsense"), ("n_clusters", "three")],
)
def test_tampered(saved: Path, name: str, value: str) -> None:
    with h5netcdf.File(saved, "a") as file:
        file.attrs[name] = value
    with pytest.raises(ValueError, match="incomplete"):
        bayesclust.load(saved)


@pytest.mark.parametrize("group", ["posterior", "constant_data", "point_stats"])
def test_incomplete(saved: Path, group: str, models: Any) -> None:
    name = "mixture-drawn" if group == "posterior" else "mixture"
    tree = models[name].posterior_.copy()
    tree.attrs["bayesclust_format"] = store.FORMAT
    del tree[group]
    tree.to_netcdf(saved, engine="h5netcdf")
    with pytest.raises(ValueError, match="incomplete"):
        bayesclust.load(saved)


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

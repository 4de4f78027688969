"""The command line: ``bayesclust fit`` and ``bayesclust score``.

Bad input ends with exit code 2 and one line that says what to do; outputs appear whole or not at
all, and nothing is overwritten without ``--force``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="Clustering that says how sure it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

READERS = (".csv", ".parquet")


class Model(StrEnum):
    """Estimators the command line fits."""

    kmeans = "kmeans"
    gmm = "gmm"
    bayes = "bayes"


class Covariance(StrEnum):
    """Covariances of a Gaussian mixture."""

    full = "full"
    tied = "tied"
    diag = "diag"
    spherical = "spherical"


class Engine(StrEnum):
    """Ways to find a posterior."""

    gibbs = "gibbs"
    nuts = "nuts"
    svi = "svi"
    cavi = "cavi"


class Prior(StrEnum):
    """Priors of means and covariances."""

    conjugate = "conjugate"
    independent = "independent"
    hierarchical = "hierarchical"


class Uncertainty(StrEnum):
    """Ways to draw around a point fit."""

    bootstrap = "bootstrap"
    gibbs = "gibbs"


@app.callback()
def _commands() -> None:
    """Clustering that says how sure it is."""


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="Rows to cluster: a .csv or .parquet file.")],
    clusters: Annotated[int, typer.Option("--clusters", "-k", help="Number of clusters.")],
    out: Annotated[Path, typer.Option(help="Directory for scores and model; made if absent.")],
    model: Annotated[
        Model,
        typer.Option(
            help="k-means, or a Gaussian mixture: its likelihood's peak, or its posterior."
        ),
    ] = Model.gmm,
    columns: Annotated[
        str | None, typer.Option(help="Columns to use, comma-separated; default: all numeric.")
    ] = None,
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Divide columns by their standard deviation.")
    ] = False,
    uncertainty: Annotated[
        Uncertainty | None,
        typer.Option(help="Draw around the fit, for intervals; gibbs is for kmeans."),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(min=2, help="Refits (200), or draws of each chain (kmeans 200, bayes 1000)."),
    ] = None,
    chains: Annotated[
        int | None, typer.Option(min=1, help="Markov chains, for bayes by gibbs or nuts (4).")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="For bayes.")] = Engine.gibbs,
    prior: Annotated[Prior, typer.Option(help="For bayes.")] = Prior.conjugate,
    covariance: Annotated[Covariance, typer.Option(help="For gmm and bayes.")] = Covariance.full,
    level: Annotated[float, typer.Option(help="Mass of the intervals, in (0, 1).")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same answer.")] = 0,
    doubtful: Annotated[int, typer.Option(min=0, help="Doubtful rows to print.")] = 5,
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier output.")] = False,
) -> None:
    """Cluster the rows of DATA; write a scored table and a saved model, print what was found."""
    frame = read(data)
    if not 0 < level < 1:
        fail(f"--level {level:g} must lie between 0 and 1, e.g. --level 0.9")
    scores = out / f"scores{data.suffix.lower()}"
    saved = out / "model.nc"
    for path in (scores, saved):
        if path.exists() and not force:
            fail(f"{path} exists already: choose another --out, or pass --force to overwrite it")
    if not out.parent.is_dir():
        fail(f"--out {out}: there is no directory {out.parent}; create it first")
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file: give a directory")
    names, left = choose(frame, columns, data)
    rows = finite(frame[names], data)
    if clusters < 1 or clusters > len(rows):
        fail(f"-k {clusters}: give a number of clusters from 1 to {len(rows)}, the number of rows")
    if model is Model.bayes and uncertainty:
        fail("--uncertainty is for kmeans and gmm: the draws of --model bayes say it already")
    if model is not Model.kmeans and uncertainty is Uncertainty.gibbs:
        fail("--uncertainty gibbs is for kmeans: give --model kmeans, or --model bayes")
    if chains is not None and engine in (Engine.svi, Engine.cavi):
        fail(f"--chains is for gibbs and nuts: {engine} draws from one fitted distribution")
    if engine is Engine.cavi and prior is not Prior.conjugate:
        fail(f"--engine cavi needs --prior conjugate: for {prior} use gibbs, nuts or svi")
    if model is not Model.kmeans and len(rows) < 2:
        fail(f"{data} has one row: a mixture needs at least two")
    common = {"standardize": standardize, "random_state": seed}
    if model is Model.bayes:
        estimator = posterior(clusters, covariance, engine, prior, draws, chains, common)
    else:
        estimator = make(model, clusters, covariance, uncertainty, draws, common)
    drawn = model is Model.bayes or uncertainty is not None
    with said() as warned, progress("sampling" if drawn else "fitting") as tick:
        estimator._progress = tick if drawn else None
        attempt(lambda: estimator.fit(rows))
    with progress("scoring") as tick:
        table = estimator.clustering_.scorecard(rows, level, progress=tick)
    kept = [c for c in frame.columns if c not in table.columns]
    write_both(scores, frame[kept].join(table), saved, estimator, out, index=not plain(frame.index))
    show(estimator, rows, table, level, doubtful, left, warned)
    typer.echo(f"wrote {scores} and {saved}")


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model saved by fit.")],
    new: Annotated[Path, typer.Argument(help="Rows to score: a .csv or .parquet file.")],
    out: Annotated[Path, typer.Option(help="Table to write: .csv or .parquet.")],
    level: Annotated[float, typer.Option(help="Mass of the intervals, in (0, 1).")] = 0.9,
    to: Annotated[
        int | None, typer.Option(help="Measure margins to this cluster, not the runner-up.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier table.")] = False,
) -> None:
    """Score the rows of NEW with a saved MODEL, without refitting."""
    if out.suffix.lower() not in READERS:
        fail(f"--out {out}: write to a file that ends in .csv or .parquet")
    if out.exists() and not force:
        fail(f"{out} exists already: choose another --out, or pass --force to overwrite it")
    if not out.parent.is_dir():
        fail(f"--out {out}: there is no directory {out.parent}; create it first")
    frame = read(new)
    compile_cache()
    from bayesclust.posterior.store import load

    clustering = attempt(lambda: load(model))
    missing = [c for c in clustering.features if c not in frame.columns]
    if missing and len(missing) == len(clustering.features):
        fail(f"{new} lacks all columns of the model, {listed(missing)}: check the header")
    if missing:
        fail(f"{new} lacks the columns {listed(missing)} that the model was fitted to")
    rows = finite(numeric(frame[clustering.features], new), new)
    with progress("scoring") as tick:
        table = attempt(lambda: clustering.scorecard(rows, level, to=to, progress=tick))
    kept = [c for c in frame.columns if c not in table.columns]
    whole(out, lambda path: dump(frame[kept].join(table), path, out.suffix, not plain(frame.index)))
    typer.echo(f"wrote {counted(len(table), 'row')} to {out}")


# -- in ------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    """End with exit code 2 and one line."""
    typer.echo(f"bayesclust: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(2)


def attempt(call: Callable[[], Any]) -> Any:
    """Run a call whose ValueErrors speak to the user."""
    try:
        return call()
    except (ValueError, TypeError, FileNotFoundError, PermissionError) as error:
        fail(str(error))


def listed(names: list[str]) -> str:
    """Names for a sentence, cut where they are many."""
    return ", ".join(map(str, names[:8])) + (" .." if len(names) > 8 else "")


def counted(n: int, noun: str) -> str:
    """A number and its noun, in the plural where it is due."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def read(path: Path) -> Any:
    """Read a table by its suffix."""
    import pandas as pd

    if path.suffix.lower() not in READERS:
        fail(f"{path}: cannot read files of type '{path.suffix}'; give a .csv or .parquet file")
    if not path.is_file():
        fail(f"{path}: there is no such file")
    try:
        read = pd.read_csv if path.suffix.lower() == ".csv" else pd.read_parquet
        frame = read(path)
    except ImportError:
        fail(f"{path}: reading Parquet needs pyarrow: pip install pyarrow")
    except Exception as error:
        fail(f"{path} cannot be read as {path.suffix.lower()[1:]}: {error}")
    if not len(frame):
        fail(f"{path} holds no rows")
    frame.columns = [str(c) for c in frame.columns]
    return frame


def choose(frame: Any, columns: str | None, path: Path) -> tuple[list[str], list[str]]:
    """Columns to use, and those left out because they are not numeric."""
    numbers = [c for c in frame.columns if frame[c].dtype.kind in "fiub"]
    if columns is None:
        if not numbers:
            fail(f"{path} has no numeric columns; its columns are {listed(list(frame.columns))}")
        return numbers, [c for c in frame.columns if c not in numbers]
    names = [c.strip() for c in columns.split(",") if c.strip()]
    unknown = [c for c in names if c not in frame.columns]
    if unknown or not names:
        fail(
            f"--columns: no column {listed(unknown) or 'given'}; "
            f"available: {listed(list(frame.columns))}"
        )
    numeric(frame[names], path)
    return list(dict.fromkeys(names)), []


def numeric(rows: Any, path: Path) -> Any:
    """The rows, if all their columns are numbers."""
    text = [c for c in rows.columns if rows[c].dtype.kind not in "fiub"]
    if text:
        fail(f"{path}: column {listed(text)} is not numeric; correct its values or leave it out")
    return rows


def finite(rows: Any, path: Path) -> Any:
    """The rows as floats, if all of them are finite."""
    import numpy as np

    values = rows.to_numpy(float)
    bad = ~np.isfinite(values)
    if bad.any():
        where = [c for c, b in zip(rows.columns, bad.any(axis=0), strict=True) if b]
        fail(
            f"{path}: {counted(int(bad.any(axis=1).sum()), 'row')} with missing or infinite "
            f"values in {listed(where)}; drop or impute them"
        )
    return rows.astype(float)


def plain(index: Any) -> bool:
    """Whether an index only counts rows."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex)


def compile_cache() -> None:
    """Keep compiled programs between runs; commands start often, libraries do not."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(home) / "bayesclust" / "jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def make(
    model: Model,
    k: int,
    covariance: Covariance,
    uncertainty: Uncertainty | None,
    draws: int | None,
    common: dict[str, Any],
) -> Any:
    """The point estimator that the options describe."""
    compile_cache()
    from bayesclust.estimators import GaussianMixture, KMeans

    settings: dict[str, Any] = {
        **common,
        "uncertainty": None if uncertainty is None else uncertainty.value,
        "num_draws": draws or 200,
    }
    if model is Model.kmeans:
        return KMeans(k, **settings)
    return GaussianMixture(k, covariance_type=covariance.value, n_init=10, **settings)


def posterior(
    k: int,
    covariance: Covariance,
    engine: Engine,
    prior: Prior,
    draws: int | None,
    chains: int | None,
    common: dict[str, Any],
) -> Any:
    """The Bayesian mixture that the options describe."""
    compile_cache()
    from bayesclust import engines
    from bayesclust.estimators import BayesianMixture

    settings: dict[str, Any] = {"num_draws": draws or 1000}
    if chains is not None:
        settings["num_chains"] = chains
    return BayesianMixture(
        k,
        family=covariance.value,
        prior=prior.value,
        engine=getattr(engines, "Gibbs" if engine is Engine.gibbs else engine.upper())(**settings),
        **common,
    )


# -- out -----------------------------------------------------------------------------------------


def whole(path: Path, write: Callable[[str], None]) -> None:
    """Write a file that appears whole or not at all."""
    try:
        handle, part = tempfile.mkstemp(suffix=".part", dir=path.parent)
    except OSError as error:
        fail(f"cannot write to {path.parent}: {error.strerror}")
    os.close(handle)
    try:
        write(part)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")
    finally:
        Path(part).unlink(missing_ok=True)


def dump(table: Any, path: str, suffix: str, index: bool) -> None:
    """Write a table in the format of a suffix."""
    if suffix.lower() == ".csv":
        table.to_csv(path, index=index)
    else:
        table.to_parquet(path, index=index)


def write_both(
    scores: Path, table: Any, saved: Path, estimator: Any, out: Path, *, index: bool
) -> None:
    """Write scores and model, both or neither; earlier ones stay where that fails."""
    fresh = not out.exists()
    try:
        out.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as part:
            ready = Path(part) / scores.name, Path(part) / saved.name
            dump(table, str(ready[0]), scores.suffix, index)
            estimator.save(ready[1])
            earlier = Path(part) / "earlier"
            if scores.exists():
                os.replace(scores, earlier)
            try:
                os.replace(ready[0], scores)
                os.replace(ready[1], saved)
            except BaseException:
                scores.unlink(missing_ok=True)
                if earlier.exists():
                    os.replace(earlier, scores)
                raise
    except BaseException as error:
        if fresh:
            with contextlib.suppress(OSError):
                out.rmdir()
        if isinstance(error, OSError):
            fail(f"cannot write to {out}: {error.strerror or error}")
        raise


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """Collect warnings as lines."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield lines
    lines.extend(dict.fromkeys(" ".join(str(w.message).split()) for w in caught))


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal's stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(
    estimator: Any,
    rows: Any,
    table: Any,
    level: float,
    doubtful: int,
    left: list[str],
    warned: list[str],
) -> None:
    """Print clusters, doubtful rows, and what is doubtful about the fit."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=False)
    summary = estimator.summary()
    features = list(rows.columns)
    if left:
        console.print(f"left out, not numeric: {listed(left)}")
    grid = Table(
        title=f"{counted(len(summary), 'cluster')} of {counted(len(rows), 'row')}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("cluster", "size", "weight", "membership", *features):
        grid.add_column(name, justify="right")
    for k, line in summary.iterrows():
        centres = [
            f"{line[f]:.4g}" + (f" ± {line[f'se({f})']:.2g}" if f"se({f})" in line else "")
            for f in features
        ]
        grid.add_row(
            str(k),
            f"{line['size']:.0f}",
            f"{line['weight']:.3f}",
            f"{line['probability']:.3f}",
            *centres,
        )
    console.print(grid)
    if doubtful:
        show_doubtful(console, rows, table, level, doubtful)
    if estimator.clustering_.sampled:
        found = estimator.clustering_.diagnostics()
        console.print(
            f"chains: R-hat at most {found['r_hat'].max():.3f}, at least "
            f"{found[['ess_bulk', 'ess_tail']].min(axis=None):.0f} effective draws"
        )
    for line in dict.fromkeys([*warned, *estimator.diagnose()]):
        console.print(f"note: {line}", soft_wrap=True)


def show_doubtful(console: Any, rows: Any, table: Any, level: float, count: int) -> None:
    """Print the rows whose membership is least sure."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    worst = table.nsmallest(count, "probability")
    drawn = bool(table["lower"].notna().any())
    grid = Table(
        title=f"the most doubtful rows{f', {level:.0%} intervals' if drawn else ''}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    extra = ["interval", "doubt"] if drawn else []
    for name in ("row", *rows.columns, "cluster", "member", *extra, "tail"):
        grid.add_column(name, justify="right", no_wrap=True)
    for name, line in worst.iterrows():
        cells = [str(name), *(f"{v:.4g}" for v in rows.loc[name].to_numpy().ravel())]
        cells += [f"{line['cluster']:.0f}", f"{line['probability']:.3f}"]
        if drawn:
            ignorance = line["entropy_ignorance"] > line["entropy_overlap"]
            cells += [
                f"{line['lower']:.2f}-{line['upper']:.2f}",
                "ignorance" if ignorance else "overlap",
            ]
        grid.add_row(*cells, f"{line['tail_probability']:.3f}")
    console.print(grid)


def main() -> None:
    """Entry point; Ctrl-C ends with exit code 130 and one line."""
    try:
        app()
    except SystemExit as end:
        if end.code == 130:
            typer.echo("bayesclust: interrupted; nothing was written", err=True)
        raise


if __name__ == "__main__":
    main()

"""The command line: ``bayesclust fit`` and ``bayesclust score``.

Bad input ends with exit code 2 and one line that says what to do; outputs appear whole or not at
all, and nothing is overwritten without ``--force``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayesclust.cli.model import (
    Covariance,
    Engine,
    Model,
    Prior,
    Uncertainty,
    compile_cache,
    make,
    posterior,
)
from bayesclust.cli.read import READERS, choose, finite, numeric, plain, read
from bayesclust.cli.refuse import attempt, counted, fail, listed
from bayesclust.cli.show import progress, said, show
from bayesclust.cli.write import check_free, encoded, write

app = typer.Typer(
    help="Clustering that says how sure it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
        check_free(path, force)
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
    from bayesclust.posterior.store import to_bytes

    with said() as warned, progress("sampling" if drawn else "fitting") as tick:
        estimator._progress = tick if drawn else None
        attempt(lambda: estimator.fit(rows))
    with progress("scoring") as tick:
        table = estimator.clustering_.scorecard(rows, level, progress=tick)
    kept = [c for c in frame.columns if c not in table.columns]
    joined = encoded(frame[kept].join(table), scores.suffix, index=not plain(frame.index))
    write({scores: joined, saved: to_bytes(estimator.clustering_)}, force=force)
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
    check_free(out, force)
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
    joined = encoded(frame[kept].join(table), out.suffix, index=not plain(frame.index))
    write({out: joined}, force=force)
    typer.echo(f"wrote {counted(len(table), 'row')} to {out}")


def main() -> None:
    """Entry point; Ctrl-C ends with exit code 130 and one line."""
    try:
        app()
    except SystemExit as end:
        if end.code == 130:
            typer.echo("bayesclust: interrupted; nothing was written", err=True)
        raise

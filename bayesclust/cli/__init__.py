"""The command line: ``bayesclust fit`` and ``bayesclust score``.

Bad input ends with exit code 2 and one line that says what to do; outputs appear whole or not at
all, and nothing is overwritten without ``--force``.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesclust._version import __version__
from bayesclust.cli.columns import choose, features
from bayesclust.cli.model import (
    Choice,
    Covariance,
    Engine,
    Model,
    Prior,
    Uncertainty,
    compile_cache,
)
from bayesclust.cli.read import KINDS, Form, kind, read
from bayesclust.cli.refuse import attempt, fail
from bayesclust.cli.scores import Scores
from bayesclust.cli.show import (
    ignore_cache_warnings,
    note,
    progress,
    said,
    show,
    unlike,
    unlike_said,
)
from bayesclust.cli.visible import counted, listed, visible
from bayesclust.cli.write import check_free, write

LEVEL = 0.9
"""Mass of the intervals."""

SEEDS = 2**32 - 1
"""The largest seed."""

app = typer.Typer(
    help="Clustering that says how sure it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Sep = Annotated[
    str | None,
    typer.Option(help="What separates columns: a character, tab or space; default: found out."),
]
Decimal = Annotated[
    str | None, typer.Option(help="Decimal mark, . or , (the other one groups digits).")
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of the text, e.g. latin-1; default: UTF-8, or its BOM.")
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header", help="The first line holds names, or not: columns are x0, x1, .."
    ),
]
SafeCsv = Annotated[
    bool,
    typer.Option("--safe-csv", help="Quote text that begins with = + - @, as spreadsheets run it."),
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bayesclust {__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Clustering that says how sure it is."""


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help=f"Rows to cluster: {KINDS}.")],
    clusters: Annotated[int, typer.Option("--clusters", "-k", help="Number of clusters.")],
    out: Annotated[
        Path,
        typer.Option(help="Directory, made if absent, for the model and scores in DATA's format."),
    ],
    model: Annotated[
        Model,
        typer.Option(
            help="k-means, or a Gaussian mixture: its likelihood's peak, or its posterior."
        ),
    ] = Model.gmm,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns to use, comma-separated; default: all numbers but constants, row numbers "
            "and identifiers."
        ),
    ] = None,
    identifier: Annotated[
        str | None,
        typer.Option("--id", "--index-col", help="Column (name, or position from 0) of row names."),
    ] = None,
    sep: Sep = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    header: Header = None,
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
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Steps of each chain before its draws (500).")
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="For bayes (gibbs).")] = None,
    prior: Annotated[Prior | None, typer.Option(help="For bayes (conjugate).")] = None,
    covariance: Annotated[Covariance | None, typer.Option(help="For gmm and bayes (full).")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Kinds of starts. kmeans: k-means++ or random. gmm: kmeans, k-means++, "
            "random_from_data, random, or several with commas between."
        ),
    ] = None,
    starts: Annotated[
        int | None, typer.Option(min=1, help="Starts, the best is kept (10; 1 for big kmeans).")
    ] = None,
    max_iter: Annotated[
        int | None, typer.Option(min=1, help="Most steps of a fit; not for gibbs and nuts.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help=f"Mass of the intervals, in (0, 1) ({LEVEL}).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEEDS, help="Same seed, same answer.")] = 0,
    doubtful: Annotated[int, typer.Option(min=0, help="Doubtful rows to print.")] = 5,
    keep_rows: Annotated[
        bool, typer.Option("--keep-rows", help="Keep the rows of DATA in the model file, too.")
    ] = False,
    safe_csv: SafeCsv = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier output.")] = False,
) -> None:
    """Cluster the rows of DATA; write a scored table and a saved model, print what was found."""
    choice = Choice(
        model,
        clusters,
        standardize,
        seed,
        covariance=covariance,
        engine=engine,
        prior=prior,
        uncertainty=uncertainty,
        draws=draws,
        chains=chains,
        warmup=warmup,
        init=init,
        starts=starts,
        max_iter=max_iter,
        level=level,
    )
    choice.refuse_unused()
    scores, saved = out / f"scores{''.join(kind(data))}", out / "model.nc"
    _refuse_unsafe(safe_csv, scores)
    for path in (scores, saved):
        if kind(data)[0]:
            check_free(path, force)
    if not out.parent.is_dir():
        fail(f"--out {out}: there is no directory {out.parent}; create it first")
    if out.exists() and not out.is_dir():
        fail(f"--out {out} is a file: give a directory")
    sheet = read(data, Form(sep, decimal, encoding, header))
    from bayesclust.posterior.scorecard import COLUMNS

    chosen = choose(sheet, columns, identifier, set(COLUMNS))
    rows = chosen.rows
    # For a posterior the number of clusters is a ceiling.
    most = len(rows) if model is not Model.bayes else clusters
    if clusters < 1 or clusters > most:
        fail(f"-k {clusters}: give a number of clusters from 1 to {len(rows)}, the number of rows")
    if model is not Model.kmeans and len(rows) < 2:
        fail(f"{data} has one row: a mixture needs at least two")
    estimator = choice.estimator()
    from bayesclust.posterior.store import to_bytes

    with said() as warned, progress("sampling" if choice.drawn else "fitting") as tick:
        estimator._progress = tick if choice.drawn else None
        attempt(lambda: estimator.fit(rows))
    mass = LEVEL if level is None else level
    with progress("scoring") as tick:
        table = _score(estimator.clustering_, rows, mass, None, tick)
    written = Scores(sheet, chosen.decimal, table, scores.name, safe_csv)
    model_file = attempt(lambda: to_bytes(estimator.clustering_, rows=keep_rows))
    write({scores: written.data(), saved: model_file}, force=force)
    chosen.said += written.said()
    show(estimator, chosen, table, mass, doubtful, warned)
    kept = "the rows of the data too" if keep_rows else "no rows of the data"
    note(f"wrote {visible(scores)} and {visible(saved)} (which holds the fit and {kept})")


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model saved by fit.")],
    new: Annotated[Path, typer.Argument(help=f"Rows to score: {KINDS}.")],
    out: Annotated[Path, typer.Option(help=f"Table to write: {KINDS}.")],
    sep: Sep = None,
    decimal: Decimal = None,
    encoding: Encoding = None,
    header: Header = None,
    level: Annotated[
        float | None, typer.Option(help=f"Mass of the intervals, in (0, 1) ({LEVEL}).")
    ] = None,
    to: Annotated[
        int | None, typer.Option(help="Measure margins to this cluster, not the runner-up.")
    ] = None,
    safe_csv: SafeCsv = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier table.")] = False,
) -> None:
    """Score the rows of NEW with a saved MODEL, without refitting."""
    if not kind(out)[0]:
        fail(f"--out {out}: write to {KINDS}")
    _refuse_unsafe(safe_csv, out)
    check_free(out, force)
    if not out.parent.is_dir():
        fail(f"--out {out}: there is no directory {out.parent}; create it first")
    sheet = read(new, Form(sep, decimal, encoding, header))
    compile_cache()
    from bayesclust.posterior.store import load

    clustering = attempt(lambda: load(model))
    if level is not None and clustering.draws is None:
        fail(f"--level: {model} holds no draws, so there are no intervals; leave it out")
    missing = [c for c in clustering.features if c not in sheet.frame.columns]
    if missing:
        which = "all columns of the model" if missing == clustering.features else "the columns"
        fail(
            f"{new} lacks {which}, {listed(missing)}; it has {listed(sheet.frame.columns)}: "
            "check the header, --sep and --no-header"
        )
    chosen = features(sheet, clustering.features)
    mass = LEVEL if level is None else level
    with progress("scoring") as tick:
        table = _score(clustering, chosen.rows, mass, to, tick)
    written = Scores(sheet, chosen.decimal, table, out.name, safe_csv)
    write({out: written.data()}, force=force)
    for line in [*chosen.said, *written.said()]:
        note(line)
    strange = unlike(table)
    if len(strange):
        note(f"{unlike_said(len(strange))}, see outlier")
    note(f"wrote {counted(len(table), 'row')} to {visible(out)}")


def _refuse_unsafe(safe: bool, path: Path) -> None:
    if safe and kind(path)[0] == ".parquet":
        fail("--safe-csv is for text files: Parquet cells are not run")


def _score(clustering: Any, rows: Any, level: float, to: int | None, tick: Any) -> Any:
    """Scores of the rows, without minus zeros."""
    table = attempt(lambda: clustering.scorecard(rows, level, to=to, progress=tick))
    real = table.select_dtypes("floating").columns
    table[real] = table[real] + 0.0
    return table


def main() -> None:
    """Entry point; Ctrl-C ends with exit code 130 and one line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    ignore_cache_warnings()
    try:
        app()
    except SystemExit as end:
        if end.code == 130:
            typer.echo("bayesclust: interrupted; nothing was written", err=True)
        raise

"""What a terminal shows: clusters, doubtful rows, notes, a progress bar."""

from __future__ import annotations

import contextlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import typer

from bayesclust.cli.columns import Chosen
from bayesclust.cli.grid import Column, figure, fits, grid, plain
from bayesclust.cli.notes import in_options
from bayesclust.cli.visible import counted, visible


def ignore_cache_warnings() -> None:
    """Keep quiet about compiled programs that could not be kept: the answer is the same."""
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """Collect warnings as lines, in the words of the options."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        ignore_cache_warnings()
        yield lines
    lines.extend(dict.fromkeys(in_options(" ".join(str(w.message).split())) for w in caught))


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


def note(line: str) -> None:
    """Print a line, nothing in it obeyed or cut."""
    typer.echo(visible(" ".join(line.split())))


def show(
    estimator: Any,
    chosen: Chosen,
    table: Any,
    level: float,
    doubtful: int,
    warned: Sequence[str],
) -> None:
    """Print clusters, doubtful rows, and what is doubtful about the fit.

    Parameters
    ----------
    estimator : fitted estimator
    chosen : Chosen
        The rows it was fitted to.
    table : pandas.DataFrame
        Their scores.
    level : float
        Mass of the intervals.
    doubtful : int
        Rows to print.
    warned : sequence of str
        Warnings of the fit.
    """
    width = shutil.get_terminal_size().columns
    clustering = estimator.clustering_
    n = len(table)
    for line in chosen.said:
        note(line)
    typer.echo(f"{counted(clustering.n_clusters, 'cluster')} of {counted(n, 'row')}\n")
    show_clusters(estimator, table, width)
    if doubtful:
        show_doubtful(chosen, table, level, min(doubtful, n), width)
        show_unlike(chosen, table, doubtful, width)
    if clustering.sampled:
        note(mixing(clustering.diagnostics(), clustering.draws.shape[0]))
    for line in starts(estimator):
        note(line)
    for line in dict.fromkeys([*warned, *map(in_options, estimator.diagnose())]):
        note(f"note: {line}")


def show_clusters(estimator: Any, table: Any, width: int) -> None:
    """Print a line per cluster: size, share, how sure its members are, its centre."""
    clustering = estimator.clustering_
    k, features = clustering.n_clusters, clustering.features
    hard = clustering.hard
    means = np.asarray(estimator.cluster_centers_ if hard else estimator.means_, float)
    drawn = clustering.draws is not None
    errors = np.asarray(clustering.standard_errors()["mean"], float) if drawn else None
    label = table["cluster"].to_numpy()
    size = np.bincount(label, minlength=k)
    sure = np.bincount(label, weights=table["probability"], minlength=k)
    share = size / len(label) if hard else np.asarray(estimator.weights_, float)
    ours = [
        ("cluster", [str(i) for i in range(k)]),
        ("size", [f"{s:,}" for s in size]),
        ("share" if hard else "weight", [f"{s:.3f}" for s in share]),
        ("membership", [f"{p / s:.3f}" if s else "none" for p, s in zip(sure, size, strict=True)]),
    ]

    def centre(i: int, j: int) -> str:
        return figure(means[i, j], None if errors is None else errors[i, j])

    taken = {name for name, _ in ours}
    names = [f"mean({f})" if f in taken else f for f in features]
    centres = [(f, [centre(i, j) for i in range(k)]) for j, f in enumerate(names)]
    if fits([*ours, *centres], width):
        _print(grid([*ours, *centres], width))
        return
    _print(grid(ours, width))
    if fits([ours[0], *centres], width):
        _print(grid([ours[0], *centres], width))
        return
    lines = [(f"cluster {i}", [centre(i, j) for j in range(len(names))]) for i in range(k)]
    _print(grid([("feature", features), *lines], width))


def show_doubtful(chosen: Chosen, table: Any, level: float, count: int, width: int) -> None:
    """Print the rows whose membership is least sure."""
    worst = np.argsort(table["probability"].to_numpy(), kind="stable")[:count]
    drawn = bool(table["lower"].notna().any())
    lines = table.iloc[worst]
    columns = [
        ("cluster", [str(c) for c in lines["cluster"]]),
        ("member", [f"{p:.3f}" for p in lines["probability"]]),
    ]
    if drawn:
        ignorance = lines["entropy_ignorance"] > lines["entropy_overlap"]
        pairs = zip(lines["lower"], lines["upper"], strict=True)
        columns.append(("interval", [f"{a:.2f}-{b:.2f}" for a, b in pairs]))
        columns.append(("doubt", ["ignorance" if i else "overlap" for i in ignorance]))
    columns.append(("tail", [f"{t:.3f}" for t in lines["tail_probability"]]))
    what = f", {100 * level:g}% intervals" if drawn else ""
    counting = "" if chosen.labels else " (rows are counted from 0)"
    typer.echo(f"the most doubtful rows{what}{counting}\n")
    show_rows(chosen, worst, columns, width)


def show_unlike(chosen: Chosen, table: Any, count: int, width: int) -> None:
    """Print the rows that fit no cluster, whatever their membership."""
    found = unlike(table)
    if not len(found):
        return
    lines = table.iloc[found[:count]]
    few = f", the {count} farthest out" if len(found) > count else ""
    typer.echo(f"{unlike_said(len(found))}{few}\n")
    columns = [
        ("cluster", [str(c) for c in lines["cluster"]]),
        ("tail", [plain(t, 2) for t in lines["tail_probability"]]),
    ]
    show_rows(chosen, found[:count], columns, width)


def unlike(table: Any) -> np.ndarray:
    """Positions of the rows that fit no cluster, the farthest out first."""
    tail = table["tail_probability"].to_numpy()
    found = np.flatnonzero(table["outlier"])
    return found[np.argsort(tail[found], kind="stable")]


def unlike_said(count: int) -> str:
    """Say how many rows fit no cluster."""
    return f"{counted(count, 'row')} {'is' if count == 1 else 'are'} unlike any cluster"


def show_rows(chosen: Chosen, which: np.ndarray, answers: Sequence[Column], width: int) -> None:
    """Print rows by their names: their values, if they have room, and the answers."""
    name, labels = chosen.labels or ("row", None)
    taken = {name, *(n for n, _ in answers)}
    key = (name, [str(i) if labels is None else str(labels[i]) for i in which])
    values = [
        (f"{f} (input)" if f in taken else f, [plain(v, 6) for v in chosen.rows[f].iloc[which]])
        for f in chosen.rows.columns
    ]
    if fits([key, *values, *answers], width):
        _print(grid([key, *values, *answers], width))
        return
    _print(grid([key, *answers], width))
    if fits([key, *values], width):
        _print(grid([key, *values], width))


def mixing(found: Any, chains: int) -> str:
    """Say how well chains have mixed, from the table of `Clustering.diagnostics`."""
    ess = found[["ess_bulk", "ess_tail"]].to_numpy()
    if not np.isfinite(ess).any():
        return "chains: nothing in them moved"
    effective = f"at least {np.nanmin(ess):,.0f} effective draws"
    if chains == 1:
        return f"one chain, {effective}; --chains 4 would say whether chains agree"
    return f"chains: R-hat at most {found['r_hat'].max():.3f}, {effective}"


def starts(estimator: Any) -> list[str]:
    """Say how many starts reached the best objective, where there were several."""
    tried = len(getattr(estimator, "objectives_", ()))
    if tried < 2:
        return []
    return [f"starts: {estimator.n_best_starts_} of {tried} reached the best objective"]


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)
    typer.echo("")

"""What a terminal shows: clusters, doubtful rows, notes, a progress bar."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from bayesclust.cli.refuse import counted, listed


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
    share = "share" if "share" in summary else "weight"
    for name in ("cluster", "size", share, "membership", *features):
        grid.add_column(name, justify="right")
    for k, line in summary.iterrows():
        centres = [
            f"{line[f'mean({f})']:.4g}"
            + (f" ± {line[f'se({f})']:.2g}" if f"se({f})" in line else "")
            for f in features
        ]
        grid.add_row(
            str(k),
            f"{line['size']:.0f}",
            f"{line[share]:.3f}",
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

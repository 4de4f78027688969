"""Outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bayesclust.cli.refuse import fail


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
    """Write a table of scores."""
    Path(path).write_bytes(table.data())


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

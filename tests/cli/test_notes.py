"""Sentences of the library, in the words of the command line."""

from __future__ import annotations

import pytest

from bayesclust.cli.notes import in_options

SENTENCES = {
    "pass standardize=True, or put the columns": "pass --standardize, or put the columns",
    "raise num_warmup and num_draws.": "raise --warmup and --draws.",
    "moving after max_iter=300 steps: raise max_iter or tol": (
        "moving after --max-iter 300 steps: raise --max-iter"
    ),
    "changes by more than tol=1e-05. Raise max_iter or tol, use more starts (n_init)": (
        "changes by more than tol=1e-05. Raise --max-iter, use more starts (--starts)"
    ),
    "fit with uncertainty='bootstrap'": "fit with --uncertainty bootstrap",
    "n_samples=3 should be >= n_components=4": "n_samples=3 should be >= -k 4",
    "level=0.9 and to=9 is no cluster": "--level 0.9 and --to 9 is no cluster",
    "use n_clusters=2 or fewer": "use -k 2 or fewer",
    "held up by reg_covar: or raise reg_covar.": (
        "held up by reg_covar (in Python): or raise reg_covar (in Python)."
    ),
    "let it run longer (max_iter of CAVI, num_steps of SVI)": "let it run longer (--max-iter)",
    "The bound had not converged: raise max_iter (CAVI) or num_steps (SVI).": (
        "The bound had not converged: raise --max-iter."
    ),
    # Words of English and options stay as they are.
    "go to another level of uncertainty, init it": "go to another level of uncertainty, init it",
    "raise --max-iter or the --level": "raise --max-iter or the --level",
    "my_num_draws and num_draws_2 are columns": "my_num_draws and num_draws_2 are columns",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_options_for_parameters(sentence: str) -> None:
    assert in_options(sentence) == SENTENCES[sentence]
    assert in_options(SENTENCES[sentence]) == SENTENCES[sentence]

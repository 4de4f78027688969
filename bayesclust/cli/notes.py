"""What the library says, in the words of the command line."""

from __future__ import annotations

import re

PHRASES = {
    "max_iter (CAVI) or num_steps (SVI)": "--max-iter",
    "max_iter of CAVI, num_steps of SVI": "--max-iter",
    "standardize=True": "--standardize",
    "max_iter or tol": "--max-iter",
    "fit a BayesianMixture": "give --model bayes",
}
"""Parts of sentences that no exchange of single words gets right; replaced first."""

OPTIONS = {
    "n_clusters": "-k",
    "n_components": "-k",
    "n_init": "--starts",
    "init_params": "--init",
    "init": "--init",
    "max_iter": "--max-iter",
    "num_steps": "--max-iter",
    "num_draws": "--draws",
    "num_warmup": "--warmup",
    "num_chains": "--chains",
    "covariance_type": "--covariance",
    "uncertainty": "--uncertainty",
    "standardize": "--standardize",
    "random_state": "--seed",
    "level": "--level",
    "to": "--to",
}
"""Options by the parameters that they set."""

ENGLISH = {"init", "level", "to", "uncertainty", "standardize"}
"""Parameters whose names are words: they count only where a value follows."""

PYTHON = ("tol", "reg_covar", "target_accept_prob", "sample_weight", "weights_init", "means_init")
"""Parameters that no option sets."""

VALUE = r"""=('[^']*'|"[^"]*"|[\w+-]+(?:\.\w+)?)"""


def in_options(sentence: str) -> str:
    """Name the options that set the parameters a sentence names.

    Parameters
    ----------
    sentence : str
        A warning, a doubt or an error of the library, e.g. "raise num_draws".
    """
    for phrase, option in PHRASES.items():
        sentence = sentence.replace(phrase, option)
    for name, option in OPTIONS.items():
        sentence = re.sub(
            rf"(?<![\w-]){name}{VALUE}", lambda m, o=option: f"{o} {m[1].strip('\'"')}", sentence
        )
        if name not in ENGLISH:
            sentence = re.sub(rf"(?<![\w-]){name}\b(?!=)", option, sentence)
    for name in PYTHON:
        sentence = re.sub(rf"(?<![\w-]){name}\b(?!=| \(in Python)", f"{name} (in Python)", sentence)
    return sentence

"""Data to try things on: generators that keep their truth, and three small classics.

Importing this package loads NumPy and nothing heavier; pandas and SciPy are loaded by the
functions that need them.
"""

from bayesclust.datasets.classic import load_galaxies, load_iris, load_old_faithful
from bayesclust.datasets.synthetic import (
    Sample,
    make_anisotropic,
    make_blobs,
    make_gaussian_board,
    make_student_t,
    make_uniform_board,
)

__all__ = [
    "Sample",
    "load_galaxies",
    "load_iris",
    "load_old_faithful",
    "make_anisotropic",
    "make_blobs",
    "make_gaussian_board",
    "make_student_t",
    "make_uniform_board",
]

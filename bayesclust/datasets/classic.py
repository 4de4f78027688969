"""Three small public data sets of the clustering literature, kept inside the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_galaxies", "load_iris", "load_old_faithful"]


def load_old_faithful() -> pd.DataFrame:
    """Eruptions of the Old Faithful geyser, Yellowstone: two clusters in the plane.

    Returns
    -------
    pandas.DataFrame
        Shape (272, 2), one row for each eruption, float columns `eruptions` (its length,
        minutes) and `waiting` (the time to the next one, minutes).

    Notes
    -----
    The table in common use is Haerdle's [2]_; [1]_ describes a longer continuous record of the
    same geyser. Both columns are rounded, so rows may repeat.

    References
    ----------
    .. [1] Azzalini, A. and Bowman, A. W. (1990). A look at some data on the Old Faithful
       geyser. Applied Statistics 39(3), 357-365.
    .. [2] Haerdle, W. (1991). Smoothing Techniques with Implementation in S. Springer.

    Examples
    --------
    >>> from bayesclust.datasets import load_old_faithful
    >>> load_old_faithful().shape
    (272, 2)
    """
    return _read("old_faithful.csv").astype(float)


def load_galaxies() -> pd.DataFrame:
    """Velocities of 82 galaxies in the Corona Borealis region, of how many clusters is disputed.

    Returns
    -------
    pandas.DataFrame
        Shape (82, 1), ascending float column `velocity`, in 1000 km/s.

    Notes
    -----
    The 78th value is 26.960. Some copies of the data, R's ``MASS::galaxies`` among them, have
    it as 26.690, a typing error. A further measurement of [2]_, 5.607, is left out here as it
    is in [1]_.

    References
    ----------
    .. [1] Roeder, K. (1990). Density estimation with confidence sets exemplified by
       superclusters and voids in the galaxies. Journal of the American Statistical Association
       85(411), 617-624.
    .. [2] Postman, M., Huchra, J. P. and Geller, M. J. (1986). Probes of large-scale structure
       in the Corona Borealis region. The Astronomical Journal 92, 1238-1247.

    Examples
    --------
    >>> from bayesclust.datasets import load_galaxies
    >>> float(load_galaxies()["velocity"].iloc[77])
    26.96
    """
    return _read("galaxies.csv")


@overload
def load_iris(*, return_species: Literal[False] = ...) -> pd.DataFrame: ...
@overload
def load_iris(*, return_species: Literal[True]) -> tuple[pd.DataFrame, pd.Series]: ...
@overload
def load_iris(*, return_species: bool) -> pd.DataFrame | tuple[pd.DataFrame, pd.Series]: ...
def load_iris(*, return_species: bool = False) -> pd.DataFrame | tuple[pd.DataFrame, pd.Series]:
    """Measurements of 150 iris flowers of three species.

    Parameters
    ----------
    return_species : bool, default False
        Also return the species, which a clustering should not see.

    Returns
    -------
    measurements : pandas.DataFrame
        Shape (150, 4), float columns `sepal_length`, `sepal_width`, `petal_length` and
        `petal_width`, in centimetres.
    species : pandas.Series
        Shape (150,), name `species`: "setosa", "versicolor" or "virginica", fifty rows each.
        Only with ``return_species=True``.

    Notes
    -----
    The numbers are those printed by Fisher [1]_, as in R and scikit-learn; the copy of the UCI
    repository differs from them in rows 35 and 38.

    References
    ----------
    .. [1] Fisher, R. A. (1936). The use of multiple measurements in taxonomic problems. Annals
       of Eugenics 7(2), 179-188.
    .. [2] Anderson, E. (1935). The irises of the Gaspe Peninsula. Bulletin of the American Iris
       Society 59, 2-5.

    Examples
    --------
    >>> from bayesclust.datasets import load_iris
    >>> measurements, species = load_iris(return_species=True)
    >>> measurements.shape, species.nunique()
    ((150, 4), 3)
    """
    frame = _read("iris.csv")
    species = frame.pop("species")
    return (frame, species) if return_species else frame


def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    with files("bayesclust.datasets").joinpath("data", name).open("rb") as stream:
        return pd.read_csv(stream)

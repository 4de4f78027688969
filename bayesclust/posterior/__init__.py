"""What the draws say: aligned labels, memberships, scorecards, one `DataTree`.

NumPy, xarray and ArviZ begin here; everything below is pure.
"""

from bayesclust.posterior.align import align
from bayesclust.posterior.clustering import Clustering
from bayesclust.posterior.relabel import Alignment, relabel
from bayesclust.posterior.store import load

__all__ = ["Alignment", "Clustering", "align", "load", "relabel"]

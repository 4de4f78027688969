"""What a component is: one family of distributions per kind of data, one file each.

A family is a frozen set of hyperparameters with pure methods; its parameters are a dictionary of
arrays with the components first. Write a new one by subclassing `Family`.
"""

from bayesclust.families.base import Family
from bayesclust.families.diagonal import DiagonalGaussian
from bayesclust.families.full import FullGaussian
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.families.tied import TiedGaussian

__all__ = ["DiagonalGaussian", "Family", "FullGaussian", "SphericalGaussian", "TiedGaussian"]

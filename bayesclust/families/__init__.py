"""What a component is: one family of distributions per kind of data, one file each.

A family is a frozen set of hyperparameters with pure methods; its parameters are a dictionary of
arrays with the components first. Write a new one by subclassing `Family`. Priors of Gaussian
families come beside them: conjugate, or independent with an optional hyperprior on the scale.
"""

from bayesclust.families.base import ConditionalFamily, ConjugateFamily, Family
from bayesclust.families.conjugate import NormalInverseGamma, NormalInverseWishart
from bayesclust.families.diagonal import DiagonalGaussian
from bayesclust.families.full import FullGaussian
from bayesclust.families.independent import IndependentNormalGamma, IndependentNormalWishart
from bayesclust.families.prior import ConjugatePrior, Prior
from bayesclust.families.spherical import SphericalGaussian
from bayesclust.families.tied import TiedGaussian
from bayesclust.hyper import Gamma, Wishart

__all__ = [
    "ConditionalFamily",
    "ConjugateFamily",
    "ConjugatePrior",
    "DiagonalGaussian",
    "Family",
    "FullGaussian",
    "Gamma",
    "IndependentNormalGamma",
    "IndependentNormalWishart",
    "NormalInverseGamma",
    "NormalInverseWishart",
    "Prior",
    "SphericalGaussian",
    "TiedGaussian",
    "Wishart",
]

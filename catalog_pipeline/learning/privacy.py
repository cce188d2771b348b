"""What differential privacy asks of training: the noise of DP-SGD for an epsilon, and back.

DP-SGD (arXiv:1607.00133) takes each record into a step with probability ``q``, cuts its gradient to
a length ``C`` and adds to the sum normal noise of deviation ``sigma C``. ``sigma`` is the noise
multiplier.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln, logsumexp

_ORDERS = np.array([*range(2, 64), *range(64, 513, 16)], dtype=np.float64)
_LARGEST_MULTIPLIER = 1e5
_PRECISION = 1e-3
"""Of a multiplier, as a share of it."""


def epsilon_of(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Epsilon that ``steps`` of DP-SGD keep at ``delta``; infinite without noise.

    Renyi divergence of the sampled Gaussian at whole orders ``a``, arXiv:1908.10530, section 3.3::

        (a - 1) R(a) = log sum_k binom(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 sigma^2))

    times ``steps``, turned into epsilon as in arXiv:2004.00010, Proposition 12, at the best order.
    An upper bound: fractional orders or a numerical accountant give up to some per cent less.

    Args:
        noise_multiplier: ``sigma`` >= 0.
        rate: ``q`` in (0, 1], of a record to be in a step.
        steps: of the optimiser.
        delta: in (0, 1).
    """
    if noise_multiplier <= 0:
        return math.inf
    divergence = steps * np.array([_divergence(a, noise_multiplier, rate) for a in _ORDERS])
    epsilon = (
        divergence + np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    )
    return max(0.0, float(epsilon.min()))


def noise_multiplier_for(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """The least ``sigma`` of :func:`epsilon_of`, to a thousandth; infinite where none is enough."""
    low, high = 0.0, 1.0
    while epsilon_of(high, rate, steps, delta) > epsilon:
        low, high = high, 2 * high
        if high > _LARGEST_MULTIPLIER:
            return math.inf
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        kept = epsilon_of(middle, rate, steps, delta) <= epsilon
        low, high = (low, middle) if kept else (middle, high)
    return high


def _divergence(order: float, sigma: float, rate: float) -> float:
    if rate >= 1:
        return order / (2 * sigma**2)
    k = np.arange(order + 1)
    binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    taken = (order - k) * math.log1p(-rate) + k * math.log(rate)
    return float(logsumexp(binomial + taken + (k**2 - k) / (2 * sigma**2))) / (order - 1)

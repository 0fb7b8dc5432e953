"""Gradients that do no harm: the nearest vector with non-negative products with others."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor


def onto_half_space(vector: Tensor, normal: Tensor) -> Tensor:
    """The vector nearest to `vector` `[P]` whose product with `normal` `[P]` is not negative.

    `g - min(g.r, 0) / (r.r) * r`, and g itself where r is zero. The device is not waited for.

    Reference: Chaudhry et al. 2019 (A-GEM), eq. 11.
    """
    length = torch.dot(normal, normal)
    harm = torch.dot(vector, normal).clamp(max=0)
    return vector - torch.where(length > 0, harm / length, 0) * normal


def onto_cone(vector: Tensor, normals: Tensor, *, margin: float, ridge: float) -> Tensor:
    """`vector` `[P]` itself if its products with `normals` `[K, P]` are not negative, otherwise g + v G.

    G are the normals and v the multipliers of `cone_multipliers`. With margin and ridge 0 that is the nearest vector
    with non-negative products; a margin moves it further to their side. The device is waited for once, for K + K^2
    numbers: whether to project, and the quadratic program, is decided on the host.

    Reference: Lopez-Paz & Ranzato 2017 (GEM), eq. 11.
    """
    with torch.autocast(vector.device.type, enabled=False):
        both = torch.cat([normals @ normals.T, (normals @ vector)[:, None]], 1).cpu().double().numpy()
        gram, products = both[:, :-1], both[:, -1]
        if not (np.isfinite(both).all() and (products < 0).any()):
            return vector
        multipliers = cone_multipliers(gram, products, margin=margin, ridge=ridge)
        return vector + torch.from_numpy(multipliers).to(vector) @ normals


def cone_multipliers(
    gram: NDArray[np.float64], products: NDArray[np.float64], *, margin: float, ridge: float
) -> NDArray[np.float64]:
    """The v that minimises 1/2 v^T (A + ridge I) v + b^T v subject to v >= margin.

    Args:
        gram: A, `[K, K]`, positive semi-definite but for rounding; finite.
        products: b, `[K]`, finite.
        margin: lowest value of each element.
        ridge: added to the diagonal, greater than 0 unless A is well conditioned.

    Returns:
        v, `[K]`. Zeros if the solver does not converge, so that the gradient stays as it is.
    """
    # From the eigenvalues, not a Cholesky factor: rounding of the Gram matrix may leave some below zero.
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    values = values.clip(min=0) + ridge
    # With w = v - margin >= 0 and M^T M = A + ridge I it is: minimise |M w + M^-T (b + (A + ridge I) margin)|^2.
    roots = np.sqrt(values)
    shift = vectors.T @ products / roots + roots * vectors.sum(0) * margin
    try:
        above, _ = nnls(roots[:, None] * vectors.T, -shift, maxiter=100 * len(products))
    except RuntimeError:
        return np.zeros_like(products)
    solution: NDArray[np.float64] = above + margin
    return solution

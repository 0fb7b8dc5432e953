"""Projections of a gradient: the nearest vector whose product with other gradients is at least 0."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor


def onto_half_space(vector: Tensor, normal: Tensor) -> Tensor:
    """The vector nearest to `vector` `[P]` whose product with `normal` `[P]` is at least 0.

    `g - min(g.r, 0) / (r.r) * r`; g itself where r is zero. Everything stays on the device.

    Reference: Chaudhry et al. 2019 (A-GEM), eq. 11.

    Examples:
        >>> import torch
        >>> onto_half_space(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 1.0]))
        tensor([1., 0.])
    """
    length = torch.dot(normal, normal)
    product = torch.dot(vector, normal).clamp(max=0)
    return vector - torch.where(length > 0, product / length, 0) * normal


def onto_cone(vector: Tensor, normals: Tensor, *, margin: float, ridge: float) -> Tensor:
    """`vector` `[P]` itself if its products with all `normals` `[K, P]` are at least 0, otherwise g + v G.

    G are the normals and v the multipliers of `cone_multipliers`. With margin and ridge 0 the result is the nearest
    vector whose products are at least 0; a margin moves it further to their side. The host decides whether to project
    and solves the quadratic program, so it waits for K + K^2 numbers from the device.

    Reference: Lopez-Paz & Ranzato 2017 (GEM), eq. 11.

    Examples:
        >>> import torch
        >>> normals = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> onto_cone(torch.tensor([1.0, -2.0]), normals, margin=0, ridge=0)
        tensor([1., 0.])
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
        gram: A, `[K, K]`, finite, positive semi-definite up to rounding.
        products: b, `[K]`, finite.
        margin: lowest value of each element.
        ridge: added to the diagonal; greater than 0 unless A is well conditioned.

    Returns:
        v, `[K]`. Zeros if the solver does not converge, so that the gradient stays as it is.

    Examples:
        >>> import numpy as np
        >>> cone_multipliers(np.eye(2), np.array([-1.0, 2.0]), margin=0, ridge=0)
        array([1., 0.])
    """
    # Rounding of the Gram matrix may leave eigenvalues below zero, where a Cholesky factor fails.
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

"""Projections against independent solvers and the conditions of optimality."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from synergy.ops import projection
from synergy.ops.projection import cone_multipliers, onto_cone, onto_half_space

Array = NDArray[np.float64]


def vectors(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def program(seed: int, tasks: int, rank: int) -> tuple[Array, Array]:
    """A Gram matrix of `tasks` gradients in `rank` dimensions, and their products with another."""
    normals, vector = vectors(seed, tasks, rank), vectors(seed + 1, rank)
    return (normals @ normals.T).numpy(), (normals @ vector).numpy()


def by_enumeration(matrix: Array, products: Array, margin: float) -> Array:
    """The minimiser by brute force: the best of all choices of elements that are held at the margin."""
    k = len(products)
    candidates = []
    for held in itertools.product([False, True], repeat=k):
        free = [i for i in range(k) if not held[i]]
        fixed = [i for i in range(k) if held[i]]
        v = np.full(k, margin)
        if free:
            rest = products[free] + matrix[np.ix_(free, fixed)].sum(1) * margin
            v[free] = np.linalg.solve(matrix[np.ix_(free, free)], -rest)
        if (v >= margin - 1e-12).all():
            candidates.append((float(v @ matrix @ v / 2 + products @ v), v))
    return min(candidates, key=lambda candidate: candidate[0])[1]


@given(st.integers(0, 10**6))
def test_half_space(seed: int) -> None:
    vector, normal = vectors(seed, 7), vectors(seed + 1, 7)
    projected = onto_half_space(vector, normal)
    if vector @ normal >= 0:
        assert torch.equal(projected, vector)
    else:
        assert abs(projected @ normal) < 1e-12, "the product must be exactly undone"
        torch.testing.assert_close(projected + (vector @ normal) / (normal @ normal) * normal, vector)


def test_half_space_of_nothing_is_everything() -> None:
    vector = vectors(0, 5)
    assert torch.equal(onto_half_space(vector, torch.zeros(5, dtype=torch.float64)), vector)


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([1e-3, 1.0]))
def test_multipliers_are_those_of_an_enumeration(seed: int, tasks: int, margin: float, ridge: float) -> None:
    gram, products = program(seed, tasks, rank=6)
    expected = by_enumeration(gram + ridge * np.eye(tasks), products, margin)
    found = cone_multipliers(gram, products, margin=margin, ridge=ridge)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@given(
    st.integers(0, 10**6),
    st.integers(1, 20),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1e-4, 1.0, 100.0]),
)
def test_multipliers_meet_the_conditions_of_optimality(
    seed: int, tasks: int, rank: int, margin: float, scale: float
) -> None:
    gram, products = program(seed, tasks, rank)
    gram, products = scale**2 * gram, scale**2 * products
    found = cone_multipliers(gram, products, margin=margin, ridge=1e-3)
    slope = (gram + 1e-3 * np.eye(tasks)) @ found + products
    size = 1 + np.abs(gram).max() + np.abs(products).max()
    assert (found >= margin).all()
    assert (slope >= -1e-8 * size).all()
    assert (np.abs(slope * (found - margin)) <= 1e-8 * size * (1 + np.abs(found).max())).all()


@pytest.mark.parametrize("seed", range(5))
def test_cone_is_the_nearest_vector_that_harms_none(seed: int) -> None:
    normals, vector = vectors(seed, 4, 9), vectors(seed + 100, 9)
    vector -= normals.sum(0)  # against some of the normals

    def distance(x: Array) -> Any:
        return ((x - vector.numpy()) ** 2).sum() / 2

    found = minimize(
        distance,
        vector.numpy(),
        jac=lambda x: x - vector.numpy(),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: normals.numpy() @ x, "jac": lambda x: normals.numpy()},
        options={"ftol": 1e-14},
    )
    projected = onto_cone(vector, normals, margin=0, ridge=1e-12)
    np.testing.assert_allclose(projected.numpy(), found.x, atol=1e-6)
    assert (normals @ projected).min() > -1e-9


def test_cone_leaves_alone_what_harms_none() -> None:
    normals = vectors(0, 3, 6).abs()
    vector = vectors(1, 6).abs()
    assert onto_cone(vector, normals, margin=0.5, ridge=1e-3) is vector


def test_a_margin_adds_at_least_so_much_of_each() -> None:
    normals = torch.eye(3, dtype=torch.float64)
    vector = torch.tensor([-1.0, 2.0, 0.0], dtype=torch.float64)
    moved = onto_cone(vector, normals, margin=0.5, ridge=0) - vector
    np.testing.assert_allclose(moved.numpy(), [1.0, 0.5, 0.5])


def test_equal_normals_in_single_precision() -> None:
    """The Gram matrix is nearly singular: rounding makes its smallest eigenvalue negative."""
    normals = (300 * vectors(0, 1, 1000)).float().repeat(6, 1)
    # Differences of about two units in the last place of the Gram matrix: the rounding of any processor outweighs them.
    normals += 1e-3 * vectors(1, 6, 1000).float()
    vector = -normals[0] + vectors(2, 1000).float()
    assert np.linalg.eigvalsh((normals @ normals.T).double().numpy()).min() < -1
    projected = onto_cone(vector, normals, margin=0, ridge=1e-3)
    assert projected.isfinite().all()
    cosines = (normals @ projected) / normals.norm(dim=1) / projected.norm()
    assert cosines.min() > -1e-3


def test_full_precision_under_autocast() -> None:
    normals, vector = vectors(0, 3, 50).float(), vectors(1, 50).float() - vectors(0, 3, 50).float().sum(0)
    expected = onto_half_space(vector, normals[0]), onto_cone(vector, normals, margin=0.5, ridge=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = onto_half_space(vector, normals[0]), onto_cone(vector, normals, margin=0.5, ridge=1e-3)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert not torch.equal(found[0], vector) and not torch.equal(found[1], vector)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_left_to_the_loop(bad: float) -> None:
    normals, vector = vectors(0, 3, 6), vectors(1, 6)
    vector[2] = bad
    assert onto_cone(vector, normals, margin=0.5, ridge=1e-3) is vector


def test_a_solver_that_gives_up_leaves_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("maximum number of iterations reached")

    monkeypatch.setattr(projection, "nnls", give_up)
    normals, vector = vectors(0, 3, 6), -vectors(0, 3, 6)[0]
    assert torch.equal(onto_cone(vector, normals, margin=0.5, ridge=1e-3), vector)

"""Shapes are checked while testing: of every function, in the first of its calls."""

import jaxtyping
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, TypeCheckError
from torch import Tensor

import shape_checks
from latflow.densities.flows.convolution import pointwise
from latflow.theories import Phi4


def wrong():
    """A weight of three dimensions, where two are said."""
    return pointwise(torch.zeros(1, 2, 4), torch.zeros(1, 2, 1))


@pytest.mark.parametrize("number", range(2))
def test_a_wrong_shape_is_told_in_each_test(number):
    for _ in range(shape_checks.MOST):
        with pytest.raises(TypeCheckError, match="weight"):
            wrong()
    with pytest.raises(RuntimeError) as told:  # what PyTorch makes of it
        wrong()
    assert not isinstance(told.value, TypeCheckError)


def test_shapes_of_methods_are_checked_against_each_other():
    @jaxtyping.jaxtyped(typechecker=beartype)
    def same(x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return x + y

    assert len(same(torch.zeros(3), torch.zeros(3))) == 3
    with pytest.raises(TypeCheckError):
        same(torch.zeros(3), torch.zeros(1))
    with pytest.raises(TypeCheckError):
        Phi4((4, 4), m2=1.0, lam=0.0).force([1.0])

"""Arrays of candidates: the shapes every public function of this package takes and gives.

C candidates are evaluated at once. An input of one number, or of one element, stands for all of them.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Described = TypeVar("Described")


def float_candidates(
    name: str,
    value: npt.ArrayLike,
    *,
    at_least: float = -np.inf,
    above: float = -np.inf,
    finite: bool = True,
) -> Array:
    """Read one quantity of all candidates.

    Args:
        name: what the quantity is called in the error message.
        value: a number, or an array of shape (C,).
        at_least: the smallest value that is right.
        above: the bound that every value has to exceed.
        finite: whether infinity is refused; NaN always is.

    Returns:
        A float64 array of shape (C,), with C = 1 for a number.

    Raises:
        ValueError: an array of another shape, or a value that is not right; the message names it.
    """
    array = np.array(value, dtype=np.float64, ndmin=1, copy=None)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; give one value per candidate, shape (C,)")
    right = array >= at_least
    if above > -np.inf:
        right &= array > above
    if finite:
        right &= np.isfinite(array)
    if not right.all():
        where = int(np.argmin(right))
        bound = f" above {above:g}" if above > -np.inf else ""
        bound += f" of at least {at_least:g}" if at_least > -np.inf else ""
        kind = "a finite number" if finite else "a number"
        raise ValueError(f"{name}[{where}] is {array[where]:g}; give {kind}{bound}")
    return array


def int_candidates(name: str, value: npt.ArrayLike, *, at_least: int) -> IntArray:
    """Read one whole-numbered quantity of all candidates.

    Args:
        name: what the quantity is called in the error message.
        value: a whole number, or an array of shape (C,) of them.
        at_least: the smallest value that is right.

    Returns:
        An int64 array of shape (C,), with C = 1 for a number.

    Raises:
        ValueError: an array of another shape, a fraction, or a value that is too small.
    """
    array = float_candidates(name, value, at_least=at_least)
    fractions = array != np.floor(array)
    if fractions.any():
        where = int(np.argmax(fractions))
        raise ValueError(f"{name}[{where}] is {array[where]:g}; give a whole number")
    return array.astype(np.int64)


def candidate_count(**sizes: int) -> int:
    """The C that all inputs agree on, where an input of size 1 stands for every candidate.

    Args:
        sizes: the number of candidates in each input, by the name of the input.

    Returns:
        The common number of candidates.

    Raises:
        ValueError: two inputs have different numbers of candidates, neither of them 1.
    """
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items() if size != 1)
        raise ValueError(f"inputs have different numbers of candidates ({found}); give 1 or the same number")
    return counts.pop() if counts else 1


def spread(array: Array, count: int) -> Array:
    """One quantity of `count` candidates, where a single value stands for all."""
    return array if array.size == count else np.broadcast_to(array, (count,))


def taken(described: Described, index: IntArray) -> Described:
    """The candidates of a description at the given positions, in that order; positions may repeat.

    Args:
        described: a dataclass whose arrays have C as their last dimension. What it checked when it was made
            stays right for any of its candidates and is not checked again.
        index: the positions.
    """
    some = object.__new__(type(described))
    for name, value in vars(described).items():
        vars(some)[name] = value[..., index] if isinstance(value, np.ndarray) else value
    return some

"""Counts the arithmetic operations of a JAX function in its jaxpr, with loops multiplied out.

XLA's own cost analysis counts the body of a loop once; a renderer or a sampler is mostly loops.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

# One operation per element of the result, as XLA counts them; moving data is free.
_ELEMENTWISE = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "clamp", "cos",
    "cosh", "div", "eq", "erf", "erf_inv", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "le", "log",
    "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "pow", "rem", "round", "rsqrt",
    "select_n", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh",
))  # fmt: skip


def flop_count(function: Callable, *arguments: Any) -> int:
    """Returns the operations of one call, a multiplication and an addition being two; nothing is compiled or run.

    arguments: arrays or ShapeDtypeStructs. A `while` of unknown length counts once, a `cond` as its longest branch.
    """
    return flop_of(jax.make_jaxpr(function)(*arguments))


def flop_of(traced: Any) -> int:
    """Returns the operations of a traced function, a `ClosedJaxpr`."""
    return _count(traced.jaxpr)


def _count(jaxpr) -> int:
    return sum(_operations(equation) for equation in jaxpr.eqns)


def _operations(equation) -> int:
    name, parameters = equation.primitive.name, equation.params
    if not equation.outvars:
        return 0  # nothing is left of it, such as a resizing to the same size
    size = getattr(equation.outvars[0].aval, "size", 0)
    if name in _ELEMENTWISE:
        return size
    if name == "dot_general":
        contracted = parameters["dimension_numbers"][0][0]
        return 2 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
        return 2 * size * (kernel.size // outputs)
    if name.startswith(("reduce_", "cum", "arg")):
        return equation.invars[0].aval.size
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in parameters["branches"])
    if name == "scan":
        return parameters["length"] * _count(parameters["jaxpr"].jaxpr)
    if name == "while":
        return _count(parameters["cond_jaxpr"].jaxpr) + _count(parameters["body_jaxpr"].jaxpr)
    inner = next((parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters), None)
    return 0 if inner is None else _count(getattr(inner, "jaxpr", inner))

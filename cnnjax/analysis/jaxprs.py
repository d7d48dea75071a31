"""What is read of a jaxpr's equations: their operands, and the jaxprs that they run.

The other files of this package know primitives by name and by the parameters of their rule; the
structure (calls, loops, branches, constants) is read here alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Body:
    """A jaxpr that an equation runs.

    Attributes:
      jaxpr: open.
      consts: the arrays of its constvars.
    """

    jaxpr: Any
    consts: Sequence[Any] = ()


def body(jaxpr: Any) -> Body:
    """Of a closed or an open jaxpr."""
    return Body(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()))


def is_literal(atom: Any) -> bool:
    return hasattr(atom, "val")


def shape_of(atom: Any) -> tuple[int, ...]:
    """() for what has no shape, a token say."""
    return tuple(getattr(atom.aval, "shape", ()))


def called(equation: Any) -> Body | None:
    """What an equation calls with its own operands (jit, remat, custom gradients), if it does.

    The operator of a general reduction is a jaxpr too, but takes scalars.
    """
    for value in equation.params.values():
        inner = getattr(value, "jaxpr", value)
        if (
            hasattr(inner, "eqns")
            and not equation.primitive.name.startswith("reduce")
            and _shapes(inner.invars) == _shapes(equation.invars)
            and _shapes(inner.outvars) == _shapes(equation.outvars)
        ):
            return body(value)
    return None


def _shapes(atoms: Sequence[Any]) -> list[tuple[int, ...]]:
    return [shape_of(atom) for atom in atoms]


@dataclass(frozen=True)
class Scan:
    """Operands: `kept` constants, `carried` values, then stacked ones; steps in their `order`."""

    body: Body
    order: range
    kept: int
    carried: int


def scan_of(equation: Any) -> Scan:
    p = equation.params
    steps = range(p["length"])
    if "ft_in" in p:  # from jax 0.11 on: constants, carried, stacked
        kept, carried, _ = (len(part) for part in p["ft_in"].unpack())
    else:
        kept, carried = p["num_consts"], p["num_carry"]
    return Scan(body(p["jaxpr"]), steps[::-1] if p["reverse"] else steps, kept, carried)


@dataclass(frozen=True)
class While:
    """Operands: constants of the condition, of the body, then what is carried."""

    condition: Body
    body: Body
    condition_consts: int
    body_consts: int


def while_of(equation: Any) -> While:
    p = equation.params
    return While(body(p["cond_jaxpr"]), body(p["body_jaxpr"]), p["cond_nconsts"], p["body_nconsts"])


def branches_of(equation: Any) -> list[Body]:
    """Of a conditional: its first operand chooses one, which takes the others."""
    return [body(branch) for branch in equation.params["branches"]]


def bodies(equation: Any) -> list[Body]:
    """Every jaxpr that a loop, a conditional or a call runs over the last of its operands."""
    match equation.primitive.name:
        case "scan":
            return [scan_of(equation).body]
        case "while":
            return [while_of(equation).body]
        case "cond":
            return branches_of(equation)
    inner = called(equation)
    return [] if inner is None else [inner]


def evaluate(equation: Any, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of an equation on arrays."""
    primitive = equation.primitive
    outputs = primitive.bind(*arrays, **primitive.get_bind_params(equation.params))
    return list(outputs) if primitive.multiple_results else [outputs]

"""An estimate of the memory for activations, by the lifetimes of arrays in a traced computation."""

from collections.abc import Sequence

from cnnjax.core.jax_internals import Body, bytes_of, is_literal

# These cannot write where they read; anything else is taken to overwrite an operand that dies.
_NEEDS_OUTPUT = ("conv_general_dilated", "dot_general", "reduce_window", "concatenate", "pad")


def peak_bytes(body: Body, from_images: Sequence[bool]) -> int:
    """The most bytes of activations that are alive at one time.

    Only what depends on the images counts: parameters are counted elsewhere. Element-wise
    operations overwrite an operand that is not needed any more, as a compiler's fusion does; a real
    compiler reorders and may need a little more or less.

    Args:
      from_images: for each input whether it is (or depends on) the images.
    """
    return _peak(body, list(from_images), [True] * len(from_images))


def _peak(body: Body, marked: list[bool], owned: list[bool]) -> int:
    """Peak of what is marked; inputs that are owned count and may be overwritten."""
    depends = {var: True for var, mark in zip(body.inputs, marked, strict=True) if mark}
    equations = body.equations
    live = {
        var: bytes_of(var)
        for var, mark, own in zip(body.inputs, marked, owned, strict=True)
        if mark and own
    }
    last = {
        atom: index
        for index, equation in enumerate(equations)
        for atom in equation.inputs
        if not is_literal(atom)
    }
    last.update({atom: len(equations) for atom in body.outputs if not is_literal(atom)})
    peak = sum(live.values())
    for index, equation in enumerate(equations):
        atoms = [atom for atom in equation.inputs if not is_literal(atom)]
        if not any(atom in depends for atom in atoms):
            continue
        dying = {atom for atom in atoms if last[atom] == index and atom in live}
        inside = equation.bodies
        out = {var: bytes_of(var) for var in equation.outputs}
        if inside:
            rest = sum(size for var, size in live.items() if var not in dying)
            for inner in inside:
                operands = equation.inputs[-len(inner.inputs) :]
                marks = [not is_literal(atom) and atom in depends for atom in operands]
                owns = [not is_literal(atom) and atom in dying for atom in operands]
                peak = max(peak, rest + _peak(inner, marks, owns))
        elif equation.name.startswith(_NEEDS_OUTPUT):
            peak = max(peak, sum(live.values()) + sum(out.values()))
        for atom in dying:
            del live[atom]
        for var in equation.outputs:
            depends[var] = True
            if var in last:
                live[var] = out[var]
        peak = max(peak, sum(live.values()))
    return peak

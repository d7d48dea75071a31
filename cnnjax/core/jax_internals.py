"""What is read of jax and flax beyond their documented interface: here, and nowhere else.

The parameters and names of primitives, the form of a traced computation, and what a compilation
cache remembers may change with any release. Each thing that is read here has its test in
tests/core/test_jax_internals.py, so a new jax breaks there first. jax 0.10 to 0.12, flax 0.12.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import core
from jax.core import ShapedArray, eval_jaxpr
from jax.interpreters import batching, partial_eval

from cnnjax.core.errors import Failed

_WINDOW = ("window_dimensions", "window_strides", "padding", "window_dilation", "base_dilation")

# By primitive, the parameters that are read; no other can be.
PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "broadcast_in_dim": ("shape", "broadcast_dimensions"),
    "concatenate": ("dimension",),
    "cond": ("branches",),
    "conv_general_dilated": (
        *("dimension_numbers", "feature_group_count", "batch_group_count"),
        *("window_strides", "padding", "lhs_dilation", "rhs_dilation"),
    ),
    "convert_element_type": ("new_dtype",),
    "dot_general": ("dimension_numbers",),
    "gather": ("dimension_numbers", "slice_sizes", "mode"),
    "iota": ("shape", "dimension", "dtype"),
    "pad": ("padding_config",),
    "reduce": ("dimensions",),
    "reshape": ("new_sizes",),
    "rev": ("dimensions",),
    "slice": ("start_indices", "strides"),
    "sort": ("dimension",),
    "split": ("sizes", "axis"),
    "squeeze": ("dimensions",),
    "stack": ("axis",),
    "tile": ("reps",),
    "transpose": ("permutation",),
    "unstack": ("axis",),
    "while": ("cond_jaxpr", "body_jaxpr", "cond_nconsts", "body_nconsts"),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), ("axis", "reverse")),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or",
         "reduce_xor", "argmax", "argmin"), ("axes",)),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _WINDOW),
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        ("dimension_numbers", "mode")),
}  # fmt: skip

Atom = Any  # a variable or a literal of a traced computation: a key of dictionaries


def is_literal(atom: Atom) -> bool:
    return hasattr(atom, "val")


def literal(atom: Atom) -> Any:
    """The value of a literal."""
    return atom.val


def shape_of(atom: Atom) -> tuple[int, ...]:
    """() for what has no shape, a token say."""
    return tuple(getattr(atom.aval, "shape", ()))


def bytes_of(atom: Atom) -> int:
    """Of an array of this shape and dtype."""
    size = getattr(getattr(atom.aval, "dtype", None), "itemsize", 4)
    return int(np.prod(shape_of(atom), dtype=np.int64)) * size


class Body:
    """A traced computation: the whole, or what one of its equations runs."""

    def __init__(self, jaxpr: Any) -> None:
        """Of a closed or an open jaxpr."""
        self._jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        self._consts = getattr(jaxpr, "consts", ())

    @property
    def inputs(self) -> Sequence[Atom]:
        return self._jaxpr.invars

    @property
    def outputs(self) -> Sequence[Atom]:
        return self._jaxpr.outvars

    @property
    def constants(self) -> Iterator[tuple[Atom, Any]]:
        """Variables with the arrays that they always are; none of an open one."""
        return zip(self._jaxpr.constvars, self._consts, strict=False)

    @property
    def equations(self) -> list["Equation"]:
        return [Equation(equation) for equation in self._jaxpr.eqns]


class Equation:
    """One application of a primitive."""

    def __init__(self, equation: Any) -> None:
        self._equation = equation

    @property
    def name(self) -> str:
        """Of the primitive: "dot_general"."""
        return self._equation.primitive.name

    @property
    def inputs(self) -> Sequence[Atom]:
        return self._equation.invars

    @property
    def outputs(self) -> Sequence[Atom]:
        return self._equation.outvars

    def __getitem__(self, name: str) -> Any:
        """A parameter of `PARAMETERS`.

        Raises:
          Failed: this jax's primitive has none of that name.
        """
        if name not in PARAMETERS[self.name]:
            raise KeyError(f"{self.name}: {name} is not in PARAMETERS")
        if name not in self._equation.params:
            raise Failed(
                f"jax {jax.__version__} has no {name!r} in {self.name}; cnnjax reads jax 0.10 to"
                " 0.12"
            )
        return self._equation.params[name]

    @property
    def about(self) -> Any:
        """What an `Opaque` was given."""
        return self._equation.params["about"]

    @property
    def random_or_effect(self) -> bool:
        """Whether it draws, or does something beside computing."""
        return self.name.startswith(("random_", "threefry", "rng_")) or bool(self._equation.effects)

    @property
    def modules(self) -> list[str]:
        """The flax modules in which it stands: the root's class, then names, without methods."""
        parts = [part for part in str(self._equation.source_info.name_stack).split("/") if part]
        return list(_modules(parts))

    def evaluate(self, arrays: Sequence[Any]) -> list[Any]:
        """Its outputs on arrays."""
        primitive, params = self._equation.primitive, self._equation.params
        outputs = primitive.bind(*arrays, **primitive.get_bind_params(params))
        return list(outputs) if primitive.multiple_results else [outputs]

    @property
    def called(self) -> Body | None:
        """What it calls with its own operands (jit, remat, custom gradients), if it does.

        The operator of a general reduction is a jaxpr too, but takes scalars.
        """
        if self.name.startswith("reduce"):
            return None
        for value in self._equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                body = Body(value)
                if _shapes(body.inputs) == _shapes(self.inputs) and (
                    _shapes(body.outputs) == _shapes(self.outputs)
                ):
                    return body
        return None

    @property
    def scan(self) -> "Scan":
        params = self._equation.params
        steps = range(params["length"])
        if "ft_in" in params:  # from jax 0.11 on: constants, carried, stacked
            kept, carried, _ = (len(part) for part in params["ft_in"].unpack())
        else:
            kept, carried = params["num_consts"], params["num_carry"]
        order = steps[::-1] if params["reverse"] else steps
        return Scan(Body(params["jaxpr"]), order, kept, carried)

    @property
    def loop(self) -> "While":
        bodies = Body(self["cond_jaxpr"]), Body(self["body_jaxpr"])
        return While(*bodies, self["cond_nconsts"], self["body_nconsts"])

    @property
    def branches(self) -> list[Body]:
        """Of a conditional: its first operand chooses one, which takes the others."""
        return [Body(branch) for branch in self["branches"]]

    @property
    def bodies(self) -> list[Body]:
        """What a loop, a conditional or a call runs over the last of its operands."""
        match self.name:
            case "scan":
                return [self.scan.body]
            case "while":
                return [self.loop.body]
            case "cond":
                return self.branches
        inner = self.called
        return [] if inner is None else [inner]

    @property
    def held(self) -> list[Body]:
        """Every computation among its parameters, whatever it does with it."""
        values = list(self._equation.params.values())
        leaves = jax.tree.leaves(values, is_leaf=lambda value: hasattr(value, "eqns"))
        inner = [getattr(leaf, "jaxpr", leaf) for leaf in leaves]
        return [Body(jaxpr) for jaxpr in inner if hasattr(jaxpr, "eqns")]


@dataclass(frozen=True)
class Scan:
    """Operands: `kept` constants, `carried` values, then stacked ones; steps in their `order`."""

    body: Body
    order: range
    kept: int
    carried: int


@dataclass(frozen=True)
class While:
    """Operands: constants of the condition, of the body, then what is carried."""

    condition: Body
    body: Body
    condition_consts: int
    body_consts: int


def _shapes(atoms: Sequence[Atom]) -> list[tuple[int, ...]]:
    return [shape_of(atom) for atom in atoms]


def _modules(parts: Sequence[str]) -> Iterator[str]:
    """flax writes "name.method" for a method; a run of scanned blocks has ".." in its name."""
    last = ""
    for part in parts:
        module = part if ".." in part else part.split(".")[0]
        if module != last or module == part:
            yield module
        last = module


def same_computation(first: Any, second: Any) -> bool:
    """Whether two closed jaxprs are the same text, but for addresses, on the same constants."""
    texts = [re.sub(r" at 0x[0-9a-f]+", "", str(trace.jaxpr)) for trace in (first, second)]
    constants = [[_bytes(constant) for constant in trace.consts] for trace in (first, second)]
    return texts[0] == texts[1] and constants[0] == constants[1]


def _bytes(array: Any) -> bytes:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()


class Opaque:
    """A primitive of our own, which is traced and never runs: one equation for a whole layer."""

    def __init__(self, name: str, under_vmap: Callable[[Any], Exception]) -> None:
        """`under_vmap` gives the error for what is mapped, by what it is `about`."""
        self.name = name
        self._primitive = jax.extend.core.Primitive(name)
        self._primitive.def_abstract_eval(
            lambda *_, about, output: ShapedArray(output.shape, output.dtype)
        )

        def batched(values: Any, axes: Any, *, about: Any, output: Any) -> Any:
            raise under_vmap(about)

        batching.primitive_batchers[self._primitive] = batched

    def __call__(self, *operands: Any, about: Any, output: Any) -> Any:
        """An array with the shape and dtype of `output`; `about` is found in the equation."""
        return self._primitive.bind(*operands, about=about, output=output)


def apply_initializing(module: Any, variables: Any, images: Any, keys: Any) -> Any:
    """`module` on given variables, running what `init` runs (`is_initializing()` is true)."""
    run = core.apply(
        lambda scope, x: module.clone(parent=scope)(x, train=False),
        mutable=True,
        flags={"initializing": True},
    )
    return run(variables, images, rngs=keys)[0]


class DependsOnInput(Exception):
    """What was to depend on shapes alone does not; `names`: of the entries that do."""

    def __init__(self, names: list[str]):
        super().__init__(", ".join(names))
        self.names = names


def without_input(function: Callable[[Any, Any], dict], known: Any, given: Any) -> dict[str, Any]:
    """`function(known, given)` where `given` is shapes: only what leads to the result is run.

    flax's `lazy_init` did this up to 0.12.8; later it runs the whole function on zeros.

    Raises:
      DependsOnInput: entries of the result need the values of `given`.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(known, given)
    values, pure = jax.tree.leaves(known), _without_effects(traced.jaxpr)

    def pruned(wanted: list[bool]) -> tuple[Any, list[bool]]:
        return partial_eval.dce_jaxpr(pure, wanted)

    paths, structure = jax.tree.flatten_with_path(shapes)
    entries = [path[0].key for path, _ in paths]
    body, used = pruned([True] * len(entries))
    if any(used[len(values) :]):
        names = [
            name
            for name in dict.fromkeys(entries)
            if any(pruned([entry == name for entry in entries])[1][len(values) :])
        ]
        raise DependsOnInput(names)
    taken = [value for value, one in zip(values, used, strict=False) if one]
    return jax.tree.unflatten(structure, eval_jaxpr(body, traced.consts, *taken))


def _without_effects(jaxpr: Any) -> Any:
    """Without what prints or calls back and leads to nothing; what has no effect stays the same
    object, by which jax knows what it has compiled."""
    if not jaxpr.effects:
        return jaxpr

    def inner(value: Any) -> Any:
        if hasattr(value, "jaxpr") and hasattr(value, "consts"):  # closed
            return value.replace(jaxpr=_without_effects(value.jaxpr)) if value.effects else value
        return value

    kept = [
        equation.replace(
            effects=frozenset(), params={key: inner(v) for key, v in equation.params.items()}
        )
        if equation.effects
        else equation
        for equation in jaxpr.eqns
        if equation.outvars
    ]
    return jaxpr.replace(eqns=kept, effects=frozenset())


def all_but_params(mutable: Any) -> Any:
    """Of a filter of collections that may change, all but the parameters."""
    return core.scope.subtract_filters(mutable, "params")


def use_compilation_cache(folder: Path | None, cache: Any = None) -> None:
    """jax asks `cache` for what it compiles: `get(key)`, `put(key, program)`; None: nobody.

    Args:
      folder: where they lie; jax only names it.
    """
    import jax
    from jax._src import compilation_cache

    jax.config.update("jax_compilation_cache_dir", folder and str(folder))
    compilation_cache.reset_cache()
    if folder is not None:
        cache._path = folder
        compilation_cache._cache = cache
        compilation_cache._cache_initialized = True


class Blackboard:
    """Where the processes of a training leave a word for each other, at the coordinator."""

    def __init__(self, folder: str) -> None:
        from jax._src import distributed

        self._folder, state = folder, distributed.global_state
        self._client: Any = state.client
        self._mine = f"{folder}/{state.process_id}"

    def write(self, word: str) -> None:
        self._client.key_value_set(self._mine, word, allow_overwrite=True)

    def read(self) -> dict[int, str]:
        """By process."""
        found = self._client.key_value_dir_get(self._folder)
        return {int(key.rpartition("/")[2]): word for key, word in found}

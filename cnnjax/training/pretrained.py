"""What a training starts from: random numbers, another run, imported weights or a file."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cnnjax.core.architectures import MODELS
from cnnjax.core.errors import Refused, Say
from cnnjax.core.recipe import Model, Recipe
from cnnjax.core.user_code import located
from cnnjax.interop.mapping import Mismatch, OtherClasses
from cnnjax.interop.variables import flat, nested
from cnnjax.interop.weights import FILES, carry_over, read_variables
from cnnjax.layers.backbone import OnBackbone
from cnnjax.tasks.network import NetworkTask, evaluated, fresh_variables
from cnnjax.tasks.state import TrainState
from cnnjax.training.initial import fresh_state
from cnnjax.training.restore import restore_run

_SHOWN = 6  # lines of a mismatch in one message


def first_state(
    task: NetworkTask, recipe: Recipe, seed: int, say: Say = lambda line: None
) -> TrainState:
    """The state that a training begins with.

    Args:
      say: is told what of the weights was left out.

    Raises:
      Refused: no such weights, or they are of another network.
    """
    state = fresh_state(task, recipe, seed)
    if recipe.init.weights is None:
        return state
    variables, notes = _read(task, recipe, state)
    for note in notes:
        say(f"init.weights={recipe.init.weights}: {note}")
    params = variables.pop("params")
    average = None
    if state.average is not None:
        average = {"params": params, "model_state": variables}
    inner = task.update.init(params).inner  # an optimiser's state may hold a copy of them
    return state.replace(
        params=params,
        model_state=variables,
        opt_state=state.opt_state._replace(inner=inner),
        average=average,
    )


def check_weights(task: NetworkTask, recipe: Recipe, say: Say = lambda line: None) -> None:
    """Refuse `init.weights` that do not fit, before anything is written or trained."""
    if recipe.init.weights is not None:
        first_state(task, recipe, 0, say)


def weights_digest(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of the weights that a recipe starts from: a part of a run's identity.

    Raises:
      Refused: there are none.
    """
    if recipe.init.weights is None:
        return {}
    path = located(recipe.init.weights)
    if (path / "run.json").is_file():
        file = _newest(path)
    else:
        file = path / FILES[1] if path.is_dir() else path
    try:
        with file.open("rb") as data:
            return {recipe.init.weights: hashlib.file_digest(data, "sha256").hexdigest()}
    except OSError:
        raise _nothing(recipe, path) from None


def _nothing(recipe: Recipe, path: Path) -> Refused:
    return Refused(
        f"init.weights={recipe.init.weights}: there are no weights in {path}; give the folder of a"
        " run or of cnnjax import-weights, or a file"
    )


def _newest(run: Path) -> Path:
    """The seal of the newest state of a run: it has the digests of all its files."""
    seals = [seal for seal in (run / "checkpoints").glob("*.json") if seal.stem.isdigit()]
    return max(seals, key=lambda seal: int(seal.stem), default=run / "checkpoints")


def _read(task: NetworkTask, recipe: Recipe, state: TrainState) -> Any:
    assert recipe.init.weights is not None
    path, head = located(recipe.init.weights), recipe.init.head
    if not path.exists():
        raise _nothing(recipe, path)
    fresh = {"params": state.params, **state.model_state}
    shape = task.data.image_shape
    given, theirs, run = f"init.weights={recipe.init.weights}", "", None
    try:
        if (path / "run.json").is_file():
            trained, _, other = restore_run(path, lambda line: None)
            theirs = f": {_in_words(trained.model)}, not {_in_words(recipe.model)}"
            if str(int(other.step)) != _newest(path).stem:  # what is hashed is what is read
                raise Refused(f"{given}: its newest state is damaged; train that run again")
            run = evaluated(other)

        def read(module: Any, shape: tuple[int, int, int], fresh: Mapping[str, Any]) -> Any:
            if run is None:
                return read_variables(path, module, shape, head=head, fresh=fresh)
            return carry_over(run, module, shape, given, head=head, fresh=fresh)

        if head == "new" and isinstance(task.model, OnBackbone):
            with contextlib.suppress(Mismatch):  # perhaps they are of such a detector, whole
                return _with_backbone(task.model, shape, fresh, read)
        return read(task.model, shape, fresh)
    except OtherClasses as error:
        raise Refused(
            f"{given} has {error.given} classes, and data set {task.data.name} {error.wanted};"
            " --set init.head=new begins with a new classifier"
        ) from None
    except Mismatch as error:
        more = len(error.lines) - _SHOWN
        lines = "; ".join(error.lines[:_SHOWN]) + (f"; ... ({more} more)" if more > 0 else "")
        raise Refused(
            f"{given} is of another network{theirs} (-: wanted, +: there instead): {lines}"
        ) from None


def _with_backbone(
    model: OnBackbone, image_shape: tuple[int, int, int], fresh: Mapping[str, Any], read: Any
) -> Any:
    """`fresh` with the backbone of a classifier: what stands on it is the head, and new.

    Args:
      read: (module, image shape, its fresh variables) -> the classifier's variables, notes.
    """
    frozen = "frozen" in fresh
    body = model.make_body(**({"normalization": "batch"} if frozen else {}))
    height, width, _ = MODELS.find(model.backbone).input_shape or image_shape
    shape = (height, width, image_shape[2])
    variables, notes = read(body, shape, fresh_variables(body, shape, jax.random.key(0)))
    given, taken = flat(variables), {}
    for path, leaf in flat(fresh).items():
        collection, *where = path
        taken[path] = leaf
        if where[0] != "body":
            continue
        # Frozen normalisation keeps in one collection what a trained one has in two.
        kept = ("params", "batch_stats") if collection == "frozen" else (collection,)
        taken[path] = next(
            given[one, *where[1:]] for one in kept if (one, *where[1:]) in given
        ).astype(leaf.dtype)
    return nested(taken), (*notes, "all but the backbone begins anew")


def _in_words(model: Model) -> str:
    fields = ", ".join(f"{key}={value}" for key, value in model.fields.items())
    return f"{model.name} ({fields})" if fields else model.name

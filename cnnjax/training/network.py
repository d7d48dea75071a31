"""A network with its variables, from a run or from imported weights, put to use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cnnjax.core.architectures import MODELS
from cnnjax.core.config import full
from cnnjax.core.errors import Failed, Refused, Say, one_line
from cnnjax.core.recipe import Task
from cnnjax.data.augment import normalize, ten_crops
from cnnjax.data.dataset import AnyDataset, StreamedDataset
from cnnjax.data.decode import decode, fit, fitted_part
from cnnjax.data.normalization import fixed_normalization, normalization_arrays
from cnnjax.data.views import central_view
from cnnjax.interop.weights import Network, described_weights, holds_weights, load_weights
from cnnjax.tasks.network import evaluated
from cnnjax.training.restore import dataset_of, read_run, restore_run


def holds(folder: Path) -> Literal["run", "weights"]:
    """What a folder holds.

    Raises:
      Refused: neither.
    """
    if (folder / "run.json").is_file():
        return "run"
    if holds_weights(folder):
        return "weights"
    raise Refused(
        f"{folder} holds neither a run (cnnjax train) nor weights (cnnjax import-weights)"
    )


def load_network(folder: str | Path, say: Say = lambda line: None) -> Network:
    """The network of a run folder (its newest intact state) or of imported weights.

    Raises:
      Refused: the folder is neither, or is damaged, or the network's file has changed.
    """
    folder = Path(folder)
    if holds(folder) == "weights":
        return load_weights(folder)
    recipe, task, state = restore_run(folder, say)
    return Network(recipe.model, task.model, evaluated(state), task.data.image_shape)


def check_fits(
    module: Any, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> None:
    """Refuse images that a network with these variables does not take, without computing."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        jax.eval_shape(lambda v, x: module.apply(v, x, train=False), dict(variables), images)
    except Refused:
        raise
    except Exception as error:  # flax has its own kinds for shapes that differ
        shape = "x".join(map(str, image_shape))
        raise Refused(f"these weights do not take images of {shape}: {one_line(error)}") from error


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network with what an image file goes through on the way to it.

    Attributes:
      see: the encoded image to uint8 [h, w, c], as a test image of the network's data is seen.
      normal: `mean` and, if needed, `deviation`, where a fully bright pixel is 1.
      label_names: of the classes, None where they are not known.
      crops: 10 averages corners, centre and flips.
      task: that it was trained for.
      task_name: of it.
      part: of an image of this height and width what is seen: left, top, width and height in its
        pixels; None: of imported weights.
    """

    network: Network
    see: Callable[[bytes], np.ndarray]
    normal: Mapping[str, Any]
    label_names: tuple[str, ...] | None
    crops: int = 1
    task: Any = None
    task_name: str = Task.name
    part: Callable[[tuple[int, int]], tuple[float, float, float, float]] | None = None

    def probabilities(self, encoded: bytes) -> Float[np.ndarray, " classes"]:
        """Of each class.

        Raises:
          Failed: the bytes are no image, or the network gives no numbers.
        """
        size, module = self.network.image_shape[0], self.network.module
        chances = _probabilities(
            module, self.crops, size, dict(self.network.variables), self.see(encoded), self._figures
        )
        if not np.isfinite(chances).all():
            raise Failed(f"{self.network.model.name} gives no finite logits")
        return np.asarray(chances)

    def predictions(self, seen: np.ndarray) -> Any:
        """What a task with `predictions` makes of one image, uint8 [h, w, c] as `see` gives it.

        Raises:
          Failed: the network gives no numbers.
        """
        variables = dict(self.network.variables)
        outputs, found = _predictions(self.task, variables, seen, self._figures)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs)):
            raise Failed(f"{self.network.model.name} gives no finite outputs")
        return jax.tree.map(lambda leaf: np.asarray(leaf[0]), found)

    @property
    def _figures(self) -> dict[str, Any]:
        return {name: self.normal[name] for name in ("mean", "deviation") if name in self.normal}


def read_image(path: Path) -> bytes:
    """An encoded image that can be decoded.

    Raises:
      Refused: there is none, or it cannot.
    """
    try:
        encoded = path.read_bytes()
        decode(encoded)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); give an image") from None
    except Failed as error:
        raise Refused(f"{path}: {error}") from None
    return encoded


def load_predictor(folder: Path, data_dir: str | None, say: Say) -> Predictor:
    """The network in `folder`, which holds a run or imported weights, ready for images.

    Args:
      data_dir: where a run's data lie; default where they lay while it trained.

    Raises:
      Refused: the folder holds neither, is damaged, or a run's data are not there.
    """
    if holds(folder) == "weights":
        described, network = described_weights(folder), load_weights(folder)
        if (task := MODELS.find(network.model.name).task) != Task.name:
            raise Refused(
                f"{folder} holds weights of {network.model.name}, which is for {task}: what it"
                " finds is told of a run, which may begin with them (cnnjax train --set"
                f" init.weights={folder})"
            )
        _require_pictures(network.image_shape)
        normal = fixed_normalization(described["normalization"], network.image_shape[2])
        see = partial(central_view, image_shape=network.image_shape)
        return Predictor(network, see, normal, None)
    described = read_run(folder)
    recipe, task, state = restore_run(folder, say)
    if recipe.task.name != Task().name and not hasattr(task, "predictions"):
        raise Refused(f"{folder} was trained on task {recipe.task.name}: it has no classes to name")
    if recipe.data.permute_pixels is not None:
        raise Refused(
            f"{folder} was trained on permuted pixels (data.permute_pixels): it knows nothing of"
            " images as files have them"
        )
    dataset = dataset_of(folder, described, recipe, data_dir, say)
    _require_pictures(dataset.image_shape)
    network = Network(recipe.model, task.model, evaluated(state), task.data.image_shape)
    normal = normalization_arrays(recipe.data, dataset)
    if isinstance(dataset, StreamedDataset):
        see, part = dataset.view.image, dataset.view.part
    else:
        see = partial(_fitted, shape=dataset.image_shape)
        part = partial(fitted_part, shape=dataset.image_shape[:2])
    crops, names = recipe.data.test_crops, dataset.label_names
    return Predictor(network, see, normal, names, crops, task, recipe.task.name, part)


def stored_outputs(
    folder: Path, network: Network, say: Say, dataset: AnyDataset | None = None
) -> Callable[[Any], Any]:
    """A compiled function: a run's network on stored images, normalised as its test images.

    Args:
      dataset: on which it was trained, if it is at hand.
    """
    described = read_run(folder)
    recipe = full(described["recipe"], f"{folder}/run.json")
    if dataset is None:
        dataset = dataset_of(folder, described, recipe, None, say)
    figures = normalization_arrays(recipe.data, dataset)
    scales = {name: jnp.asarray(array) for name, array in figures.items() if name != "colours"}

    @jax.jit
    def outputs(images: Any) -> Any:
        return network.module.apply(network.variables, normalize(images, **scales), train=False)

    return outputs


def predict_stored(
    outputs: Callable[[Any], Any],
    image_shape: tuple[int, int, int],
    images: np.ndarray,
    batch_size: int,
) -> Float[np.ndarray, "n outputs"]:
    """`stored_outputs` of any number of images, in batches of one size.

    Raises:
      Refused: the images are not uint8 [n, h, w, c] of the network's size, or the batches empty.
    """
    if batch_size < 1:
        raise Refused(f"batch_size={batch_size}: give 1 or more")
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != tuple(image_shape):
        shape = "x".join(map(str, image_shape))
        raise Refused(
            f"images are {images.dtype}{list(images.shape)}; they are to be uint8 [n, {shape}]"
        )
    padded = -len(images) % batch_size
    whole = np.pad(images, ((0, padded), (0, 0), (0, 0), (0, 0)))
    parts = np.split(whole, len(whole) // batch_size) if len(whole) else []
    found = [np.asarray(outputs(part)) for part in parts]
    return np.concatenate(found)[: len(images)] if found else np.zeros((0, 0), np.float32)


def _fitted(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """As a set in memory is brought to one size."""
    return fit(decode(encoded, shape[2]), shape)


def _require_pictures(image_shape: tuple[int, int, int]) -> None:
    if image_shape[2] not in (1, 3):
        raise Refused(
            f"images of {image_shape[2]} channels are not read from files: 1 (grey) or 3 (red,"
            " green, blue)"
        )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _probabilities(
    module: Any, crops: int, size: int, variables: Any, image: Any, figures: Any
) -> Any:
    images = normalize(image[None], max_value=jnp.asarray(255.0), **figures)
    views = ten_crops(images, size)[0] if crops == 10 else images
    return jax.nn.softmax(module.apply(variables, views, train=False)).mean(axis=0)


@partial(jax.jit, static_argnums=0)
def _predictions(task: Any, variables: Any, image: Any, figures: Any) -> Any:
    images = normalize(image[None], max_value=jnp.asarray(255.0), **figures)
    outputs = task.model.apply(variables, images, train=False)
    return outputs, task.predictions(outputs)

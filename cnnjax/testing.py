"""The contracts as checks, public: run them on your own network or data set."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.user_code import explained
from cnnjax.data.dataset import AnyDataset, EncodedExamples, StreamedDataset
from cnnjax.data.order import evaluation_batches
from cnnjax.data.stream import evaluation_stream
from cnnjax.layers.scan import stack_blocks, unstack_blocks
from cnnjax.tasks.checks import AUXILIARY, DRAWN, STREAM, repeatable
from cnnjax.tasks.network import fresh_variables


def check_model(model: Any, image_shape: tuple[int, int, int]) -> list[str]:
    """Check that `model` keeps the contract of a network on small images.

    Outputs are float32: logits [n, num_classes] of a classifier, [n, h, w, num_classes] of pixels,
    or a dict of arrays with a row for each image, of which some may be bool; initialisation is
    deterministic, and nothing is drawn outside of jax's random streams; gradient reaches every
    parameter; evaluation changes no state and treats examples one by one. Where the model has them:
    stacked and ordinary variables give the same logits, feature maps shrink as their strides rise,
    bfloat16 compute is close to float32 (of a network that chooses, one with a bool, its types
    alone: it may choose otherwise).

    Args:
      model: a flax module, called as model(images, train=...).
      image_shape: height, width, channels.

    Returns:
      The names of the checks that ran, so that a caller can count them.

    Raises:
      AssertionError: the text says what is broken.
    """
    assert not isinstance(model, type), f"give a network, {model.__name__}(), not its class"
    images = jax.random.normal(jax.random.key(1), (4, *image_shape))
    with _told("it cannot be initialised"):
        variables = fresh_variables(model, image_shape, jax.random.key(0))
        again = fresh_variables(model, image_shape, jax.random.key(0))
    with _told("two initialisations from one key differ (numpy's or Python's random numbers?)"):
        chex.assert_trees_all_equal(variables, again)

    evaluate = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
    with _told("it cannot be evaluated"):
        _check_repeatable(partial(model.apply, train=False), variables, images)
        logits = evaluate(variables, images)
    found = list(logits.values()) if isinstance(logits, Mapping) else [logits]
    for one in found:
        kind = getattr(one, "shape", type(one).__name__)
        fits = getattr(one, "ndim", 0) in ((2, 4) if one is logits else range(1, 9))
        assert fits, f"logits are {kind}, not an array [n, num_classes]"
        beside = one is not logits and not _is_real(one)
        assert beside or one.dtype == jnp.float32, f"logits are {one.dtype}, not float32"
        assert len(one) == len(images), f"{len(one)} logits for {len(images)} images"
        assert bool(jnp.isfinite(one).all()), "logits are not finite"
    alone = evaluate(variables, images.at[1:].set(0.0))
    real = [one for one in found if _is_real(one)]
    scale = max(float(jnp.abs(one).max()) for one in real)
    first = [jax.tree.map(lambda leaf: leaf[:1], tree) for tree in (alone, logits)]
    assert _distance(*first) <= 1e-4 * scale, "an example's logits depend on others"
    ran = ["deterministic", "logits", "finite", "independent"]
    with _told("it cannot be trained"):
        _check_gradients(model, variables, images)
    ran.append("gradients")

    if hasattr(model, "equal_blocks"):
        runs = model.equal_blocks()
        stacked = stack_blocks(variables, runs)
        apart = _distance(evaluate(stacked, images), logits)
        assert apart <= 1e-5 * scale, "stacked blocks give other logits"
        chex.assert_trees_all_equal(unstack_blocks(stacked, runs), variables)
        ran.append("stacked")
    if hasattr(model, "feature_maps"):
        _check_feature_maps(model, variables, images)
        ran.append("feature_maps")
    if getattr(model, "dtype", None) == "float32":
        halved = model.clone(dtype="bfloat16")
        half = jax.jit(lambda v, x: halved.apply(v, x, train=False))(variables, images)
        for one in filter(_is_real, jax.tree.leaves(half)):
            assert one.dtype == jnp.float32, f"bfloat16 compute gives {one.dtype} logits"
        distance = _distance(half, logits) if len(real) == len(found) else 0.0
        # Each layer rounds to 2^-9: a few per cent behind a hundred of them.
        assert distance < 0.1 * scale, f"bfloat16 logits are {distance / scale:.1%} away"
        ran.append("bfloat16")
    return ran


def _is_real(array: Any) -> bool:
    """Beside its logits a detector gives classes of boxes, and which of them are there."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def _distance(one: Any, other: Any) -> float:
    """The largest difference of two trees of one form."""
    return max(
        float(jnp.abs(a.astype(float) - b.astype(float)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a network raises is an AssertionError that says where and why."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {' '.join(str(error).split())}") from None
    except Exception as error:
        raise AssertionError(f"{what}: {explained(error)}") from error


def _check_repeatable(function: Callable, *arguments: Any) -> None:
    assert repeatable(function, *arguments), (
        f"it computes something else each time that it is traced; {DRAWN}"
    )


def _check_gradients(model: Any, variables: dict[str, Any], images: Any) -> None:
    """Gradient reaches every parameter, by the logits or by auxiliary ones."""
    state = {key: value for key, value in variables.items() if key != "params"}

    def training(params: Any) -> Any:
        return model.apply(
            {"params": params, **state},
            images,
            train=True,
            rngs={STREAM: jax.random.key(2)},
            mutable=[*state, AUXILIARY],
        )

    _check_repeatable(training, variables["params"])

    @jax.jit
    @jax.grad
    def gradient(params):
        out, changed = training(params)
        heads = jax.tree.leaves([out, changed.get(AUXILIARY, {})])
        heads = [head for head in heads if _is_real(head)]
        return sum((head**2).mean() + head[:, 0].mean() for head in heads)

    for path, grad in jax.tree.flatten_with_path(gradient(variables["params"]))[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        values = np.asarray(grad, np.float32)  # by numpy: no program for each shape
        assert np.isfinite(values).all(), f"the gradient of {name} is not finite"
        assert values.any(), f"no gradient reaches {name}"


def _check_feature_maps(model: Any, variables: dict[str, Any], images: Any) -> None:
    maps = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, method="feature_maps"), variables, images
    )
    assert list(maps) == sorted(maps), f"strides are not rising: {list(maps)}"
    sizes = [maps[stride].shape[1] for stride in maps]
    assert sizes == sorted(sizes, reverse=True), f"maps of strides {list(maps)} are {sizes} high"
    for (s1, one), (s2, two) in itertools.pairwise(maps.items()):
        most = one.shape[1] * s1 / s2 + 1
        assert two.shape[1] <= most, f"{one.shape[1]} high at stride {s1}, {two.shape[1]} at {s2}"
    assert all(len(m.shape) == 4 and m.shape[0] == len(images) for m in maps.values())


def check_dataset(dataset: AnyDataset) -> list[str]:
    """Check that `dataset` keeps the contract; returns the names of the checks that ran.

    Raises:
      AssertionError: the text says what is broken.
    """
    for split, examples in (("train", dataset.train), ("test", dataset.test)):
        if isinstance(examples, EncodedExamples):
            assert isinstance(dataset, StreamedDataset), "encoded examples are streamed"
            batches = list(evaluation_stream(examples, dataset.view, 16))
        else:
            assert examples.images.shape[1:] == dataset.image_shape, f"{split} images differ"
            for name, array in examples.arrays.items():
                assert len(array) == len(examples), f"{split}: {name} differ in number from images"
            batches = list(evaluation_batches(examples, 100))
        for batch in batches:
            images = batch["images"]
            for name, field in dataset.fields.items():
                assert batch[name].dtype == field.dtype, f"{split} {name} are {batch[name].dtype}"
            assert images.dtype == np.uint8, f"{split} images are {images.dtype}"
            assert images.max() <= dataset.max_value, f"{split}: brighter than max_value"
            if labels := batch.get("labels", np.zeros(0)).tolist():
                good = 0 <= min(labels) <= max(labels) < dataset.num_classes
                assert good, f"{split}: bad labels"
        seen = sum(int(batch["mask"].sum()) for batch in batches)
        assert seen == len(examples), f"{split}: evaluation sees {seen} of {len(examples)}"
        places = np.concatenate([batch["indices"][batch["mask"] > 0] for batch in batches])
        assert places.tolist() == list(range(seen)), f"{split}: indices are not the places"
    assert dataset.fingerprint == dataset.fingerprint, "the fingerprint changes"
    return ["dtype", "shape", "labels", "range", "evaluation", "fingerprint"]

"""The contracts as checks, public: run them on your own network or data set."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.data.order import evaluation_batches
from cnnjax.layers.scan import stack_blocks, unstack_blocks


def check_model(model: Any, image_shape: tuple[int, int, int]) -> list[str]:
    """Check that `model` keeps the contract of a network on small images.

    Logits are float32 [n, num_classes]; initialisation is deterministic; gradient reaches every
    parameter; evaluation changes no state and treats examples one by one; stacked and ordinary
    variables give the same logits.

    Args:
      model: a flax module, called as model(images, train=...).
      image_shape: height, width, channels.

    Returns:
      The names of the checks that ran, so that a caller can count them.

    Raises:
      AssertionError: the text says what is broken.
    """
    images = jax.random.normal(jax.random.key(1), (4, *image_shape))
    shape = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = model.lazy_init({"params": jax.random.key(0)}, shape, train=False)
    again = model.lazy_init({"params": jax.random.key(0)}, shape, train=False)
    chex.assert_trees_all_equal(variables, again)

    logits = model.apply(variables, images, train=False)
    assert logits.ndim == 2, f"logits have shape {logits.shape}, not [n, num_classes]"
    assert logits.dtype == jnp.float32, f"logits are {logits.dtype}, not float32"
    assert bool(jnp.isfinite(logits).all()), "logits are not finite"
    one = model.apply(variables, images[:1], train=False)
    scale = float(jnp.abs(logits).max())
    assert np.allclose(one, logits[:1], atol=1e-4 * scale), "an example's logits depend on others"

    params = variables["params"]
    state = {key: value for key, value in variables.items() if key != "params"}

    def loss(params):
        out, _ = model.apply(
            {"params": params, **state},
            images,
            train=True,
            rngs={"dropout": jax.random.key(2)},
            mutable=list(state),
        )
        return (out**2).mean() + out[:, 0].mean()

    for path, grad in jax.tree.flatten_with_path(jax.grad(loss)(params))[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        assert bool(jnp.isfinite(grad).all()), f"the gradient of {name} is not finite"
        assert bool(jnp.any(grad != 0)), f"no gradient reaches {name}"
    ran = ["deterministic", "logits", "finite", "independent", "gradients"]

    if hasattr(model, "equal_blocks"):
        runs = model.equal_blocks()
        stacked = stack_blocks(dict(variables), runs)
        out = model.apply(stacked, images, train=False)
        assert np.allclose(out, logits, atol=1e-5 * scale), "stacked blocks give other logits"
        chex.assert_trees_all_equal(unstack_blocks(stacked, runs), dict(variables))
        ran.append("stacked")
    return ran


def check_dataset(dataset: Dataset) -> list[str]:
    """Check that `dataset` keeps the contract; returns the names of the checks that ran.

    Raises:
      AssertionError: the text says what is broken.
    """
    for split, examples in (("train", dataset.train), ("test", dataset.test)):
        assert examples.images.dtype == np.uint8, f"{split} images are {examples.images.dtype}"
        assert examples.images.shape[1:] == dataset.image_shape, f"{split} images differ in shape"
        assert len(examples.images) == len(examples.labels), f"{split}: images without labels"
        assert examples.images.max() <= dataset.max_value, f"{split}: brighter than max_value"
        batches = list(evaluation_batches(examples, 100))
        seen = sum(int(batch["mask"].sum()) for batch in batches)
        assert seen == len(examples), f"{split}: evaluation sees {seen} of {len(examples)}"
    assert dataset.fingerprint == dataset.fingerprint, "the fingerprint changes"
    return ["dtype", "shape", "labels", "range", "evaluation", "fingerprint"]

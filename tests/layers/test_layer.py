"""What a network says once holds for all that it is made of."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnnjax import Refused, create_model
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.layer import Layer

NUMERICS = {"initialization": "he_fan_out", "dtype": "bfloat16", "param_dtype": "bfloat16"}


@pytest.mark.parametrize(
    "name",
    ["lenet5", "lenet5_modern", "alexnet", "vgg11_bn", "googlenet_aux", "googlenet_torchvision",
     "resnet18", "resnet50", "preresnet18", "cifar_resnet8", "cifar_preresnet8"],
)  # fmt: skip
def test_every_part_computes_as_its_network(name):
    model = create_model(name, **NUMERICS)
    size, channels = model.smallest_image, 1 if name.startswith("lenet") else 3
    parts = {}

    def see(call, arguments, named, method):
        parts["/".join(method.module.path)] = method.module
        return call(*arguments, **named)

    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    with nn.intercept_methods(see):
        variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
    assert len(parts) > 5
    for path, part in parts.items():
        if isinstance(part, Layer):
            assert part.numerics == NUMERICS, path
        if isinstance(part, nn.Dense):
            assert part.kernel_init is model.kernel_init, path
        resnet_head = path == "head" and hasattr(model, "equal_blocks")  # averages in float32
        assert resnet_head or getattr(part, "dtype", "bfloat16") == "bfloat16", path
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables["params"])} == {"bfloat16"}


@pytest.mark.parametrize("rate", [-1.0, 1.5])
def test_a_share_that_is_none_is_not_dropped(rate):
    with pytest.raises(Refused, match="0 to 1"):
        Dropout(rate)

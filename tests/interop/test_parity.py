"""The same weights in PyTorch and here give the same logits, batch statistics included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")

from cnnjax import create_model  # noqa: E402
from cnnjax.interop.mapping import from_torch, to_torch  # noqa: E402
from cnnjax.layers.lenet import TABLE_I  # noqa: E402
from cnnjax.models.googlenet import INCEPTION  # noqa: E402
from cnnjax.models.lenet_bitmaps import BITMAPS  # noqa: E402
from cnnjax.models.vgg import NETS  # noqa: E402
from tests.interop import torch_nets as nets  # noqa: E402

torch.set_num_threads(1)
BASIC, BOTTLENECK = (2, 2, 2, 2), (3, 4, 6, 3)
IMAGENET, CIFAR = (64, 128, 256, 512), (16, 32, 64)
TORCHVISION = (64, 192, 384, 256, 256)
KRIZHEVSKY = (96, 256, 384, 384, 256)


def vgg(net, side, *, kernels=None, batch_norm=False):
    return nets.VGG(kernels or NETS[net], batch_norm, net == "A-LRN", side, 1000)


CASES = {
    # name: (fields, the same net in PyTorch, sizes of image, channels)
    "lenet5": ({}, lambda s: nets.LeNet5(TABLE_I, BITMAPS), (32,), 1),
    "lenet5_modern": ({}, lambda s: nets.LeNet5(), (32,), 1),
    "alexnet": (
        {},
        lambda s: nets.AlexNet(KRIZHEVSKY, 2, 0, True, False, 6 if s == 227 else 3, 1000),
        (227, 131),
        3,
    ),
    "alexnet_torchvision": (
        {},
        lambda s: nets.AlexNet(TORCHVISION, 1, 2, False, True, 6, 1000),
        (224, 160),
        3,
    ),
    "vgg11": ({}, lambda s: vgg("A", s // 32), (224, 64), 3),
    "vgg11_lrn": ({}, lambda s: vgg("A-LRN", s // 32), (64,), 3),
    "vgg13_5x5": ({}, lambda s: vgg("B", s // 32, kernels=((5,),) * 5), (64,), 3),
    "vgg16": ({}, lambda s: vgg("D", s // 32), (64,), 3),
    "vgg16_c": ({}, lambda s: vgg("C", s // 32), (64,), 3),
    "vgg19_bn": ({}, lambda s: vgg("E", s // 32, batch_norm=True), (64,), 3),
    "googlenet": (
        {},
        lambda s: nets.GoogLeNet(INCEPTION, 5, False, 3, False, 1000),
        (97,),
        3,
    ),
    "googlenet_aux": (
        {},
        lambda s: nets.GoogLeNet(INCEPTION, 5, False, 3, True, 1000),
        (224,),
        3,
    ),
    "googlenet_torchvision_aux": (
        {},
        lambda s: nets.GoogLeNet(INCEPTION, 3, True, 2, True, 1000),
        (224, 97),
        3,
    ),
    "resnet18": (
        {},
        lambda s: nets.ResNet(BASIC, IMAGENET, "B", False, False, 7, 1000),
        (224, 97),
        3,
    ),
    "resnet50": (
        {},
        lambda s: nets.ResNet(BOTTLENECK, IMAGENET, "B", True, False, 7, 1000),
        (224, 97),
        3,
    ),
    "resnet50_v1": (
        {},
        lambda s: nets.ResNet(BOTTLENECK, IMAGENET, "B", True, True, 7, 1000),
        (97,),
        3,
    ),
    "plain18": (
        {},
        lambda s: nets.ResNet(BASIC, IMAGENET, "none", False, False, 7, 1000),
        (64,),
        3,
    ),
    "preresnet18": (
        {},
        lambda s: nets.PreactResNet(BASIC, IMAGENET, "B", False, 7, 1000),
        (64,),
        3,
    ),
    "preresnet50": (
        {},
        lambda s: nets.PreactResNet(BOTTLENECK, IMAGENET, "B", True, 7, 1000),
        (64,),
        3,
    ),
    "cifar_resnet20": (
        {},
        lambda s: nets.ResNet((3, 3, 3), CIFAR, "A", False, False, 3, 10),
        (32, 27),
        3,
    ),
    "cifar_resnet14": (
        {"shortcut": "C"},
        lambda s: nets.ResNet((2, 2, 2), CIFAR, "C", False, False, 3, 10),
        (32,),
        3,
    ),
    "cifar_preresnet20": (
        {},
        lambda s: nets.PreactResNet((3, 3, 3), CIFAR, "A", False, 3, 10),
        (32,),
        3,
    ),
}


def randomised(net, seed=0):
    """Every parameter and every running statistic at random, so that nothing agrees by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim > 1:
                fan = value[0].numel()
                value.normal_(0, fan**-0.5, generator=generator)
            elif value.is_floating_point():
                value.uniform_(0.1, 0.6, generator=generator)
    return net.eval()


def both(name, size):
    fields, make, _, channels = CASES[name]
    net = randomised(make(size))
    model = create_model(name, **fields)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    if name == "cifar_preresnet20" or name.startswith("preresnet"):
        state = {key.replace("shortcut_conv", "shortcut"): value for key, value in state.items()}
    shape = (size, size, channels)
    variables = from_torch(model, shape, state)
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    return net, model, variables, images


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, case in CASES.items() for size in case[2]]
)
def test_logits_equal_pytorchs(name, size):
    net, model, variables, images = both(name, size)
    with torch.no_grad():
        expected = net(torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()).numpy()
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    found = np.asarray(apply(variables, jnp.asarray(images)))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "size"), [("googlenet_aux", 224), ("googlenet_torchvision_aux", 97)]
)
def test_auxiliary_logits_equal_pytorchs(name, size):
    net, model, variables, images = both(name, size)
    model = model.clone(dropout=0.0, aux_dropout=0.0)
    net.train()  # batch statistics, as sown logits exist while training only
    with torch.no_grad():
        expected = net.auxiliary(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    _, sown = jax.jit(
        lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats", "auxiliary"])
    )(variables, images)
    for head, logits in zip(("aux1", "aux2"), expected, strict=True):
        (found,) = sown["auxiliary"][head]
        assert np.abs(found - logits.numpy()).max() <= 1e-3 * np.abs(logits.numpy()).max()


@pytest.mark.parametrize("name", ["resnet18", "googlenet_torchvision_aux", "vgg11", "lenet5"])
def test_export_is_the_inverse_of_import(name):
    size = CASES[name][2][-1]
    net, model, variables, _ = both(name, size)
    state = net.state_dict()
    exported = to_torch(model, variables)
    assert {key for key in state if not key.endswith("num_batches_tracked")} == set(exported)
    for key, array in exported.items():
        np.testing.assert_array_equal(array, state[key].numpy())
    net.load_state_dict({key: torch.from_numpy(array) for key, array in exported.items()})

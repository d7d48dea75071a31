"""torchvision's weights of detectors and of FCN, imported: logits and moves are PyTorch's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")

from cnnjax import create_model  # noqa: E402
from cnnjax.interop.layout import transposed_convolution  # noqa: E402
from cnnjax.interop.mapping import from_torch, to_torch  # noqa: E402
from cnnjax.interop.torch_names import family_arrays  # noqa: E402
from cnnjax.interop.variables import flat  # noqa: E402
from cnnjax.interop.weights import read_variables, usual_normalization  # noqa: E402
from cnnjax.ops.roi_align import pyramid_levels, pyramid_roi_align  # noqa: E402
from tests.interop import torch_detector_nets as nets  # noqa: E402
from tests.interop.test_parity import randomised  # noqa: E402

torch.set_num_threads(1)
SMALL = {"backbone": "resnet18", "backbone_fields": {"normalization": "frozen"}}


def both(net, model, size):
    net = randomised(net)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    shape = (size, size, 3)
    variables = from_torch(model, shape, state)
    back = to_torch(model, variables)
    assert set(back) == {name for name in state if "num_batches" not in name}
    images = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    same = torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()
    return net, jax.tree.map(jnp.asarray, variables), jnp.asarray(images), same


def close(found, expected):
    expected = expected.detach().numpy()
    assert found.shape == expected.shape
    assert np.abs(np.asarray(found) - expected).max() <= 1e-4 * np.abs(expected).max()


def tensors(*arrays):
    return [torch.from_numpy(np.array(array)) for array in arrays]


def same_answer(found, expected, most):
    """Of one image: the same boxes in the same order, within the rounding of the logits.

    torchvision's one-stage detectors also give boxes that the image's edge leaves without area.
    """
    boxes, scores, labels = expected
    some = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores, labels = (values[some][:most] for values in (boxes, scores, labels))
    count = len(labels)
    assert count > 1
    there = np.asarray(found["labels"][0]) >= 0
    assert there.sum() == count
    assert there[:count].all()
    np.testing.assert_array_equal(found["labels"][0][:count], labels)
    np.testing.assert_allclose(found["scores"][0][:count], scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["boxes"][0][:count], boxes, rtol=1e-3, atol=0.02)


def test_fcn_resnet50():
    model = create_model("fcn_resnet50", num_classes=5, dropout=0.0)
    net, variables, images, same = both(nets.FCN(5), model, 64)
    with torch.no_grad():
        logits, auxiliary = net(same)
    close(model.apply(variables, images, train=False).transpose(0, 3, 1, 2), logits)
    net.train()
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.no_grad():
        _, auxiliary = net(same)
    _, sown = model.apply(variables, images, train=True, mutable=["batch_stats", "auxiliary"])
    found = sown["auxiliary"]["aux"][0].transpose(0, 3, 1, 2)
    assert np.abs(found - auxiliary.numpy()).max() <= 1e-3 * np.abs(auxiliary.numpy()).max()


@pytest.mark.parametrize("extra", ["p5", "c5"])
def test_retinanet(extra):
    model = create_model("retinanet", num_classes=3, extra=extra, **SMALL)
    net, variables, images, same = both(nets.RetinaNet(3, extra), model, 128)
    found = model.apply(variables, images, train=False)
    outputs = net(same)
    for name, expected in outputs.items():
        close(found[name], expected)
    (anchors,) = tensors(model.anchor_boxes(128, 128))
    counts = [9 * (128 // stride) ** 2 for stride in (8, 16, 32, 64, 128)]
    classes, moves = (outputs[name][0].detach() for name in ("classes", "boxes"))
    expected = nets.retinanet_boxes(classes, moves, anchors, counts, (128, 128))
    same_answer(model.detections(found, (128, 128)), expected, 300)


@pytest.mark.parametrize(
    ("name", "class_of"), [("faster_rcnn", nets.FasterRCNN), ("mask_rcnn", nets.MaskRCNN)]
)
def test_two_stages(name, class_of):
    more = {"most": 10} if name == "mask_rcnn" else {}
    model = create_model(name, num_classes=4, proposals=20, **SMALL, **more)
    net, variables, images, same = both(class_of(4), model, 128)
    found = model.apply(variables, images, train=False)
    for key, expected in zip(("anchor_scores", "anchor_moves"), net.proposed(same), strict=True):
        close(found[key], expected)
    maps = [jnp.asarray(m.detach().numpy().transpose(0, 2, 3, 1)[0]) for m in net.backbone(same)]

    def pooled(regions, size):
        scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        levels = pyramid_levels(regions, 2, 5)
        seen = pyramid_roi_align(maps[:4], regions, levels, output_size=size, scales=scales)
        return torch.from_numpy(np.array(seen.transpose(0, 3, 1, 2)))

    classes, moves = net.judged(pooled(found["regions"][0], 7))
    close(found["classes"][0], classes)
    close(found["moves"][0], moves)
    counts = [3 * (128 // stride) ** 2 for stride in (4, 8, 16, 32, 64)]
    (anchors,) = tensors(model.anchor_boxes(128, 128))
    proposed = (x[0].detach() for x in net.proposed(same))
    regions = nets.proposals(*proposed, anchors, counts, (128, 128), most=20)
    close(found["regions"][0][: len(regions)], regions)
    assert int(found["there"].sum()) == len(regions)
    judged = classes.detach()[: len(regions)], moves.detach()[: len(regions)]
    expected = nets.region_boxes(*judged, regions, (128, 128))
    same_answer(model.detections(found, (128, 128)), expected, model.most)
    if name == "mask_rcnn":
        labels = np.maximum(found["mask_labels"][0], 0)
        assert (np.asarray(found["mask_labels"][0]) >= 0).any()
        masks = net.masks(pooled(found["mask_boxes"][0], 14))
        close(found["mask_logits"][0], masks[np.arange(10), 1 + labels])


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet"])
def test_files_that_torchvision_published_have_older_names(name, tmp_path):
    fields = {**SMALL, "num_classes": 3}
    model = create_model(name, **fields)
    net = nets.MaskRCNN(3) if name == "mask_rcnn" else nets.RetinaNet(3, "p5")
    state = randomised(net).state_dict()
    today = {key: value for key, value in state.items() if "num_batches" not in key}

    def older(key):
        for pattern, form in (
            (r"(inner_blocks|layer_blocks)\.(\d)\.0", r"\1.\2"),
            (r"rpn\.head\.conv\.0\.0", "rpn.head.conv"),
            (r"mask_head\.(\d)\.0", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}"),
            (r"head\.conv\.(\d)\.0", lambda m: f"head.conv.{2 * int(m[1])}"),
        ):
            key = re.sub(pattern, form, key)
        return key

    before = {older(key): value for key, value in today.items()}
    assert len(set(before) - set(today)) > 10
    found = []
    for number, state in enumerate((today, before)):
        torch.save(state, tmp_path / f"{number}.pth")
        read = read_variables(tmp_path / f"{number}.pth", model, (128, 128, 3))
        found.append(read[0])
    assert "older torchvision's names" in " ".join(read[1])
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, found), strict=True))


def test_ssd300():
    model = create_model("ssd300", num_classes=2)
    net, variables, images, same = both(nets.SSD300(2), model, 300)
    found = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    with torch.no_grad():
        expected = net(same)
    assert found["classes"].shape == (1, 8_732, 3)
    assert usual_normalization(model, (300, 300, 3)) == "caffe"
    for name, values in expected.items():
        close(found[name], values)
    (anchors,) = tensors(model.anchors(300, 300))
    outputs = (expected[name][0] for name in ("classes", "boxes"))
    boxes = nets.ssd_boxes(*outputs, anchors, (300, 300))
    same_answer(model.detections(found, (300, 300)), boxes, 200)


@pytest.mark.parametrize("name", ["mask_rcnn", "faster_rcnn", "retinanet", "fcn_resnet50"])
def test_every_transposed_convolution_is_known_as_one(name):
    """Where its channels are alike, a wrong layout loads without a word."""
    model = create_model(name, num_classes=3)
    seen = []

    def watched(call, arguments, options, context):
        if type(context.module).__name__ == "ConvTranspose":
            seen.append("/".join(context.module.path))
        return call(*arguments, **options)

    def made():
        with nn.intercept_methods(watched):
            return model.init(jax.random.key(0), jnp.zeros((1, 128, 128, 3)), train=False)

    shapes = {path: leaf.shape for path, leaf in flat(jax.eval_shape(made)).items()}
    found = family_arrays(model, shapes)
    kernels = {path: "/".join(path[1:-1]) for path in shapes if path[-1] == "kernel"}
    transposed = [
        module for path, module in kernels.items()
        if found[path].layout == transposed_convolution(2)
    ]  # fmt: skip
    assert transposed == sorted(set(seen))
    assert bool(seen) == (name == "mask_rcnn")

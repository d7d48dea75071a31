"""torchvision's own detectors and FCN at full size, from an image to the answer, where it is there.

What is written out in this folder is tested wherever PyTorch is; here its source itself answers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")
try:
    from torchvision import ops
    from torchvision.models import detection, segmentation
except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another PyTorch
    pytest.skip(f"torchvision, an oracle of tests: {error}", allow_module_level=True)

from cnnjax import create_model  # noqa: E402
from cnnjax.interop.mapping import from_torch  # noqa: E402
from cnnjax.ops.boxes import giou, iou  # noqa: E402
from cnnjax.ops.losses import focal_loss  # noqa: E402
from cnnjax.ops.nms import non_max_suppression  # noqa: E402
from cnnjax.ops.roi_align import roi_align  # noqa: E402

NETS = {  # with the pixels of a side, and torchvision's label of our class 0
    "ssd300": (detection.ssd300_vgg16, 300, 1),
    "retinanet": (detection.retinanet_resnet50_fpn, 320, 0),
    "faster_rcnn": (detection.fasterrcnn_resnet50_fpn, 320, 1),
    "mask_rcnn": (detection.maskrcnn_resnet50_fpn, 320, 1),
}
PLAIN = {"weights": None, "weights_backbone": None}
AS_IT_IS = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}  # images are not normalised


def images_of(size):
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    return jnp.asarray(images), torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def measured(net, images):
    """With running statistics of these images: else each block doubles the variance."""
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        net.backbone.train()(images)
    return net.eval()


def imported(model, net, size):
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    return jax.tree.map(jnp.asarray, from_torch(model, (size, size, 3), state))


@pytest.mark.parametrize("name", NETS)
def test_a_detector_finds_what_torchvisions_finds(name):
    """Where scores are equal to rounding, their order is not compared."""
    make, size, first = NETS[name]
    torch.manual_seed(0)
    sides = {} if name == "ssd300" else {"min_size": size, "max_size": size}
    net = make(**PLAIN, **AS_IT_IS, **sides, num_classes=91)
    net.transform.postprocess = lambda found, *_: found  # masks of 28x28, not laid into the image
    images, same = images_of(size)
    measured(net, same)
    scored = ("cls_logits", "cls_score", "classification_head.module_list")
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if not any(part in key for part in scored):
                continue
            if value.ndim == 1:
                value.fill_(-1.0)
            else:  # scores that are apart
                value.mul_(1.5 / value.flatten(1).norm(dim=1).mean())
        expected = net(list(same))
    model = create_model(name, num_classes=91 - first)
    found = jax.jit(
        lambda variables, images: model.detections(
            model.apply(variables, images, train=False), (size, size)
        )
    )(imported(model, net, size), images)
    for index, of_one in enumerate(expected):
        ours = {key: np.asarray(value[index]) for key, value in found.items()}
        theirs = {key: value.numpy() for key, value in of_one.items()}
        assert len(theirs["scores"]) == (ours["labels"] >= 0).sum() >= 100
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1e-4)
        alike = (ours["labels"][:, None] + first == theirs["labels"]) & (
            abs(ours["boxes"][:, None] - theirs["boxes"]).max(-1) < 0.05
        )
        # The last ones may be others, whose scores are theirs to rounding.
        among = theirs["scores"] > theirs["scores"][-1] + 1e-4
        assert among.sum() > 90
        assert alike[:, among].any(0).all()
        if name == "mask_rcnn":
            place = alike[:, among].argmax(0)
            masks = theirs["masks"][among, 0]
            np.testing.assert_allclose(ours["masks"][place], masks, rtol=0, atol=1e-3)


def scenes(size):
    """Of two images four objects each, one in each quarter: boxes, labels, maps of discs."""
    rng = np.random.default_rng(2)
    quarters = size / 2 * np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    near = np.rint(quarters + rng.uniform(5, 40, (2, 4, 2)))
    far = np.rint(near + rng.uniform(40, 100, near.shape))
    rows, columns = np.mgrid[:size, :size] + 0.5
    maps = np.zeros((2, size, size), np.uint8)
    for image in range(2):
        for place in range(4):
            (x, y), (a, b) = (near + far)[image, place] / 2, (far - near)[image, place] / 2
            maps[image][((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1] = 1 + place
    boxes = np.concatenate([near, far], axis=2).astype(np.float32)
    return boxes, rng.integers(0, 80, (2, 4)).astype(np.int32), maps


@pytest.mark.parametrize("name", NETS)
def test_what_is_minimised_of_an_image_is_torchvisions(name):
    """No two anchors are tied for an object: both are positive here, one of them there. Of two
    stages every anchor and region is asked, so nothing is drawn."""
    make, size, first = NETS[name]
    two = name.endswith("rcnn")
    torch.manual_seed(0)
    options = {} if name == "ssd300" else {"min_size": size, "max_size": size}
    if two:
        options |= {"rpn_batch_size_per_image": 10**7, "box_batch_size_per_image": 10**7}
    net = make(**PLAIN, **AS_IT_IS, **options, num_classes=91)
    images, same = images_of(size)
    measured(net, same)
    net.train().backbone.eval()
    boxes, labels, maps = scenes(size)
    all_asked = {"asked": 10**6, "sampled": 10**4} if two else {}
    model = create_model(name, num_classes=91 - first, **all_asked)
    truth = {"boxes": jnp.asarray(boxes), "box_labels": jnp.asarray(labels)}
    more = {**truth, "train": True, "rngs": {"dropout": jax.random.key(0)}}
    outputs = model.apply(imported(model, net, size), images, **(more if two else {"train": False}))
    masks = {"object_map": jnp.asarray(maps)} if name == "mask_rcnn" else {}
    found = model.detection_losses(outputs, *truth.values(), (size, size), **masks)
    # torchvision samples the true mask of a large box more than twice in a pixel of its 28x28.
    near = 2e-4 if name == "mask_rcnn" else 1e-5
    for index, loss in enumerate(found):
        target = {
            "boxes": torch.from_numpy(boxes[index]),
            "labels": torch.from_numpy(labels[index] + first).long(),
            "masks": torch.from_numpy(maps[index] == np.arange(1, 5)[:, None, None]).byte(),
        }
        with torch.no_grad():
            parts = net([same[index]], [target])
        assert float(loss) == pytest.approx(float(sum(parts.values())), rel=near)


def test_fcn_gives_the_logits_of_torchvisions():
    torch.manual_seed(0)
    net = segmentation.fcn_resnet50(**PLAIN, num_classes=21, aux_loss=True)
    images, same = images_of(160)
    measured(net, same)
    model = create_model("fcn_resnet50")
    with torch.no_grad():
        expected = net(same)["out"].numpy().transpose(0, 2, 3, 1)
    found = model.apply(imported(model, net, 160), images, train=False)
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()


def corners_of(rng, count, size):
    near = rng.uniform(0, size * 0.8, (count, 2))
    far = near + rng.uniform(0.5, size * 0.5, (count, 2))
    return np.concatenate([near, far], axis=1).astype(np.float32)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("side", "scale"), [(16, 1 / 4), (64, 1 / 8)])
def test_regions_are_cut_as_torchvision_cuts_them(side, scale, aligned):
    """On a map that is read by products, and on one by indices."""
    rng = np.random.default_rng(0)
    boxes = corners_of(rng, 50, side / scale)  # some leave the image
    features = rng.normal(size=(side, side, 3)).astype(np.float32)
    maps = torch.from_numpy(features.transpose(2, 0, 1)[None].copy())
    options = {"output_size": 7, "sampling_ratio": 2, "aligned": aligned}
    wanted = ops.roi_align(maps, [torch.from_numpy(boxes)], spatial_scale=scale, **options)
    found = roi_align(jnp.asarray(features), jnp.asarray(boxes), scale=scale, **options)
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), wanted, rtol=0, atol=2e-5)


def test_boxes_and_losses_are_torchvisions():
    rng = np.random.default_rng(0)
    boxes, others = corners_of(rng, 80, 100), corners_of(rng, 60, 100)
    for ours, theirs in (
        (iou, ops.box_iou),
        (giou, ops.generalized_box_iou),
    ):
        wanted = theirs(torch.from_numpy(boxes), torch.from_numpy(others))
        np.testing.assert_allclose(
            ours(jnp.asarray(boxes), jnp.asarray(others)), wanted, rtol=0, atol=1e-6
        )
    scores = rng.permutation(80).astype(np.float32)
    labels = rng.integers(0, 3, 80).astype(np.int32)
    given, there = (boxes, scores, labels), jnp.ones(80, bool)
    kept = np.asarray(non_max_suppression(*map(jnp.asarray, given), there, 0.3))
    wanted = ops.batched_nms(*map(torch.from_numpy, given), 0.3)
    assert sorted(wanted.tolist()) == np.flatnonzero(kept).tolist()
    logits = rng.normal(size=(40, 5)).astype(np.float32) * 4
    truth = (rng.random((40, 5)) < 0.2).astype(np.float32)
    wanted = ops.sigmoid_focal_loss(torch.from_numpy(logits), torch.from_numpy(truth))
    np.testing.assert_allclose(
        focal_loss(jnp.asarray(logits), jnp.asarray(truth)), wanted, rtol=1e-4, atol=1e-7
    )

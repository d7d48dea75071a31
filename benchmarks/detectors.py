"""Milliseconds an image of detectors, in turn: medians. Non-maximum suppression is included.

Run: python benchmarks/detectors.py [--size 48] [--batch 1] [--rounds 30] [NETWORK...]
On an accelerator, beside torchvision's (which needs torchvision) in the same run:
  python benchmarks/detectors.py --size 800 --channels 3 --batch 8 --precision bfloat16 \
    --train --torchvision retinanet faster_rcnn

--train times a loss and its gradients, ten objects an image. torchvision's nets get images of the
size that is asked for, weights at random as ours, and compute in eager mode, by autocast where the
precision is bfloat16; theirs are warmed up as ours are.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch is on the same card

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import create_model

OBJECTS = 10
THEIRS = {
    "ssd300": "ssd300_vgg16",
    "retinanet": "retinanet_resnet50_fpn",
    "faster_rcnn": "fasterrcnn_resnet50_fpn",
}

Run = Callable[[], Any]
Scenes = tuple[np.ndarray, np.ndarray, np.ndarray]  # images, boxes, labels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--size", type=int, default=48, help="pixels of a side")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--train", action="store_true", help="a loss and its gradients, too")
    parser.add_argument("--torchvision", action="store_true", help="beside torchvision's")
    options = parser.parse_args()
    names = options.networks or ["tiny_ssd", "tiny_faster_rcnn", "tiny_rcnn"]
    shape = (options.batch, options.size, options.size, options.channels)
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape).astype(np.float32)
    corners = rng.uniform(0, options.size / 2, (options.batch, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + options.size / 4], axis=2).astype(np.float32)
    labels = rng.integers(0, 3, (options.batch, OBJECTS)).astype(np.int32)
    scenes = images, boxes, labels
    runs: dict[str, Run] = {}
    for name in names:
        for train in (False, True)[: 1 + options.train]:
            case = f"{name} training" if train else name
            runs[case] = ours(name, options.precision, train, scenes)
            if options.torchvision:
                runs[f"{case}, torchvision's"] = theirs(name, options.precision, train, scenes)
    seconds: dict[str, list[float]] = {case: [] for case in runs}
    for run in runs.values():
        run()
    for _ in range(options.rounds):
        for case, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[case].append((time.perf_counter() - begin) / options.batch)
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, {options.precision}, images {shape}")
    for case, found in seconds.items():
        low, middle, high = (1000 * one for one in statistics.quantiles(found, n=4))
        speed = f"{1000 / middle:,.3g} images a second"
        print(f"{case:40} {middle:8.2f} ms an image (quartiles {low:.2f}, {high:.2f}), {speed}")


def ours(name: str, precision: str, train: bool, scenes: Scenes) -> Run:
    """Images to detections, or to the gradients of the loss; compiled."""
    images, boxes, labels = scenes
    model: Any = create_model(name, dtype=precision)
    size, given = images.shape[1:3], jnp.asarray(images)
    variables = jax.jit(lambda: model.init(jax.random.key(0), given, train=False))()
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    truth = {"boxes": jnp.asarray(boxes), "box_labels": jnp.asarray(labels)}
    drawing = hasattr(model, "region_losses")  # a second stage learns on regions that are drawn

    @jax.jit
    def found(params: Any, images: jax.Array) -> Any:
        return model.detections(model.apply({"params": params, **rest}, images, train=False), size)

    @jax.jit
    @jax.grad
    def gradients(params: Any, images: jax.Array) -> jax.Array:
        outputs, _ = model.apply(
            {"params": params, **rest},
            images,
            train=True,
            **(truth if drawing else {}),
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return model.detection_losses(outputs, *truth.values(), size).mean()

    program = gradients if train else found
    return lambda: jax.block_until_ready(program(params, given))


def theirs(name: str, precision: str, train: bool, scenes: Scenes) -> Run:
    """The same of torchvision's network of that name, eager."""
    import torch
    import torchvision

    images, boxes, labels = scenes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = images.shape[1]
    make = getattr(torchvision.models.detection, THEIRS[name])
    sizes = {} if name == "ssd300" else {"min_size": side, "max_size": side}
    model = make(weights=None, weights_backbone=None, **sizes).to(device).train(train)
    given = list(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device))
    targets = [
        {"boxes": torch.from_numpy(box).to(device), "labels": torch.from_numpy(label + 1).long()}
        for box, label in zip(boxes, labels, strict=True)
    ]
    targets = [{key: value.to(device) for key, value in one.items()} for one in targets]
    half = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    def found() -> None:
        with half, torch.no_grad():
            model(given)
        _wait(torch)

    def gradients() -> None:
        model.zero_grad(set_to_none=True)
        with half:
            loss = sum(model(given, targets).values())
        loss.backward()
        _wait(torch)

    return gradients if train else found


def _wait(torch: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

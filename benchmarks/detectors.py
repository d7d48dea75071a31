"""Milliseconds an image of detection, non-maximum suppression included, in turn: medians.

Run: python benchmarks/detectors.py [--size 48] [--batch 1] [--rounds 30] [NETWORK...]
"""

import argparse
import statistics
import time

import jax

from cnnjax import create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--size", type=int, default=48, help="pixels of a side")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    names = options.networks or ["tiny_ssd", "tiny_faster_rcnn", "tiny_rcnn"]
    shape = (options.batch, options.size, options.size, options.channels)
    images = jax.random.normal(jax.random.key(0), shape)
    programs = {name: _program(name, images) for name in names}
    seconds = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, run in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(run(images))
            seconds[name].append((time.perf_counter() - begin) / options.batch)
    print(f"jax {jax.__version__}, {jax.default_backend()}, images {shape}")
    for name, found in seconds.items():
        low, middle, high = (1000 * one for one in statistics.quantiles(found, n=4))
        print(f"{name:20} {middle:8.2f} ms an image (quartiles {low:.2f}, {high:.2f})")


def _program(name: str, images: jax.Array):
    """Images to detections, compiled."""
    model = create_model(name)
    variables = model.init(jax.random.key(0), images, train=False)

    @jax.jit
    def found(images: jax.Array) -> dict[str, jax.Array]:
        return model.detections(model.apply(variables, images, train=False), images.shape[1:3])

    jax.block_until_ready(found(images))
    return found


if __name__ == "__main__":
    main()

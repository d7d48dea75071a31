"""The table behind `ops.conv.choose`: how long each formulation takes, by shape, on a processor.

Nine 3x3 convolutions with ReLU under `scan`, forward and both gradients, on one thread, in turns;
medians of milliseconds, and the fastest. `banded` is a candidate that is not among them: the width
is folded into the channels. JSON on standard output, a table on standard error.

    python benchmarks/convolution.py [--rounds N] [--shapes N,H,C ...]
"""

import argparse
import json
import statistics
import sys
import time
from functools import partial

from cnnjax.core.environment import bits, compiler_options, configure_xla, machine, versions

configure_xla(threads=1)

FORMS = ("canonical", "im2col", "banded")  # the last is of this file
# Of the quick study (width 0.5) and of its plain twin at full width, and of CIFAR's stages.
SHAPES = ("96,8,8", "96,4,16", "96,2,32", "96,8,16", "96,4,32", "96,2,64", "128,16,32", "128,8,64")
LAYERS, CALLS = 9, 5


def banded(images, kernel):
    """A 3x3 convolution with padding 1: one product for each row, three rows side by side.

    The kernel becomes a matrix [3 w c, w f], zero but for three bands; gradients are automatic.
    """
    import jax.numpy as jnp
    import numpy as np

    count, height, width, channels = images.shape
    places = np.stack([np.eye(width, k=1 - tap) for tap in range(3)])  # [tap, seen, column]
    bands = jnp.einsum("jab,ijcf->iacbf", jnp.asarray(places, kernel.dtype), kernel)
    rows = jnp.pad(images, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = rows.reshape(count, height + 2, width * channels)
    seen = jnp.concatenate([rows[:, i : i + height] for i in range(3)], axis=-1)
    features = kernel.shape[3]
    found = seen @ bands.reshape(seen.shape[-1], width * features)
    return found.reshape(count, height, width, features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    options = parser.parse_args()
    import jax

    from cnnjax.ops.conv import conv, formulation

    expected = conv(jax.numpy.ones((1, 4, 4, 2)), jax.numpy.ones((3, 3, 2, 3)), padding=1)
    same = banded(jax.numpy.ones((1, 4, 4, 2)), jax.numpy.ones((3, 3, 2, 3)))
    assert abs(expected - same).max() < 1e-5, "banded is no convolution"

    found = {}
    for shape in options.shapes:
        count, size, channels = map(int, shape.split(","))
        key = jax.random.key(0)
        images = jax.random.normal(key, (count, size, size, channels))
        kernels = jax.random.normal(key, (LAYERS, 3, 3, channels, channels)) / (3 * channels**0.5)

        def loss(form, images, kernels):
            def layer(x, kernel):
                y = banded(x, kernel) if form == "banded" else conv(x, kernel, padding=1)
                return jax.nn.relu(y), None

            return jax.lax.scan(layer, images, kernels)[0].sum()

        programs, took = {}, {form: [] for form in FORMS}
        for form in FORMS:
            with formulation(None if form == "banded" else form):
                gradients = jax.jit(jax.grad(partial(loss, form), (0, 1)))
                traced = gradients.lower(images, kernels)
            programs[form] = traced.compile(compiler_options())
            jax.block_until_ready(programs[form](images, kernels))
        for turn in range(options.rounds):
            for form in FORMS[turn % len(FORMS) :] + FORMS[: turn % len(FORMS)]:
                start = time.perf_counter()
                for _ in range(CALLS):
                    jax.block_until_ready(programs[form](images, kernels))
                took[form].append(1000 * (time.perf_counter() - start) / CALLS)
        row = {form: round(statistics.median(all_), 2) for form, all_ in took.items()}
        found[shape] = {**row, "fastest": min(row, key=lambda form: row[form])}
        print(shape, found[shape], file=sys.stderr, flush=True)
    json.dump({"ms": found, "rounds": options.rounds, "machine": machine(),
               "versions": versions(), "bits": bits()}, sys.stdout, indent=2)  # fmt: skip


if __name__ == "__main__":
    main()

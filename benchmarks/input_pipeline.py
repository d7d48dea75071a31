"""Images a second and core: cnnjax's stream against PyTorch's DataLoader, side by side.

Both decode JPEGs, take a random-resized crop of 224 pixels, flip half of them and make batches of
64. PyTorch: Pillow, default settings (no workers), the image as float32 [3, 224, 224] in 0 to 1, as
torchvision's ToTensor makes it; one thread. Here: OpenCV, uint8, as the device normalises; one
reading thread. Rates are per second of processor time, medians of rounds in alternation; the pixels
of the same crops are compared.

    python benchmarks/input_pipeline.py DIR   (any folder with *.jpg in it or below)
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from cnnjax.core.environment import configure_xla, machine, versions

configure_xla(threads=1)

BATCH, SIZE, ROUNDS = 64, 224, 7


def main() -> None:
    import jax
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    from cnnjax.core.random import stream_keys
    from cnnjax.data.dataset import EncodedExamples, StreamedDataset
    from cnnjax.data.stream import training_stream
    from cnnjax.data.views import View, example_generator, random_box, random_view

    torch.set_num_threads(1)
    files = sorted(Path(sys.argv[1]).rglob("*.jpg"))
    count = len(files) // BATCH * BATCH
    files = files[:count]

    class Photographs(TorchDataset):
        def __len__(self):
            return count

        def __getitem__(self, index):
            generator = np.random.default_rng()
            with open(files[index], "rb") as file:
                picture = Image.open(file).convert("RGB")
            box = random_box(picture.size, generator)
            picture = picture.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            if generator.random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            array = torch.from_numpy(np.array(picture))
            return array.permute(2, 0, 1).contiguous().to(torch.float32).div(255), 0

    examples = EncodedExamples(lambda index: (files[index].read_bytes(), 0), count)
    ours = StreamedDataset(
        "photographs", ("all",), 255, "random_resized_crop", sys.argv[1],
        train=examples, test=examples, view=View(SIZE), fingerprint="",
    )  # fmt: skip
    keys = stream_keys(0)
    rates = {"pytorch": [], "cnnjax": []}
    for epoch in range(ROUNDS + 1):
        start = time.process_time()
        for _ in DataLoader(Photographs(), batch_size=BATCH, shuffle=True):
            pass
        rates["pytorch"].append(count / (time.process_time() - start))
        steps = count // BATCH
        start = time.process_time()
        stream = training_stream(
            ours, "random_resized_crop", keys, BATCH, epoch * steps, (epoch + 1) * steps, threads=1
        )
        for _ in stream:
            pass
        rates["cnnjax"].append(count / (time.process_time() - start))

    view = View(SIZE, "random_resized_crop")
    distances = []
    for index, file in enumerate(files):
        generator = example_generator((0, 0), 0, index)
        picture = Image.open(file).convert("RGB")
        box = random_box(picture.size, generator)
        theirs = np.asarray(picture.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR), int)
        flipped = generator.random() < 0.5
        mine = random_view(file.read_bytes(), view, example_generator((0, 0), 0, index))
        distances.append(np.abs(mine - (theirs[:, ::-1] if flipped else theirs)).mean())
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    json.dump(
        {
            "images_per_core_second": {name: round(value) for name, value in medians.items()},
            "ratio": round(medians["cnnjax"] / medians["pytorch"], 2),
            "ratio_by_round": [
                round(a / b, 2) for a, b in zip(rates["cnnjax"], rates["pytorch"], strict=True)
            ][1:],
            "mean_pixel_distance_of_255": round(float(np.mean(distances)), 2),
            "images": count,
            "rounds": ROUNDS,
            **machine(),
            "versions": {
                **versions(),
                "torch": torch.__version__,
                "jax_devices": len(jax.devices()),
            },
        },
        sys.stdout,
        indent=2,
    )


if __name__ == "__main__":
    main()

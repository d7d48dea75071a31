"""What a PyTorch user would write: the same networks, the data on the device, timed alike.

Prints one JSON object. Run: python benchmarks/pytorch_nets.py CASE..., a case being
MODEL:BATCH:PRECISION:FORM with FORM eager or compiled, e.g. cifar_resnet20:128:bfloat16:compiled;
or: python benchmarks/pytorch_nets.py --grid [SEEDS], the quick grid of the degradation study.
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = 5


class Block(nn.Module):
    """He et al. 2015, figure 2, with option A's shortcut or none."""

    def __init__(self, features_in: int, features: int, strides: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(features_in, features, 3, strides, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)
        self.strides, self.shortcut = strides, shortcut
        self.more = features - features_in

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut == "none":
            return functional.relu(y)
        x = x[:, :, :: self.strides, :: self.strides]
        if self.more:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.more))
        return functional.relu(y + x)


class ResNetCifar(nn.Module):
    """He et al. 2015, section 4.2."""

    def __init__(self, depth: int, width: float = 1.0, channels: int = 3, shortcut: str = "A"):
        super().__init__()
        sizes = [int(16 * width), int(32 * width), int(64 * width)]
        layers = [nn.Conv2d(channels, sizes[0], 3, 1, 1, bias=False), nn.BatchNorm2d(sizes[0]),
                  nn.ReLU()]  # fmt: skip
        before = sizes[0]
        for stage, features in enumerate(sizes):
            for block in range((depth - 2) // 6):
                strides = 2 if stage and not block else 1
                layers.append(Block(before, features, strides, shortcut))
                before = features
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def network(name: str, **fields) -> tuple[nn.Module, int, int]:
    """A network with the size of its images and its number of classes."""
    if name.startswith("cifar_resnet"):
        return ResNetCifar(int(name.removeprefix("cifar_resnet")), **fields), 32, 10
    try:
        import torchvision
    except (ImportError, RuntimeError):  # RuntimeError: it was built for another PyTorch
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.interop.torch_nets import ResNet  # equal to torchvision's: test_parity.py

        assert name == "resnet50", f"{name}: install torchvision, or take resnet50"
        widths = (64, 128, 256, 512)
        return ResNet((3, 4, 6, 3), widths, "B", True, False, 7, 1000), 224, 1000
    return getattr(torchvision.models, name)(), 224, 1000


def trainer(name: str, batch: int, precision: str, form: str):
    """A function of indices that trains one step on a set that lies on the device."""
    model, size, classes = network(name)
    model = model.to(DEVICE, memory_format=torch.channels_last)
    if form == "compiled":
        model = torch.compile(model, mode="reduce-overhead" if DEVICE == "cuda" else None)
    images = torch.randint(0, 256, (4 * batch, 3, size, size), dtype=torch.uint8, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (4 * batch,), device=DEVICE)
    options = {"fused": True} if DEVICE == "cuda" else {}
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, **options)

    def step(indices):
        x = images[indices].float().div_(255).sub_(0.5)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = functional.cross_entropy(model(x), labels[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def settle() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def bench(case: str) -> dict:
    """Milliseconds of a step: median and range of five rounds of half a second."""
    name, batch, precision, form = case.split(":")
    step = trainer(name, int(batch), precision, form)
    indices = torch.randperm(4 * int(batch), device=DEVICE)[: int(batch)]
    begin = time.perf_counter()
    for _ in range(5):
        step(indices)
    settle()
    warm_up = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(3):
        step(indices)
    settle()
    count = max(3, round(0.5 / ((time.perf_counter() - begin) / 3)))
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            step(indices)
        settle()
        found.append(1000 * (time.perf_counter() - begin) / count)
    memory = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return {
        "step_ms": statistics.median(found),
        "least_ms": min(found),
        "most_ms": max(found),
        "warm_up_seconds": warm_up,
        "peak_memory_bytes": memory,
    }


def grid(epochs: int = 15, seed: int = 0) -> dict:
    """Seconds of one seed of each variant of the quick degradation study: the digits, width 0.5,
    batch 96, with an evaluation after each epoch."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    split = train_test_split(digits.images, digits.target, test_size=0.25, random_state=0)
    parts = [torch.as_tensor(part).to(DEVICE) for part in split]
    train, test = (part.float().div(16).sub(0.3)[:, None] for part in parts[:2])
    labels, test_labels = parts[2].long(), parts[3].long()
    found = {}
    for shortcut in ("none", "A"):
        for depth in (8, 20, 32, 56):
            torch.manual_seed(seed)
            model = ResNetCifar(depth, 0.5, 1, shortcut).to(DEVICE)
            optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
            steps, done = epochs * (len(train) // 96), 0
            begin = time.perf_counter()
            for _ in range(epochs):
                model.train()
                order = torch.randperm(len(train), device=DEVICE)
                for start in range(0, len(train) - 95, 96):
                    rate = 0.025 * (1 + math.cos(math.pi * done / steps))
                    optimizer.param_groups[0]["lr"] = rate
                    batch = order[start : start + 96]
                    loss = functional.cross_entropy(model(train[batch]), labels[batch])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    done += 1
                model.eval()
                with torch.no_grad():
                    error = (model(test).argmax(1) != test_labels).float().mean()
                    float(error)
            with torch.no_grad():
                float((model(train).argmax(1) != labels).float().mean())
            settle()
            found[f"{shortcut}-{depth}"] = time.perf_counter() - begin
    return found


def main() -> None:
    torch.backends.cudnn.benchmark = True
    about = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
    cases = sys.argv[1:]
    if cases[:1] == ["--grid"]:
        first = grid()
        for seed in range(1, int(cases[1]) if len(cases) > 1 else 1):
            grid(seed=seed)
        print(json.dumps({**about, "seconds": first}))
        return
    found = {}
    for case in cases:
        try:
            found[case] = bench(case)
        except Exception as error:  # one that does not compile must not hide the others
            found[case] = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(case, found[case], file=sys.stderr, flush=True)
    print(json.dumps({**about, "steps": found}))


if __name__ == "__main__":
    main()

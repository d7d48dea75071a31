"""The family written out in PyTorch, with torchvision's names: the oracle of the parity tests."""

import torch
from torch import nn


def conv_bn(inputs, outputs, size, stride=1, eps=1e-5):
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs, eps=eps)


class Block(nn.Module):
    """Basic or bottleneck; stride in the first 1x1 (v1) or in the 3x3 (v1.5); shortcut A to C."""

    def __init__(self, inputs, features, stride, shortcut, bottleneck=False, v1=False):
        super().__init__()
        self.shortcut, self.stride = shortcut, stride
        if bottleneck:
            outputs = 4 * features
            self.conv1, self.bn1 = conv_bn(inputs, features, 1, stride if v1 else 1)
            self.conv2, self.bn2 = conv_bn(features, features, 3, 1 if v1 else stride)
            self.conv3, self.bn3 = conv_bn(features, outputs, 1)
        else:
            outputs = features
            self.conv1, self.bn1 = conv_bn(inputs, features, 3, stride)
            self.conv2, self.bn2 = conv_bn(features, features, 3)
            self.conv3 = None
        self.extra = outputs - inputs
        if shortcut == "C" or (shortcut == "B" and (stride > 1 or inputs != outputs)):
            self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride))
        else:
            self.downsample = None

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None:
            y = self.bn3(self.conv3(torch.relu(y)))
        if self.shortcut == "none":
            return torch.relu(y)
        if self.downsample is not None:
            return torch.relu(y + self.downsample(x))
        if self.stride > 1 or self.extra:
            x = nn.functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra)
            )
        return torch.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, sizes, widths, shortcut, bottleneck, v1, stem, classes):
        super().__init__()
        first = widths[0]
        self.conv1, self.bn1 = conv_bn(3, first, stem, 2 if stem == 7 else 1)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        inputs = first
        self.stages = []
        for index, (size, width) in enumerate(zip(sizes, widths, strict=True), 1):
            blocks = []
            for block in range(size):
                stride = 2 if index > 1 and block == 0 else 1
                blocks.append(Block(inputs, width, stride, shortcut, bottleneck, v1))
                inputs = width * (4 if bottleneck else 1)
            stage = nn.Sequential(*blocks)
            setattr(self, f"layer{index}", stage)
            self.stages.append(f"layer{index}")
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


class PreactBlock(nn.Module):
    """Our own names: no library has this net under a shared one."""

    def __init__(self, inputs, features, stride, shortcut, bottleneck, first):
        super().__init__()
        self.shortcut, self.stride, self.first = shortcut, stride, first
        outputs = features * (4 if bottleneck else 1)
        rows = [(inputs, features, 3, stride), (features, features, 3, 1)]
        if bottleneck:
            rows = [
                (inputs, features, 1, 1),
                (features, features, 3, stride),
                (features, outputs, 1, 1),
            ]
        self.count, self.extra = len(rows), outputs - inputs
        for index, (i, o, size, s) in enumerate(rows, 1):
            setattr(self, f"conv{index}", nn.Conv2d(i, o, size, s, size // 2, bias=False))
            if index > 1 or not first:
                setattr(self, f"norm{index}", nn.BatchNorm2d(i))
        if shortcut == "B" and (stride > 1 or self.extra):
            self.add_module("shortcut_conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        a = x if self.first else torch.relu(self.norm1(x))
        y = self.conv1(a)
        for index in range(2, self.count + 1):
            y = getattr(self, f"conv{index}")(torch.relu(getattr(self, f"norm{index}")(y)))
        if hasattr(self, "shortcut_conv"):
            return y + self.shortcut_conv(a)
        if self.stride > 1 or self.extra:
            x = nn.functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra)
            )
        return y + x


class PreactResNet(nn.Module):
    def __init__(self, sizes, widths, shortcut, bottleneck, stem, classes):
        super().__init__()
        self.stem = nn.ModuleDict()
        self.stem["conv"], self.stem["norm"] = conv_bn(3, widths[0], stem, 2 if stem == 7 else 1)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == 7 else nn.Identity()
        inputs, self.blocks = widths[0], []
        for stage, (size, width) in enumerate(zip(sizes, widths, strict=True), 1):
            for block in range(1, size + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                name = f"stage{stage}_block{block}"
                net = PreactBlock(inputs, width, stride, shortcut, bottleneck, stage == block == 1)
                setattr(self, name, net)
                self.blocks.append(name)
                inputs = width * (4 if bottleneck else 1)
        self.norm, self.head = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.stem["norm"](self.stem["conv"](x))))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(torch.relu(self.norm(x)).mean((2, 3)))

    def load_state_dict(self, state, strict=True):
        renamed = {
            key.replace("shortcut.", "shortcut_conv."): value for key, value in state.items()
        }
        return super().load_state_dict(renamed, strict=strict)


class VGG(nn.Module):
    """`kernels`: of each stage. `side`: of the last map, for the first dense layer."""

    def __init__(self, kernels, batch_norm, lrn, side, classes):
        super().__init__()
        layers, inputs = [], 3
        for features, stage in zip((64, 128, 256, 512, 512), kernels, strict=True):
            for size in stage:
                layers.append(nn.Conv2d(inputs, features, size, padding=size // 2))
                layers += [nn.BatchNorm2d(features)] if batch_norm else []
                layers.append(nn.ReLU())
                inputs = features
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, k=2) if lrn else None
        self.classifier = nn.Sequential(
            nn.Linear(512 * side * side, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == 1 and self.lrn is not None:
                x = self.lrn(x)
        return self.classifier(torch.flatten(x, 1))


class TimmVGG(VGG):
    """As timm names it: the dense layers are convolutions, the first over the whole last map."""

    def __init__(self, kernels, batch_norm, side, classes):
        super().__init__(kernels, batch_norm, False, side, classes)
        del self.classifier
        self.pre_logits, self.head = nn.Module(), nn.Module()
        self.pre_logits.fc1, self.pre_logits.fc2 = (
            nn.Conv2d(512, 4096, side),
            nn.Conv2d(4096, 4096, 1),
        )
        self.head.fc = nn.Linear(4096, classes)

    def forward(self, x):
        dense = self.pre_logits
        x = torch.relu(dense.fc2(torch.relu(dense.fc1(self.features(x)))))
        return self.head.fc(torch.flatten(x, 1))


class AlexNet(nn.Module):
    def __init__(self, features, groups, padding, lrn, adaptive, side, classes):
        super().__init__()
        a, b, c, d, e = features
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, a, 11, 4, padding),
                "3": nn.Conv2d(a, b, 5, padding=2, groups=groups),
                "6": nn.Conv2d(b, c, 3, padding=1),
                "8": nn.Conv2d(c, d, 3, padding=1, groups=groups),
                "10": nn.Conv2d(d, e, 3, padding=1, groups=groups),
            }
        )
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, k=2) if lrn else nn.Identity()
        self.pool = nn.MaxPool2d(3, 2)
        self.adaptive = nn.AdaptiveAvgPool2d(6) if adaptive else nn.Identity()
        side = 6 if adaptive else side
        self.classifier = nn.ModuleDict(
            {
                "1": nn.Linear(e * side * side, 4096),
                "4": nn.Linear(4096, 4096),
                "6": nn.Linear(4096, classes),
            }
        )

    def forward(self, x):
        f, c = self.features, self.classifier
        x = self.pool(self.lrn(torch.relu(f["0"](x))))
        x = self.pool(self.lrn(torch.relu(f["3"](x))))
        x = torch.relu(f["10"](torch.relu(f["8"](torch.relu(f["6"](x))))))
        x = torch.flatten(self.adaptive(self.pool(x)), 1)
        return c["6"](torch.relu(c["4"](torch.relu(c["1"](x)))))


class Unit(nn.Module):
    def __init__(self, inputs, outputs, size, stride=1, batch_norm=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=not batch_norm)
        if batch_norm:
            self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self.batch_norm = batch_norm

    def forward(self, x):
        x = self.conv(x)
        return torch.relu(self.bn(x) if self.batch_norm else x)


class Inception(nn.Module):
    def __init__(self, inputs, widths, kernel5, bn):
        super().__init__()
        one, reduce3, three, reduce5, five, project = widths
        self.branch1 = Unit(inputs, one, 1, 1, bn)
        self.branch2 = nn.Sequential(
            Unit(inputs, reduce3, 1, 1, bn), Unit(reduce3, three, 3, 1, bn)
        )
        self.branch3 = nn.Sequential(
            Unit(inputs, reduce5, 1, 1, bn), Unit(reduce5, five, kernel5, 1, bn)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), Unit(inputs, project, 1, 1, bn))

    def forward(self, x):
        return torch.cat(
            [b(x) for b in (self.branch1, self.branch2, self.branch3, self.branch4)], 1
        )


class Auxiliary(nn.Module):
    def __init__(self, inputs, classes, bn):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4) if bn else nn.AvgPool2d(5, 3)
        self.conv = Unit(inputs, 128, 1, 1, bn)
        self.fc1, self.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        x = torch.flatten(self.conv(self.pool(x)), 1)
        return self.fc2(torch.relu(self.fc1(x)))  # dropout is set to 0 in the tests


class GoogLeNet(nn.Module):
    def __init__(self, widths, kernel5, bn, last_pool, aux, classes):
        super().__init__()
        self.conv1 = Unit(3, 64, 7, 2, bn)
        self.conv2, self.conv3 = Unit(64, 64, 1, 1, bn), Unit(64, 192, 3, 1, bn)
        self.lrn = nn.Identity() if bn else nn.LocalResponseNorm(5, alpha=5e-4, k=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(last_pool, 2, ceil_mode=True)
        inputs = 192
        for name, row in widths.items():
            setattr(self, f"inception{name}", Inception(inputs, row, kernel5, bn))
            inputs = row[0] + row[2] + row[4] + row[5]
        if aux:
            self.aux1, self.aux2 = Auxiliary(512, classes, bn), Auxiliary(528, classes, bn)
        self.fc = nn.Linear(1024, classes)

    def maps(self, x):
        x = self.lrn(self.pool(self.conv1(x)))
        x = self.pool(self.lrn(self.conv3(self.conv2(x))))
        x = self.pool(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.pool4(self.inception4e(second))
        return first, second, self.inception5b(self.inception5a(x))

    def forward(self, x):
        return self.fc(self.maps(x)[2].mean((2, 3)))

    def auxiliary(self, x):
        first, second, _ = self.maps(x)
        return self.aux1(first), self.aux2(second)


class LeNet5(nn.Module):
    """The modern one, and the paper's with C3 as sums over single-map convolutions."""

    def __init__(self, table=None, codes=None):
        super().__init__()
        self.table = table
        self.c1, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        if table is None:
            self.c3, self.head = nn.Conv2d(6, 16, 5), nn.Linear(84, 10)
            return
        self.c3 = nn.Module()
        counts = [len(row) for row in table]
        for count in sorted(set(counts)):
            shape = (counts.count(count), count, 5, 5)
            setattr(self.c3, f"kernel{count}", nn.Parameter(torch.zeros(shape)))
        self.c3.bias = nn.Parameter(torch.zeros(16))
        self.s2, self.s4 = nn.Module(), nn.Module()
        for layer, maps in ((self.s2, 6), (self.s4, 16)):
            layer.coefficient = nn.Parameter(torch.zeros(maps))
            layer.bias = nn.Parameter(torch.zeros(maps))
        self.codes = torch.tensor(codes, dtype=torch.float32)

    def forward(self, x):
        if self.table is None:
            pool = nn.AvgPool2d(2)
            x = pool(torch.tanh(self.c1(x)))
            x = pool(torch.tanh(self.c3(x)))
            x = torch.tanh(self.c5(x))
            return self.head(torch.tanh(self.f6(torch.flatten(x, 1))))

        def squash(a):
            return 1.7159 * torch.tanh(2 / 3 * a)

        def subsample(layer, a):
            total = 4 * nn.functional.avg_pool2d(a, 2)
            scale, bias = layer.coefficient[:, None, None], layer.bias[:, None, None]
            return squash(scale * total + bias)

        x = subsample(self.s2, squash(self.c1(x)))
        seen, maps = {}, []
        for row in self.table:  # each map by itself
            kernel = getattr(self.c3, f"kernel{len(row)}")
            index = seen[len(row)] = seen.get(len(row), -1) + 1
            maps.append(nn.functional.conv2d(x[:, list(row)], kernel[index : index + 1]))
        x = torch.cat(maps, 1) + self.c3.bias[:, None, None]
        x = squash(self.c5(subsample(self.s4, squash(x))))
        x = squash(self.f6(torch.flatten(x, 1)))
        return -0.5 * ((x[:, None] - self.codes) ** 2).sum(-1)

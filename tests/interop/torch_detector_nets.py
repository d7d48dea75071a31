"""torchvision's detectors and FCN written out in PyTorch with its names, up to logits and moves;
and what it makes boxes of them by, one image at a time."""

import math

import torch
from torch import nn

from tests.interop import torch_nets as nets


class Body(nets.ResNet):
    """Maps of strides 4, 8, 16, 32; with `dilated` the last two stages have stride 8 too."""

    def __init__(self, dilated=False, sizes=(2, 2, 2, 2), bottleneck=False):
        super().__init__(sizes, (64, 128, 256, 512), "B", bottleneck, False, 7, 1)
        del self.fc
        for name, first, rest in (("layer3", 1, 2), ("layer4", 2, 4)) if dilated else ():
            for index, block in enumerate(getattr(self, name)):
                by = rest if index else first
                for conv in (block.conv1, block.conv2):
                    conv.stride = (1, 1)
                    if conv.kernel_size == (3, 3):
                        conv.dilation = conv.padding = (by, by)
                if block.downsample is not None:
                    block.downsample[0].stride, block.stride = (1, 1), 1

    def forward(self, x):
        x, maps = self.pool(torch.relu(self.bn1(self.conv1(x)))), []
        for name in self.stages:
            x = getattr(self, name)(x)
            maps.append(x)
        return maps


def head(inputs, inside, classes):
    conv, norm = nets.conv_bn(inputs, inside, 3)
    return nn.Sequential(conv, norm, nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(inside, classes, 1))


class FCN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = Body(dilated=True, sizes=(3, 4, 6, 3), bottleneck=True)
        self.classifier, self.aux_classifier = head(2048, 512, classes), head(1024, 256, classes)

    def forward(self, x):
        *_, third, last = self.backbone(x)
        return [
            nn.functional.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False)
            for y in (self.classifier(last), self.aux_classifier(third))
        ]


def wrapped(*layers):
    return nn.Sequential(*layers)


class Pyramid(nn.Module):
    def __init__(self, channels, extra):
        super().__init__()
        self.inner_blocks = nn.ModuleList(wrapped(nn.Conv2d(c, 256, 1)) for c in channels)
        self.layer_blocks = nn.ModuleList(
            wrapped(nn.Conv2d(256, 256, 3, padding=1)) for _ in channels
        )
        self.extra = extra
        if extra != "pool":
            first = channels[-1] if extra == "c5" else 256
            self.extra_blocks = nn.ModuleDict(
                {
                    "p6": nn.Conv2d(first, 256, 3, 2, 1),
                    "p7": nn.Conv2d(256, 256, 3, 2, 1),
                }
            )

    def forward(self, maps):
        inner = [block(x) for block, x in zip(self.inner_blocks, maps, strict=True)]
        found = [inner[-1]]
        for x in reversed(inner[:-1]):
            larger = nn.functional.interpolate(found[0], x.shape[-2:], mode="nearest")
            found.insert(0, x + larger)
        out = [block(x) for block, x in zip(self.layer_blocks, found, strict=True)]
        if self.extra == "pool":
            return [*out, nn.functional.max_pool2d(out[-1], 1, 2)]
        sixth = self.extra_blocks["p6"](maps[-1] if self.extra == "c5" else out[-1])
        return [*out, sixth, self.extra_blocks["p7"](torch.relu(sixth))]


class Backbone(nn.Module):
    def __init__(self, channels, extra):
        super().__init__()
        self.body, self.fpn, self.count = Body(), Pyramid(channels, extra), len(channels)

    def forward(self, x):
        return self.fpn(self.body(x)[-self.count :])


def per_anchor(x, size):
    """[n, a size, h, w] as [n, h w a, size]."""
    n, _, h, w = x.shape
    return x.view(n, -1, size, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, size)


class Tower(nn.Module):
    def __init__(self, last, outputs):
        super().__init__()
        self.conv = nn.ModuleList(wrapped(nn.Conv2d(256, 256, 3, padding=1)) for _ in range(4))
        self.last = last
        setattr(self, last, nn.Conv2d(256, outputs, 3, padding=1))

    def forward(self, x):
        for conv in self.conv:
            x = torch.relu(conv(x))
        return getattr(self, self.last)(x)


class RetinaNet(nn.Module):
    def __init__(self, classes, extra):
        super().__init__()
        self.backbone, self.classes = Backbone((128, 256, 512), extra), classes
        self.head = nn.ModuleDict(
            {
                "classification_head": Tower("cls_logits", 9 * classes),
                "regression_head": Tower("bbox_reg", 36),
            }
        )

    def forward(self, x):
        maps = self.backbone(x)
        return {
            name: torch.cat([per_anchor(self.head[head](m), size) for m in maps], 1)
            for name, head, size in (
                ("classes", "classification_head", self.classes),
                ("boxes", "regression_head", 4),
            )
        }


class FasterRCNN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = Backbone((64, 128, 256, 512), "pool")
        self.rpn = nn.Module()
        self.rpn.head = nn.ModuleDict(
            {
                "conv": wrapped(wrapped(nn.Conv2d(256, 256, 3, padding=1))),
                "cls_logits": nn.Conv2d(256, 3, 1),
                "bbox_pred": nn.Conv2d(256, 12, 1),
            }
        )
        box = {"fc6": nn.Linear(256 * 49, 1024), "fc7": nn.Linear(1024, 1024)}
        scores = nn.Linear(1024, classes + 1)
        predictor = {"cls_score": scores, "bbox_pred": nn.Linear(1024, 4 * classes + 4)}
        self.roi_heads = nn.ModuleDict(
            {"box_head": nn.ModuleDict(box), "box_predictor": nn.ModuleDict(predictor)}
        )

    def proposed(self, x):
        found = [torch.relu(self.rpn.head["conv"](m)) for m in self.backbone(x)]
        scores = [per_anchor(self.rpn.head["cls_logits"](m), 1)[..., 0] for m in found]
        moves = [per_anchor(self.rpn.head["bbox_pred"](m), 4) for m in found]
        return torch.cat(scores, 1), torch.cat(moves, 1)

    def judged(self, regions):
        """Of pooled regions [r, 256, 7, 7]."""
        head, last = self.roi_heads["box_head"], self.roi_heads["box_predictor"]
        x = torch.relu(head["fc7"](torch.relu(head["fc6"](regions.flatten(1)))))
        return last["cls_score"](x), last["bbox_pred"](x).view(len(x), -1, 4)


class MaskRCNN(FasterRCNN):
    def __init__(self, classes):
        super().__init__(classes)
        convs = [wrapped(nn.Conv2d(256, 256, 3, padding=1)) for _ in range(4)]
        self.roi_heads["mask_head"] = nn.Sequential(*convs)
        self.roi_heads["mask_predictor"] = nn.ModuleDict(
            {
                "conv5_mask": nn.ConvTranspose2d(256, 256, 2, 2),
                "mask_fcn_logits": nn.Conv2d(256, classes + 1, 1),
            }
        )

    def masks(self, regions):
        """Of pooled regions [r, 256, 14, 14]."""
        x = regions
        for conv in self.roi_heads["mask_head"]:
            x = torch.relu(conv(x))
        last = self.roi_heads["mask_predictor"]
        return last["mask_fcn_logits"](torch.relu(last["conv5_mask"](x)))


class SSDBody(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 3
        for stage, (features, count) in enumerate(
            ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1
        ):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, features, 3, padding=1), nn.ReLU()]
                inputs = features
            layers.append(nn.MaxPool2d(2, ceil_mode=stage == 3))
        self.scale_weight = nn.Parameter(torch.ones(512) * 20)
        self.features = nn.Sequential(*layers[:23])
        fc = (nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.Conv2d(1024, 1024, 1))
        wide = nn.Sequential(nn.MaxPool2d(3, 1, 1), fc[0], nn.ReLU(), fc[1], nn.ReLU())

        def pair(inputs, few, many, stride, padding):
            convs = nn.Conv2d(inputs, few, 1), nn.Conv2d(few, many, 3, stride, padding)
            return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU())

        self.extra = nn.ModuleList(
            [
                nn.Sequential(*layers[23:-1], wide),
                pair(1024, 256, 512, 2, 1),
                pair(512, 128, 256, 2, 1),
                pair(256, 128, 256, 1, 0),
                pair(256, 128, 256, 1, 0),
            ]
        )

    def forward(self, x):
        x = self.features(x)
        maps = [self.scale_weight.view(1, -1, 1, 1) * nn.functional.normalize(x)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


class SSD300(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone, self.classes = SSDBody(), classes
        channels, counts = (512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)

        def convs(size):
            return nn.ModuleDict(
                {
                    "module_list": nn.ModuleList(
                        nn.Conv2d(c, size * a, 3, padding=1)
                        for c, a in zip(channels, counts, strict=True)
                    )
                }
            )

        self.head = nn.ModuleDict(
            {"classification_head": convs(classes + 1), "regression_head": convs(4)}
        )

    def forward(self, x):
        maps, found = self.backbone(x), {}
        for name, size in (("classification", self.classes + 1), ("regression", 4)):
            convs = self.head[f"{name}_head"]["module_list"]
            outputs = [per_anchor(conv(m), size) for conv, m in zip(convs, maps, strict=True)]
            found[name] = torch.cat(outputs, 1)
        return {"classes": found["classification"], "boxes": found["regression"]}


# ---------------------------------------------------------------- from logits to boxes

SSD, UNIT = (10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0)


def decoded(moves, anchors, weights):
    """torchvision's BoxCoder."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2
    moves = moves / torch.tensor(weights)
    centre = moves[:, :2] * sides + centres
    half = torch.exp(moves[:, 2:].clamp(max=math.log(1000 / 16))) * sides / 2
    return torch.cat([centre - half, centre + half], 1)


def clipped(boxes, size):
    height, width = size
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], 1)


def suppressed(boxes, scores, labels, threshold):
    """Which stay, by falling score; each class by itself (batched_nms)."""
    kept = []
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        a, b = boxes[index], boxes[rivals]
        low, high = torch.maximum(a[:2], b[:, :2]), torch.minimum(a[2:], b[:, 2:])
        common = (high - low).clamp(min=0).prod(1)
        union = (a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(1) - common
        if not (common / union > threshold).any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def answer(boxes, scores, labels, threshold):
    kept = suppressed(boxes, scores, labels, threshold)
    return boxes[kept], scores[kept], labels[kept]


def ssd_boxes(classes, moves, anchors, size, *, least=0.01, few=400, threshold=0.45):
    """Of one image: boxes, scores and labels, of which the first class is 0."""
    boxes, scores = clipped(decoded(moves, anchors, SSD), size), classes.softmax(-1)
    found = []
    for label in range(1, scores.shape[1]):
        which = (scores[:, label] > least).nonzero()[:, 0]
        best, order = scores[which, label].topk(min(few, len(which)))
        found.append((boxes[which[order]], best, torch.full_like(order, label - 1)))
    return answer(*map(torch.cat, zip(*found, strict=True)), threshold)


def retinanet_boxes(classes, moves, anchors, counts, size, *, least=0.05, few=1000, threshold=0.5):
    """`counts`: anchors of each map."""
    found = []
    for logits, move, anchor in zip(*(x.split(counts) for x in (classes, moves, anchors)),
                                    strict=True):  # fmt: skip
        scores = logits.sigmoid().flatten()
        which = (scores > least).nonzero()[:, 0]
        best, order = scores[which].topk(min(few, len(which)))
        which = which[order]
        place, label = which // logits.shape[1], which % logits.shape[1]
        found.append((clipped(decoded(move[place], anchor[place], UNIT), size), best, label))
    return answer(*map(torch.cat, zip(*found, strict=True)), threshold)


def proposals(scores, moves, anchors, counts, size, *, few=1000, threshold=0.7, most=1000):
    """filter_proposals: without a class, each map by itself."""
    found, start = [], 0
    for level, count in enumerate(counts):
        best, order = scores[start : start + count].topk(min(few, count))
        order = order + start
        boxes = clipped(decoded(moves[order], anchors[order], UNIT), size)
        large = (boxes[:, 2:] - boxes[:, :2] >= 1e-3).all(1)
        found.append((boxes[large], best[large], torch.full((int(large.sum()),), level)))
        start += count
    return answer(*map(torch.cat, zip(*found, strict=True)), threshold)[0][:most]


def region_boxes(classes, moves, regions, size, *, least=0.05, threshold=0.5):
    """postprocess_detections of RoIHeads."""
    scores, found = classes.softmax(-1), []
    for label in range(1, scores.shape[1]):
        boxes = clipped(decoded(moves[:, label], regions, SSD), size)
        good = (scores[:, label] > least) & (boxes[:, 2:] - boxes[:, :2] >= 1e-2).all(1)
        labels = torch.full((int(good.sum()),), label - 1)
        found.append((boxes[good], scores[good, label], labels))
    return answer(*map(torch.cat, zip(*found, strict=True)), threshold)

"""VMZ's PyTorch R(2+1)D-152, ir-CSN-152 and ip-CSN-152, built here from torch.nn alone: references beside our networks.

Layout: torchvision's VideoResNet with Bottleneck blocks, VMZ's convolutions in them (pt/vmz/models/utils.py), and pool1, a max
pooling at the end of the stem.
"""

import torch
from torch import nn


def convolution(kind, width, stride):
    """3x3x3 from `width` channels to as many."""
    if kind == "r2plus1d":
        middle = width * width * 27 // (width * 9 + 3 * width)
        return nn.Sequential(
            nn.Conv3d(width, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle, eps=1e-3),
            nn.ReLU(),
            nn.Conv3d(middle, width, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )
    depthwise = nn.Conv3d(width, width, 3, stride, 1, groups=width, bias=False)
    if kind == "ir_csn":
        return depthwise
    return nn.Sequential(nn.Conv3d(width, width, 1, bias=False), nn.BatchNorm3d(width, eps=1e-3), depthwise)


def pointwise(inputs, outputs, stride=1):
    return nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs, eps=1e-3)


class Bottleneck(nn.Module):
    def __init__(self, kind, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Sequential(*pointwise(inputs, width), nn.ReLU())
        self.conv2 = nn.Sequential(convolution(kind, width, stride), nn.BatchNorm3d(width, eps=1e-3), nn.ReLU())
        self.conv3 = nn.Sequential(*pointwise(width, 4 * width))
        self.downsample = nn.Sequential(*pointwise(inputs, 4 * width, stride)) if inputs != 4 * width else None

    def forward(self, x):
        out = self.conv3(self.conv2(self.conv1(x)))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class VideoResNet152(nn.Module):
    def __init__(self, kind, classes=400, pool1=True):
        super().__init__()
        if kind == "r2plus1d":
            halves = nn.Conv3d(3, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False), nn.BatchNorm3d(45, eps=1e-3), nn.ReLU()
            stem = [*halves, nn.Conv3d(45, 64, (3, 1, 1), 1, (1, 0, 0), bias=False)]
        else:
            stem = [nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)]
        stem += [nn.BatchNorm3d(64, eps=1e-3), nn.ReLU()]
        self.stem = nn.Sequential(*stem, *([nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if pool1 else []))
        inputs = 64
        for stage, (blocks, width) in enumerate(zip((3, 8, 36, 3), (64, 128, 256, 512), strict=True), 1):
            first = Bottleneck(kind, inputs, width, 1 if stage == 1 else 2)
            others = [Bottleneck(kind, 4 * width, width, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *others))
            inputs = 4 * width
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.fc = nn.Linear(2048, classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))

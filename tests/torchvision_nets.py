"""torchvision's r3d_18, mc3_18 and r2plus1d_18, built here from torch.nn alone: references beside our networks.

What is theirs: batch norm eps 1e-5, one middle width for both (2+1)-D convolutions of a block, and (1, 3, 3) convolutions that
do not stride in time in mc3_18's last three stages.
"""

import torch
from torch import nn


def convolution(kind, inputs, outputs, middle, stride):
    if kind == "r2plus1d":
        return nn.Sequential(
            nn.Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(),
            nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )
    if kind == "2d":
        return nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    return nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, kind, inputs, outputs, stride):
        super().__init__()
        middle = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)
        self.conv1 = nn.Sequential(convolution(kind, inputs, outputs, middle, stride), nn.BatchNorm3d(outputs), nn.ReLU())
        self.conv2 = nn.Sequential(convolution(kind, outputs, outputs, middle, 1), nn.BatchNorm3d(outputs))
        self.downsample = None
        if stride != 1:
            strides = (1, stride, stride) if kind == "2d" else stride
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, strides, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x):
        out = self.conv2(self.conv1(x))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class VideoResNet18(nn.Module):
    def __init__(self, name):
        super().__init__()
        if name == "r2plus1d_18":
            halves = nn.Conv3d(3, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False), nn.BatchNorm3d(45), nn.ReLU()
            last = nn.Conv3d(45, 64, (3, 1, 1), 1, (1, 0, 0), bias=False)
            self.stem = nn.Sequential(*halves, last, nn.BatchNorm3d(64), nn.ReLU())
        else:
            conv = nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
            self.stem = nn.Sequential(conv, nn.BatchNorm3d(64), nn.ReLU())
        kinds = {"r3d_18": ["3d"] * 4, "mc3_18": ["3d", "2d", "2d", "2d"], "r2plus1d_18": ["r2plus1d"] * 4}[name]
        inputs = 64
        for stage, (kind, outputs) in enumerate(zip(kinds, (64, 128, 256, 512), strict=True), 1):
            blocks = Block(kind, inputs, outputs, 1 if stage == 1 else 2), Block(kind, outputs, outputs, 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inputs = outputs
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.fc = nn.Linear(512, 400)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))

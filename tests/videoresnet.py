"""R(2+1)D-34 as the published .pth files lay it out, built here from torch.nn alone: a reference beside our networks.

Layout: torchvision's VideoResNet with the patches of ig65m-pytorch (a middle width of its own for the second convolution
of each down-sampling block, batch norm eps 1e-3).
"""

import torch
from torch import nn


def factored(inputs, middle, outputs, stride=1):
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle, eps=1e-3),
        nn.ReLU(),
        nn.Conv3d(middle, outputs, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, middles, stride):
        super().__init__()
        first, second = middles
        self.conv1 = nn.Sequential(factored(inputs, first, outputs, stride), nn.BatchNorm3d(outputs, eps=1e-3), nn.ReLU())
        self.conv2 = nn.Sequential(factored(outputs, second, outputs), nn.BatchNorm3d(outputs, eps=1e-3))
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs, eps=1e-3)
            )

    def forward(self, x):
        out = self.conv2(self.conv1(x))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class VideoResNet34(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 45, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(45, eps=1e-3),
            nn.ReLU(),
            nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(64, eps=1e-3),
            nn.ReLU(),
        )
        # (inputs, outputs, middle widths of the first block, of the others, blocks), as in the published files
        self.layer1 = self.stage(64, 64, (144, 144), 144, 3, 1)
        self.layer2 = self.stage(64, 128, (230, 288), 288, 4, 2)
        self.layer3 = self.stage(128, 256, (460, 576), 576, 6, 2)
        self.layer4 = self.stage(256, 512, (921, 1152), 1152, 3, 2)
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.fc = nn.Linear(512, classes)

    @staticmethod
    def stage(inputs, outputs, first, middle, blocks, stride):
        others = [Block(outputs, outputs, (middle, middle), 1) for _ in range(blocks - 1)]
        return nn.Sequential(Block(inputs, outputs, first, stride), *others)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))


def random_model(classes, seed=0):
    """A reference network in eval mode whose batch norms are not identities."""
    torch.manual_seed(seed)
    return randomise_norms(VideoResNet34(classes)).eval()


def randomise_norms(model):
    """Give the batch norms of a network random values; returns it."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model

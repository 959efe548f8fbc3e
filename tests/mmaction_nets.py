"""mmaction2's ResNet3dCSN with its I3DHead, built here from torch.nn alone: a reference beside our networks.

Its modules have mmaction2's names, so its state dict has the keys of mmaction2's files. It strides in time in layers 2 to 4
whatever the clip's length; norms have eps 1e-3.
"""

import torch
from torch import nn

BLOCKS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}


class ConvModule(nn.Module):
    def __init__(self, inputs, outputs, kernel, *, stride=1, groups=1, act=True):
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)
        self.act = act

    def forward(self, x):
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.act else x


class Block(nn.Module):
    def __init__(self, mode, inputs, inner, stride):
        super().__init__()
        outputs = 4 * inner
        depthwise = ConvModule(inner, inner, (3, 3, 3), stride=stride, groups=inner)
        reduction = [ConvModule(inner, inner, (1, 1, 1), act=False)] if mode == "ip" else []
        self.conv1 = ConvModule(inputs, inner, (1, 1, 1))
        self.conv2 = nn.Sequential(*reduction, depthwise)
        self.conv3 = ConvModule(inner, outputs, (1, 1, 1), act=False)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = ConvModule(inputs, outputs, (1, 1, 1), stride=stride, act=False)

    def forward(self, x):
        out = self.conv3(self.conv2(self.conv1(x)))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet3dCSN(nn.Module):
    def __init__(self, mode, depth, width):
        super().__init__()
        self.conv1 = ConvModule(3, 64, (3, 7, 7), stride=(1, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inputs = 64
        for stage, blocks in enumerate(BLOCKS[depth]):
            inner = width * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            layer = nn.Sequential()
            for stride in strides:
                layer.append(Block(mode, inputs, inner, stride))
                inputs = 4 * inner
            self.add_module(f"layer{stage + 1}", layer)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Head(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool3d((1, 1, 1))
        self.fc_cls = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc_cls(self.avg_pool(x).flatten(1))


class Recognizer3D(nn.Module):
    def __init__(self, mode, depth, width, classes):
        super().__init__()
        self.backbone = ResNet3dCSN(mode, depth, width)
        self.cls_head = Head(32 * width, classes)

    def forward(self, x):
        return self.cls_head(self.backbone(x))


def random_csn(mode, depth=50, width=8, classes=7, seed=5):
    """A reference network in eval mode, of `width` of the usual 64 channels, whose small variances make eps matter."""
    torch.manual_seed(seed)
    model = Recognizer3D(mode, depth, width, classes)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data *= 0.05
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.02)
            nn.init.uniform_(module.running_var, 1e-3, 5e-3)
    return model.eval()

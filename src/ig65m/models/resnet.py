"""The residual networks of VMZ: one family, described by `ResNetSpec`."""

from functools import partial
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.errors import ModelError
from ig65m.models.base import VideoNetwork
from ig65m.models.layers import Conv3d, ElementwiseLinear, Norm, Strided, batch_norm, convolution
from ig65m.models.spec import BLOCKS, STEM_MIDDLE, STEM_WIDTH, Convolution, ResNetSpec, middle_channels


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a projection if the shape changes."""

    def __init__(
        self, kind: Convolution, inputs: int, outputs: int, stride: int, norm: Norm, *, shared_middle: bool = False
    ) -> None:
        super().__init__()
        middle = middle_channels(inputs, outputs) if shared_middle else None
        self.conv1 = Strided(convolution(kind, inputs, outputs, stride, norm, middle), norm(outputs), nn.ReLU(inplace=True))
        self.conv2 = Strided(convolution(kind, outputs, outputs, 1, norm, middle), norm(outputs))
        self.downsample = _projection(kind, inputs, outputs, stride, norm)

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        out = self.conv2(self.conv1(x, keep_time))
        return F.relu(out + _shortcut(self.downsample, x, keep_time))


class Bottleneck(nn.Module):
    """Convolutions of 1x1x1, 3x3x3 (with the stride) and 1x1x1, and a shortcut."""

    def __init__(self, kind: Convolution, inputs: int, inner: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(Conv3d(inputs, inner, (1, 1, 1)), norm(inner), nn.ReLU(inplace=True))
        self.conv2 = Strided(convolution(kind, inner, inner, stride, norm), norm(inner), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(Conv3d(inner, outputs, (1, 1, 1)), norm(outputs))
        self.downsample = _projection(kind, inputs, outputs, stride, norm)

    def forward(self, x: Tensor, keep_time: bool = False) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        out = self.conv3(self.conv2(self.conv1(x), keep_time))
        return F.relu(out + _shortcut(self.downsample, x, keep_time))


def _projection(kind: Convolution, inputs: int, outputs: int, stride: int, norm: Norm) -> Strided | None:
    if inputs == outputs and stride == 1:
        return None
    time = 1 if kind == "2d" else stride
    return Strided(Conv3d(inputs, outputs, (1, 1, 1), (time, stride, stride)), norm(outputs))


def _shortcut(projection: Strided | None, x: Tensor, keep_time: bool) -> Tensor:
    return x if projection is None else cast(Tensor, projection(x, keep_time))


def _stem(spec: ResNetSpec, norm: Norm) -> nn.Sequential:
    kind = spec.convolutions[0]
    if kind == "2plus1d":
        layers: list[nn.Module] = [
            Conv3d(spec.in_channels, STEM_MIDDLE, (1, 7, 7), (1, 2, 2)),
            norm(STEM_MIDDLE),
            nn.ReLU(inplace=True),
            Conv3d(STEM_MIDDLE, STEM_WIDTH, (3, 1, 1)),
        ]
    else:
        conv = Conv3d(spec.in_channels, STEM_WIDTH, (spec.clip_frames or {"3d": 3, "2d": 1}[kind], 7, 7), (1, 2, 2))
        if kind == "clip":
            conv.padding = (0, 3, 3)
        layers = [conv]
    layers += [norm(STEM_WIDTH), nn.ReLU(inplace=True)]
    if spec.pool1:
        layers.append(nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
    return nn.Sequential(*layers)


class ResNet(VideoNetwork):
    """A residual network of VMZ; its state-dict keys are those of torchvision's VideoResNet.

    It takes clips of any length (unless the stem spans the clip) and any size. For T frames it equals the network that VMZ
    builds for T frames: under 8 frames the fifth stage has no temporal stride, under 4 frames nor has the fourth.
    """

    spec: ResNetSpec

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        norm = partial(batch_norm, eps=spec.eps)
        self.stem = _stem(spec, norm)
        stages = []
        width = STEM_WIDTH
        facts = zip(BLOCKS[spec.depth], spec.convolutions[1:], spec.inner_widths, spec.widths, strict=True)
        for index, (blocks, kind, inner, outputs) in enumerate(facts):
            stage = Strided()
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                stage.append(
                    Bottleneck(kind, width, inner, outputs, stride, norm)
                    if spec.bottleneck
                    else BasicBlock(kind, width, outputs, stride, norm, shared_middle=spec.builder == "torchvision")
                )
                width = outputs
            stages.append(stage)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        if spec.classes:
            self.fc = nn.Linear(width, spec.classes)
        if spec.multi_label:
            self.pred_logit = ElementwiseLinear(spec.classes)
        # On the meta device there is nothing to initialise, and PyTorch would load its compiler (80 MB, 1.5 s) for it.
        if not next(self.parameters()).is_meta:
            _initialize(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised clips (N, 3, T, H, W) -> feature maps (N, C, T', H', W') of the last stage.

        Stem, pool1 and each stage but the first halve H and W. Each stage but the first halves T from 8 frames on, unless it
        is 2-D.

        Raises ModelError if `x` is not 5-D, or has another number of channels or frames than the network takes.
        """
        return self._run_until(x, None)

    def _run_until(self, x: Tensor, path: str | None) -> Tensor:
        part = None if path is None else path.split(".")[0]
        if x.dim() != 5 or x.shape[1] != self.spec.in_channels:
            raise ModelError(f"expected clips of shape (N, {self.spec.in_channels}, T, H, W), got {tuple(x.shape)}")
        if self.spec.clip_frames not in (None, x.shape[2]):
            raise ModelError(f"{self.spec} takes clips of {self.spec.clip_frames} frames only, got {x.shape[2]}")
        x = self.stem(x)  # (N, 64, T, H/2, W/2)
        keeps_time = self.spec.keeps_time(x.shape[2])
        for before, stage, keep_time in zip(("stem", "layer1", "layer2", "layer3"), self.stages, keeps_time, strict=True):
            if part == before:
                break
            x = stage(x, keep_time)  # at last (N, C, T/8, H/16, W/16)
        return x

    @property
    def stages(self) -> tuple[Strided, ...]:
        """The four stages."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps (N, C, T', H', W') -> features (N, C) with `pre_logits`, which are their mean; else logits (N,
        classes).

        Raises ModelError for logits of a network without classes.
        """
        pooled = features.mean(dim=(2, 3, 4))
        if pre_logits:
            return pooled
        self._check_head()
        logits: Tensor = self.fc(pooled)
        return self.pred_logit(logits) if self.spec.multi_label else logits

    def class_map(self, features: Tensor, window: tuple[int, int]) -> Tensor:
        """Feature maps (N, C, T', H', W') -> logits (N, classes, 1, Y, X) for each position of a `window` in them.

        The network runs fully convolutionally, as VMZ tested it: the mean over the window slides with stride 1, and the last
        layer is a 1x1x1 convolution. Raises ModelError if there are no classes.
        """
        self._check_head()
        pooled = F.avg_pool3d(features, (features.shape[2], *window), stride=1)
        logits = F.conv3d(pooled, self.fc.weight[:, :, None, None, None], self.fc.bias)
        return self.pred_logit(logits) if self.spec.multi_label else logits

    def _check_head(self) -> None:
        if not self.spec.classes:
            raise ModelError(f"{self.spec} has no classes; it gives features only")

    def forward(self, x: Tensor) -> Tensor:
        """Normalised clips (N, 3, T, H, W) -> logits (N, classes)."""
        return self.forward_head(self.forward_features(x))


def _initialize(model: nn.Module) -> None:
    """Initialise as VMZ does: MSRA (He, fan-out) for convolutions; batch norms start as identities."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)

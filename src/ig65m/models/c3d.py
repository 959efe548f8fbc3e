"""C3D as in VMZ: 3x3x3 convolutions with bias and batch norm, and three fully connected layers."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from ig65m.errors import ModelError
from ig65m.models.base import VideoNetwork
from ig65m.models.layers import ElementwiseLinear, batch_norm
from ig65m.models.plan import C3D_GROUPS
from ig65m.models.spec import C3DSpec


class C3D(VideoNetwork):
    """C3D for clips of 16x112x112. Its features are the output of the first fully connected layer (fc6) after ReLU.

    Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", figure 3, with VMZ's batch norms and
    without padding in the last pooling.
    """

    spec: C3DSpec

    def __init__(self, spec: C3DSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.in_channels
        for number, group in enumerate(C3D_GROUPS, 1):
            for name, outputs in group:
                self.add_module(name, nn.Conv3d(inputs, outputs, 3, padding=1))
                self.add_module(f"{name}_bn", batch_norm(outputs))
                self.add_module(f"{name}_relu", nn.ReLU())
                inputs = outputs
            self.add_module(f"pool{number}", nn.MaxPool3d((1 if number == 1 else 2, 2, 2)))
        self.fc6 = nn.Linear(inputs * 1 * 3 * 3, spec.feature_width)
        self.fc7 = nn.Linear(spec.feature_width, spec.feature_width)
        self.fc = nn.Linear(spec.feature_width, spec.classes)
        if spec.multi_label:
            self.pred_logit = ElementwiseLinear(spec.classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised clips (N, 3, 16, 112, 112) -> feature maps (N, 512, 1, 3, 3) of the last pooling.

        Raises ModelError if `x` has another shape.
        """
        return self._run_until(x, None)

    def _run_until(self, x: Tensor, path: str | None) -> Tensor:
        wanted = (self.spec.in_channels, self.spec.clip_frames, *self.spec.clip_size)
        if x.dim() != 5 or tuple(x.shape[1:]) != wanted:
            raise ModelError(f"C3D takes clips of shape (N, {', '.join(map(str, wanted))}) only, got {tuple(x.shape)}")
        for name in self._parts():
            x = self.get_submodule(name)(x)
            if name == path:
                break
        return x

    @staticmethod
    def _parts() -> Iterator[str]:
        """Yield the names of the layers up to the feature maps, in order."""
        for number, group in enumerate(C3D_GROUPS, 1):
            for name, _ in group:
                yield from (name, f"{name}_bn", f"{name}_relu")
            yield f"pool{number}"

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps (N, 512, 1, 3, 3) -> fc6 (N, 4096) with `pre_logits`, else logits (N, classes)."""
        fc6 = F.relu(self.fc6(features.flatten(1)))
        if pre_logits:
            return fc6
        logits: Tensor = self.fc(F.relu(self.fc7(fc6)))
        return self.pred_logit(logits) if self.spec.multi_label else logits

    def forward(self, x: Tensor) -> Tensor:
        """Normalised clips (N, 3, 16, 112, 112) -> logits (N, classes)."""
        return self.forward_head(self.forward_features(x))

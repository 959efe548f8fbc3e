"""Base class of all networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ig65m.errors import ModelError
from ig65m.models.card import Card
from ig65m.models.layer_names import find_layer
from ig65m.models.quantization import Quantization
from ig65m.models.spec import Spec

if TYPE_CHECKING:
    from ig65m.video.network_input import Preprocess


class VideoNetwork(nn.Module):
    """A network; its card is known once weights are loaded.

    quantization: how an int8 network rounds its weights and values; None for any other.
    """

    spec: Spec
    quantization: Quantization | None = None
    _card: Card | None = None

    @property
    def card(self) -> Card:
        """Clip length, preprocessing, classes and origin of the network. Raises ModelError if no weights were loaded."""
        if self._card is None:
            raise ModelError("this network has no card with its preprocessing; use a network of ig65m.load_model")
        return self._card

    @card.setter
    def card(self, card: Card) -> None:
        self._card = card

    def forward_layer(self, x: Tensor, layer: str) -> Tensor:
        """Normalised clips (N, 3, T, H, W) -> output of a layer (N, C, T', H', W'), as a forward hook on its module sees it.

        layer: Path of a module up to the feature maps, such as "stem", "layer3" or "layer3.0.conv1"; see `named_modules()`. The
        layers after the stage that it is in are not computed.

        Raises UsageError, naming similar ones, if there is no such layer, and ModelError as `forward_features`.
        """
        find_layer(self.spec, layer)
        with self.kept(layer) as outputs:
            self._run_until(x, layer)
        return outputs[0]

    @contextmanager
    def kept(self, path: str) -> Iterator[list[Tensor]]:
        """Keep, for the block, what the module at a path returns each time it runs."""
        outputs: list[Tensor] = []
        hook = self.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output.clone())  # a ReLU after it may work in place
        )
        try:
            yield outputs
        finally:
            hook.remove()

    def _run_until(self, x: Tensor, path: str | None) -> Tensor:
        """Run the parts of the network up to the feature maps, or up to the part that a module is in."""
        raise NotImplementedError

    @property
    def preprocess(self) -> "Preprocess":
        """Preprocessing of frames (T, H, W, 3) uint8 for this network: see `ig65m.video.network_input.Preprocess`."""
        return self.card.preprocess

"""Base class of all networks."""

from typing import TYPE_CHECKING

from torch import nn

from ig65m.errors import ModelError
from ig65m.models.card import Card
from ig65m.models.quantization import Quantization

if TYPE_CHECKING:
    from ig65m.video.network_input import Preprocess


class VideoNetwork(nn.Module):
    """A network; its card is known once weights are loaded.

    quantization: how an int8 network rounds its weights and values; None for any other.
    """

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

    @property
    def preprocess(self) -> "Preprocess":
        """Preprocessing of frames (T, H, W, 3) uint8 for this network: see `ig65m.video.network_input.Preprocess`."""
        return self.card.preprocess

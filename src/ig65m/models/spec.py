"""What tells one residual network of VMZ from another: pure data, no torch."""

from dataclasses import dataclass, replace

from ig65m.errors import ModelError

# Blocks in each of the four stages, by depth (VMZ's table).
BLOCKS: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    16: (2, 2, 2, 1),
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Widths of the stages before the channel multiplier; in a bottleneck block the 3x3x3 part has the inner width.
INNER_WIDTHS = (64, 128, 256, 512)
STEM_WIDTHS = (45, 64)  # whatever the multiplier


@dataclass(frozen=True)
class ResNetSpec:
    """What tells one residual network from another.

    `depth` counts layers as VMZ does (a key of BLOCKS); `channel_multiplier` scales every width behind the stem.
    """

    depth: int
    classes: int
    channel_multiplier: float = 1.0
    in_channels: int = 3

    def same_network(self, other: "ResNetSpec") -> bool:
        """Whether both have tensors of the same shapes; several multipliers can round to the same widths."""
        mine, theirs = (replace(spec, channel_multiplier=1.0) for spec in (self, other))
        return mine == theirs and self.inner_widths == other.inner_widths and self.widths == other.widths

    def __str__(self) -> str:
        width = "" if self.channel_multiplier == 1 else f" of {self.channel_multiplier:g} times the width"
        return f"R(2+1)D-{self.depth}{width} with {self.classes} classes"

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            raise ModelError(f"depth {self.depth} is none of VMZ's; expected one of {', '.join(map(str, BLOCKS))}")
        if self.classes < 1 or self.in_channels < 1 or self.inner_widths[0] < 1:
            raise ModelError(f"a network needs at least one class, one input channel and one channel in each stage; got {self}")

    @property
    def bottleneck(self) -> bool:
        """Whether blocks are 1x1x1, 3x3x3, 1x1x1 rather than two 3x3x3 convolutions."""
        return self.depth > 18 and self.depth != 34

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Channels of each stage's 3x3x3 convolutions."""
        return tuple(int(width * self.channel_multiplier) for width in INNER_WIDTHS)

    @property
    def expansion(self) -> int:
        """Outer over inner width; 26 layers are bottleneck blocks with the widths of the shallow nets."""
        return 4 if self.depth > 34 else 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that each stage puts out; the last is the length of a feature vector."""
        return tuple(int(width * self.expansion * self.channel_multiplier) for width in INNER_WIDTHS)

"""Specifications of VMZ's networks: pure data, no torch."""

from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal

from ig65m.errors import ModelError

# Blocks in each of the four stages, by depth (VMZ's table).
BLOCKS: Final[dict[int, tuple[int, int, int, int]]] = {
    10: (1, 1, 1, 1),
    16: (2, 2, 2, 1),
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

# Composition of a 3x3x3 convolution. 3d: itself. 2d: 1x3x3. 2plus1d: 1x3x3, batch norm, ReLU, 3x1x1. ir: depthwise.
# ip: 1x1x1, batch norm, depthwise 3x3x3. clip: a stem that spans the whole clip.
Convolution = Literal["3d", "2d", "2plus1d", "ir", "ip", "clip"]

# Convolutions of the stem and the four stages.
ARCHITECTURES: Final[dict[str, tuple[Convolution, Convolution, Convolution, Convolution, Convolution]]] = {
    "r2plus1d": ("2plus1d", "2plus1d", "2plus1d", "2plus1d", "2plus1d"),
    "r3d": ("3d", "3d", "3d", "3d", "3d"),
    "mc2": ("3d", "2d", "2d", "2d", "2d"),
    "mc3": ("3d", "3d", "2d", "2d", "2d"),
    "mc4": ("3d", "3d", "3d", "2d", "2d"),
    "mc5": ("3d", "3d", "3d", "3d", "2d"),
    "rmc2": ("2d", "3d", "3d", "3d", "3d"),
    "rmc3": ("2d", "2d", "3d", "3d", "3d"),
    "rmc4": ("2d", "2d", "2d", "3d", "3d"),
    "rmc5": ("2d", "2d", "2d", "2d", "3d"),
    "r2d": ("clip", "2d", "2d", "2d", "2d"),
    "r2df": ("2d", "2d", "2d", "2d", "2d"),
    "ir_csn": ("3d", "ir", "ir", "ir", "ir"),
    "ip_csn": ("3d", "ip", "ip", "ip", "ip"),
}
TITLES: Final = {"r2plus1d": "R(2+1)D", "r3d": "R3D", "r2d": "R2D", "r2df": "R2Df", "ir_csn": "ir-CSN", "ip_csn": "ip-CSN"} | {
    f"{reverse}mc{level}": f"{reverse}MC{level}" for reverse in ("", "r") for level in (2, 3, 4, 5)
}

Builder = Literal["vmz", "torchvision", "mmaction2"]
BUILDERS: Final[dict[Builder, str]] = {"vmz": "VMZ", "torchvision": "torchvision", "mmaction2": "mmaction2"}  # as written
EPS: Final[dict[Builder, float]] = {"vmz": 1e-3, "torchvision": 1e-5, "mmaction2": 1e-3}
POOLED: Final = ("ir_csn", "ip_csn")  # networks of VMZ with pool1

STEM_MIDDLE: Final = 45  # channels between the halves of a (2+1)-D stem; the stem ignores multipliers
STEM_WIDTH: Final = 64
WIDTHS: Final = (64, 128, 256, 512)  # of the stages' 3x3x3 convolutions, before multipliers


def middle_channels(inputs: int, outputs: int) -> int:
    """Return the channels between the halves of a (2+1)-D convolution that has as many weights as a 3x3x3 convolution.

    Tran et al., "A Closer Look at Spatiotemporal Convolutions", section 3.5, with t = d = 3. VMZ computes it for each
    convolution, torchvision once for a block: in a down-sampling block 64 -> 128 VMZ has 230 and 288, torchvision 230 twice.
    """
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


@dataclass(frozen=True)
class ResNetSpec:
    """Specification of a residual network. Raises ModelError if there is no such network.

    torchvision's networks differ from VMZ's of the same name: another eps in batch norms, and one width for both (2+1)-D
    convolutions of a block. torchvision's and mmaction2's keep their temporal strides for short clips.
    """

    depth: int  # number of layers, as VMZ counts them: a key of BLOCKS
    classes: int  # 0: no last layer, features only
    channel_multiplier: float = 1.0  # scales all widths after the stem
    in_channels: int = 3
    architecture: str = "r2plus1d"  # a key of ARCHITECTURES
    bottleneck_multiplier: float = 1.0  # scales the inner width of bottleneck blocks, too
    pool1: bool = False  # the stem ends in a 1x3x3 max pooling of stride 2
    clip_frames: int | None = None  # length of a stem that spans the clip
    builder: Builder = "vmz"  # whose definition of the network it is
    multi_label: bool = False  # classes are not exclusive: scores are the sigmoid of logits

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ModelError(f"architecture {self.architecture!r} is not one of {', '.join(ARCHITECTURES)}")
        if self.depth not in BLOCKS:
            raise ModelError(f"no network of depth {self.depth}; expected one of {', '.join(map(str, BLOCKS))}")
        if self.classes < 0:
            raise ModelError(f"the number of classes must not be negative, got {self.classes}")
        if min(self.in_channels, self.inner_widths[0], self.widths[0]) < 1:
            raise ModelError(f"a network needs at least one input channel and one channel in each stage; got {self}")
        if self.multi_label and not self.classes:
            raise ModelError("a network without classes cannot be multi-label")
        if self.builder not in EPS:
            raise ModelError(f"builder {self.builder!r} is not one of {', '.join(EPS)}")
        if ("clip" in self.convolutions) != (self.clip_frames is not None):
            raise ModelError(f"{self.architecture} cannot have a stem over {self.clip_frames} frames")

    def __str__(self) -> str:
        who = "" if self.builder == "vmz" else f"{self.builder}'s "
        width = "" if self.channel_multiplier == 1 else f" of {self.channel_multiplier:g} times the width"
        inner = "" if self.bottleneck_multiplier == 1 else f" of {self.bottleneck_multiplier:g} times the inner width"
        return f"{who}{TITLES[self.architecture]}-{self.depth}{width}{inner} with {_classes(self)}"

    def same_network(self, other: "Spec") -> bool:
        """Whether both are the same function; different multipliers can round to the same widths."""
        if not isinstance(other, ResNetSpec):
            return False
        mine, theirs = (replace(spec, channel_multiplier=1.0, bottleneck_multiplier=1.0) for spec in (self, other))
        return mine == theirs and self.inner_widths == other.inner_widths and self.widths == other.widths

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Convolutions of the stem and of each stage."""
        return ARCHITECTURES[self.architecture]

    @property
    def eps(self) -> float:
        """The eps of batch norms."""
        return EPS[self.builder]

    @property
    def bottleneck(self) -> bool:
        """Whether blocks are 1x1x1, 3x3x3, 1x1x1 convolutions, not two of 3x3x3."""
        return self.depth > 18 and self.depth != 34

    @property
    def inner_widths(self) -> tuple[int, ...]:
        """Channels of each stage's 3x3x3 convolutions; VMZ rounds after each multiplier."""
        widths = tuple(int(width * self.channel_multiplier) for width in WIDTHS)
        return tuple(int(width * self.bottleneck_multiplier) for width in widths) if self.bottleneck else widths

    @property
    def expansion(self) -> int:
        """Ratio of outer to inner width; with 26 layers, bottleneck blocks have the widths of shallow networks."""
        return 4 if self.depth > 34 else 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of each stage; the last is the length of a feature vector."""
        return tuple(int(width * self.expansion * self.channel_multiplier) for width in WIDTHS)

    @property
    def feature_width(self) -> int:
        """Length of a feature vector."""
        return self.widths[-1]

    @property
    def clip_size(self) -> None:
        """None: frames may have any size."""

    def keeps_time(self, frames: int) -> tuple[bool, ...]:
        """Return which stages drop their temporal stride for clips of `frames` frames; only VMZ's do."""
        return (False, False, frames < 4, frames < 8) if self.builder == "vmz" else (False,) * 4

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the feature maps for frames of `height` x `width`: each halving rounds up."""
        halvings = 5 if self.pool1 else 4
        return -(-height >> halvings), -(-width >> halvings)


@dataclass(frozen=True)
class C3DSpec:
    """Specification of a C3D network."""

    classes: int
    in_channels: int = 3
    multi_label: bool = False
    architecture: Literal["c3d"] = "c3d"

    # Output channels of the convolutions; each group ends in a max pooling, in the first one only over space.
    group_widths: ClassVar[tuple[tuple[int, ...], ...]] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    clip_frames: ClassVar[int] = 16
    clip_size: ClassVar[tuple[int, int]] = (112, 112)
    feature_width: ClassVar[int] = 4096
    pool1: ClassVar[bool] = False
    builder: ClassVar[Builder] = "vmz"

    def __post_init__(self) -> None:
        if self.architecture != "c3d" or min(self.classes, self.in_channels) < 1:
            raise ModelError(f"C3D needs at least one class and one input channel; got {self}")

    def __str__(self) -> str:
        return f"C3D with {_classes(self)}"

    def keeps_time(self, _: int) -> tuple[bool, ...]:
        """Return nothing: the clip length is fixed."""
        return ()

    def same_network(self, other: "Spec") -> bool:
        """Whether both are the same function."""
        return self == other


Spec = ResNetSpec | C3DSpec


def _classes(spec: Spec) -> str:
    if spec.classes == 0:
        return "no last layer"
    return f"{spec.classes} classes{' (multi-label)' if spec.multi_label else ''}"

"""A PyTorch data set of the clips of videos, labelled or not."""

import gc
import operator
import os
import warnings
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from ig65m.collection.label_list import Example, LabelList, read_label_list
from ig65m.collection.list_formats import Split
from ig65m.errors import UsageError, VideoError, needs, shown
from ig65m.models.card import Card
from ig65m.types import MAX_CLIPS, Limits, Preprocessing, Segment
from ig65m.video.clips import read_clips
from ig65m.video.geometry import PlacedCrop
from ig65m.video.network_input import normalised
from ig65m.video.sample import Pixels
from ig65m.video.sampling import Sampling, uniform_starts
from ig65m.zoo.cards import check_use

with needs("torch", "ig65m.ClipDataset"):
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset

# A forked process must not free the containers of decoding in its parent: it would wait for threads that it does not have.
os.register_at_fork(after_in_child=gc.freeze)

Videos = LabelList | str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Segment]
Item = Tensor | tuple[Tensor, Tensor]


class ClipDataset(Dataset[Item]):
    """Clips of videos as input of a network, for `torch.utils.data.DataLoader`.

    An item is `(clip, target)`, or the clip alone for videos without labels. The clip (3, T, H, W) float32 is normalised; if it
    is not augmented, it is to the bit what `ig65m.extract` sees. The target is the index of the class, int64; in a multi-label
    list it is float32 (classes,) with 1 for each label of the video. Item i is clip `i % clips` of video `i // clips`.

    Videos are decoded in a worker process of each process that reads items. A clip that cannot be read raises VideoError.

    Attributes:
        classes: Names of the classes in order; empty for videos without labels.
        examples: The videos with their labels.

    Example:
        >>> card = ig65m.cards["r2plus1d_10_camera_motion"]
        >>> clips = ig65m.ClipDataset(["video.mp4"], card, clips=2)
        >>> len(clips), clips[1].shape
        (2, torch.Size([3, 8, 64, 64]))
    """

    def __init__(
        self,
        videos: Videos,
        card: Card,
        *,
        split: Split | None = None,
        clips: int = 1,
        frames: int | None = None,
        frame_step: int | None = None,
        fps: float | None = None,
        augment: bool = False,
        flip: bool = False,
        image_fps: float = 25.0,
        limits: Limits | None = None,
        in_process: bool = False,
    ) -> None:
        """Make a data set.

        Args:
            videos: A list of `ig65m.read_label_list`, or the path of one, or of a folder with a folder of videos for each
                class; or video files without labels, as paths or `ig65m.Segment`. Videos of a list that were not found are
                named in a warning.
            card: Card of the network: `model.card`.
            split: Only examples of this split of the list: "train", "val" or "test". Default: all.
            clips: Number of clips of each video, spread evenly as VMZ does; 1 is the clip at its start.
            frames: Frames in a clip. Default: as the card says.
            frame_step: Frames from one frame of a clip to the next. Default: as the card says.
            fps: Rate in frames a second at which videos are sampled. Default: as the card says, mostly every frame.
            augment: Whether clips start at a random frame, and are cropped at a random place of the resized frame. PyTorch's
                random numbers decide, which `torch.manual_seed` and a DataLoader's `generator` make reproducible.
            flip: With `augment`, whether half of the clips are mirrored. Then a label such as `pan_left` may be wrong.
            image_fps: Frame rate of a folder of images, in frames a second.
            limits: What one video may cost. Default: `ig65m.Limits()`.
            in_process: Decode without a worker process.

        Raises:
            UsageError: A value is out of range, the list cannot be read, or there are no videos.
            ModelError: The network does not take RGB clips, or its clip length is unknown.
        """
        check_use(card, frames=frames, logits=False, maps=False, labels=None, classes_known=True)
        if type(clips) is not int or not 1 <= clips <= MAX_CLIPS:
            raise UsageError(f"clips must be a whole number from 1 to {MAX_CLIPS}, got {clips!r}")
        if flip and not augment:
            raise UsageError("flip is part of the augmentation; set augment=True too")
        found = _label_list(videos, split)
        self.card = card
        self.classes, self.examples, self.multi_label = found.classes, found.examples, found.multi_label
        self.clips, self.augment, self.flip = clips, augment, flip
        self.sampling = Sampling(
            frames=cast(int, card.frames) if frames is None else frames,
            frame_step=card.frame_step if frame_step is None else frame_step,
            fps=card.fps if fps is None else fps,
        )
        self.preprocessing = replace(card.preprocessing, crops=1)
        self.image_fps, self.limits, self.in_process = image_fps, limits or Limits(), in_process
        self._class_index = {label: index for index, label in enumerate(self.classes)}
        for each in self.examples if self.classes else ():
            if unknown := [label for label in each.labels if label not in self._class_index]:
                raise UsageError(f"{each.video} has the label {shown(unknown)}, which is none of the classes")
            if len(each.labels) != 1 and not self.multi_label:
                raise UsageError(f"{each.video} has {len(each.labels)} labels; expected one, or a multi-label list")
        # The last sample at which a clip of each video can start; -1 while unknown. The processes of a DataLoader share it.
        self._last_starts = torch.full((len(self.examples),), -1)
        self._last_starts.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.examples) * self.clips

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng(int(torch.randint(1 << 62, ()))) if self.augment else None
        return self.item(index, rng)

    def item(self, index: int, rng: np.random.Generator | None) -> Item:
        """Return item `index`, augmented with the random numbers of `rng` if there is one.

        Raises IndexError if there is no such item, and VideoError, which names the video, if it cannot be read.
        """
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        number, clip = divmod(index % len(self), self.clips)
        start, preprocessing, mirrored = self._start(number, clip), self.preprocessing, False
        if rng is not None:
            start = self._random_start(number, rng)
            known = {each.name: getattr(preprocessing, each.name) for each in fields(Preprocessing)}
            preprocessing = PlacedCrop(**known, place=(float(rng.random()), float(rng.random())))
            mirrored = self.flip and bool(rng.random() < 0.5)
        pixels = self._read(number, preprocessing, start=start)[0]
        x = normalised(pixels[None], preprocessing)[0]
        x = x.flip(-1) if mirrored else x
        return (x, self.target(number)) if self.classes else x

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines the items, as plain values; two data sets with other items have other settings."""
        labelled = LabelList("", self.classes, self.examples, multi_label=self.multi_label)
        return {
            "videos": labelled.sha256,
            "order": [each.video.path.rpartition("/")[2] for each in self.examples],
            "classes": list(self.classes),
            "clips": self.clips,
            "augment": self.augment,
            "flip": self.flip,
            "sampling": {name: getattr(self.sampling, name) for name in ("frames", "frame_step", "fps")},
            "image_fps": self.image_fps,
        }

    def target(self, number: int) -> Tensor:
        """Return the target of a video: the index of its class, or in a multi-label list 1 for each of its labels."""
        indices = [self._class_index[label] for label in self.examples[number].labels]
        if not self.multi_label:
            return torch.tensor(indices[0])
        target = torch.zeros(len(self.classes))
        target[indices] = 1
        return target

    def last_start(self, number: int) -> int:
        """Return the last sample at which a clip of a video can start; 0 if the video is shorter than a clip.

        The first call reads the first and the last clip of the video. Raises VideoError if the video is damaged.
        """
        known = int(self._last_starts[number])
        if known < 0:
            known = self._read(number, self.preprocessing, ends=True)[1]
            self._last_starts[number] = known
        return known

    def check_video(self, number: int) -> None:
        """Read the first and the last clip of a video. Raises VideoError if it is damaged."""
        starts = self.examples[number].video.starts
        if starts is None:
            self.last_start(number)
        else:
            for start in {starts[0], starts[-1]}:
                self._read(number, self.preprocessing, start=start)

    def without(self, numbers: Collection[int]) -> "ClipDataset":
        """Return the data set without some of its videos; what is known of the others is kept."""
        kept = [number for number in range(len(self.examples)) if number not in numbers]
        rest = copy(self)
        rest.examples = tuple(self.examples[number] for number in kept)
        rest._last_starts = self._last_starts[kept]
        rest._last_starts.share_memory_()  # type: ignore[no-untyped-call]
        return rest

    def _start(self, number: int, clip: int) -> int:
        if (starts := self.examples[number].video.starts) is not None:
            return starts[clip % len(starts)]
        if clip == 0:
            return 0
        return uniform_starts(self.last_start(number) + self.sampling.span, self.clips, self.sampling.span)[clip]

    def _random_start(self, number: int, rng: np.random.Generator) -> int:
        if (starts := self.examples[number].video.starts) is not None:
            return starts[int(rng.integers(len(starts)))]
        return int(rng.integers(self.last_start(number) + 1))

    def _read(self, number: int, preprocessing: Preprocessing, *, start: int = 0, ends: bool = False) -> tuple[Pixels, int]:
        """Return the pixels (T, H, W, 3) of the clip at `start`, and its start; with `ends` those of the last clip."""
        video = self.examples[number].video
        whole = Segment(video.path, video.start, video.end)
        sampling = self.sampling if ends else replace(self.sampling, starts=(start,))
        reading = read_clips(
            whole,
            sampling,
            preprocessing,
            clips=2 if ends else None,
            image_fps=self.image_fps,
            limits=self.limits,
            in_process=self.in_process,
        )
        try:
            last = list(reading)[-1]  # read to the end, where decoding stops; a worker process that is interrupted is lost
        except VideoError as error:
            if video.path in str(error):
                raise
            raise VideoError(f"{video.path}: {error}", last_good_time=error.last_good_time, gaps=error.gaps) from error
        return last.pixels, last.span.first_frame


def _label_list(videos: Videos, split: Split | None) -> LabelList:
    if isinstance(videos, str | os.PathLike):
        videos = read_label_list(videos)  # with all splits, so that each split has the same classes
    if isinstance(videos, LabelList):
        found = replace(videos, examples=tuple(each for each in videos.examples if split in (None, each.split)))
    elif split is not None:
        raise UsageError(f"videos without a list have no split {split!r}; leave it out")
    else:
        examples = []
        for each in videos:
            segment = each if isinstance(each, Segment) else Segment(os.fspath(each))
            examples.append(Example(segment, (), segment.path))
        found = LabelList("paths", (), tuple(examples))
    if not found.examples:
        raise UsageError("there are no videos" + ("" if split is None else f" of the split {split!r}"))
    if found.missing:
        warnings.warn(f"{len(found.missing):,} videos of the list were not found: {shown(found.missing)}", stacklevel=3)
    return found

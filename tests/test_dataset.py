"""The data set of clips: its pixels are those of `extract`, in any process; its random places and crops are in the video."""

import gc
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import ig65m
from ig65m.collection.label_list import Example, LabelList, read_label_list
from ig65m.errors import ModelError, UsageError, VideoError
from ig65m.train.dataset import ClipDataset
from ig65m.types import Preprocessing, Segment
from ig65m.video.geometry import PlacedCrop, crop_corners
from ig65m.video.network_input import normalised
from tests.labelled import CARD, CLASSES, write_videos
from tests.videos import constant, encode_numbers, number_in

NUMBERS = replace(CARD, preprocessing=Preprocessing(resize=(64, 96), crop=(64, 96), mean=(0, 0, 0), std=(1, 1, 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("labelled"), 2)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """240 frames that carry their numbers, with a key frame every 12."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return encode_numbers(path, constant(240), options={"g": "12"})


def expected(path, card, clips, **more):
    sampling = ig65m.Sampling(frames=card.frames, frame_step=card.frame_step, **more)
    found = list(ig65m.read_clips(path, sampling, card.preprocessing, clips=clips))
    return [normalised(clip.pixels[None], card.preprocessing)[0] for clip in found]


def numbers(clip):
    """The numbers of the frames of a clip."""
    return [number_in(frame) for frame in clip.permute(1, 2, 3, 0).numpy()]


def test_a_folder_for_each_class_gives_clips_with_the_index_of_their_class(folder):
    data = ClipDataset(folder, CARD)
    assert data.classes == CLASSES
    assert len(data) == 8
    for index, example in enumerate(data.examples):
        clip, target = data[index]
        assert (clip.shape, clip.dtype, target.dtype) == ((3, 4, 32, 32), torch.float32, torch.int64)
        assert Path(example.video.path).parent.name == CLASSES[int(target)]
    with pytest.raises(IndexError):
        data[8]


@pytest.mark.parametrize("clips", [1, 2, 3, 7])
def test_clips_are_those_of_read_clips_to_the_bit(long, clips):
    data = ClipDataset([long], replace(NUMBERS, frame_step=3), clips=clips, in_process=True)
    for found, wanted in zip((data[i] for i in range(len(data))), expected(long, data.card, clips), strict=True):
        assert torch.equal(found, wanted)


def test_the_embedded_network_sees_what_extract_sees(bigbuckbunny):
    model = ig65m.load_model("r2plus1d_10_camera_motion")
    data = ClipDataset([bigbuckbunny], model.card, clips=5)
    for found, wanted in zip((data[i] for i in range(5)), expected(bigbuckbunny, model.card, 5), strict=True):
        assert torch.equal(found, wanted)
    frames = np.zeros((8, 240, 320, 3), np.uint8)
    assert model.preprocess(frames).shape == (1, *data[0].shape)


def test_a_rate_and_a_part_of_a_video_are_respected(long):
    part = Segment(str(long), start=2.0, end=6.0)
    data = ClipDataset([part], NUMBERS, clips=3, fps=5, in_process=True)
    assert [numbers(clip) for clip in (data[0], data[2])] == [[50, 55, 60, 65], [130, 135, 140, 145]]
    for found, wanted in zip((data[i] for i in range(3)), expected(part, NUMBERS, 3, fps=5), strict=True):
        assert torch.equal(found, wanted)


def test_listed_starts_are_where_clips_start(long):
    data = ClipDataset([Segment(str(long), starts=(30, 200))], NUMBERS, clips=2, augment=True, in_process=True)
    assert numbers(data.item(1, None)) == [200, 201, 202, 203]
    assert numbers(data.item(0, None)) == [30, 31, 32, 33]


def test_a_video_shorter_than_a_clip_repeats_its_last_frame(tmp_path):
    short = encode_numbers(tmp_path / "short.mp4", constant(3))
    for augment in (False, True):
        data = ClipDataset([short], NUMBERS, clips=2, augment=augment, in_process=True)
        assert [numbers(data[i]) for i in range(2)] == [[0, 1, 2, 2]] * 2


def test_random_clips_start_anywhere_and_follow_the_seed(long):
    data = ClipDataset([long], NUMBERS, augment=True)
    torch.manual_seed(0)
    firsts = [numbers(data[0]) for _ in range(60)]
    assert all(clip == list(range(clip[0], clip[0] + 4)) for clip in firsts)
    starts = [clip[0] for clip in firsts]
    assert min(starts) < 30
    assert max(starts) > 206
    assert len(set(starts)) > 40
    torch.manual_seed(0)
    assert [numbers(data[0]) for _ in range(5)] == firsts[:5]


def test_a_random_start_can_be_the_first_and_the_last(tmp_path):
    video = encode_numbers(tmp_path / "six.mp4", constant(6))
    data = ClipDataset([video], NUMBERS, augment=True, in_process=True)
    assert {numbers(data[0])[0] for _ in range(40)} == {0, 1, 2}


def test_a_random_clip_of_a_long_video_does_not_decode_all_of_it(long, monkeypatch):
    from ig65m.video import seeking

    decoded = []
    original = seeking.Timing.frames
    monkeypatch.setattr(
        seeking.Timing, "frames", lambda self, each: (decoded.append(frame) or frame for frame in original(self, each))
    )
    data = ClipDataset([long], NUMBERS, in_process=True, augment=True)
    data.last_start(0)
    decoded.clear()
    rng = np.random.default_rng(1)
    starts = [numbers(data.item(0, rng))[0] for _ in range(10)]
    assert sum(start >= 50 for start in starts) >= 5
    assert 0 < len(decoded) < 10 * 30


def test_crops_are_anywhere_in_the_resized_picture(folder):
    wide = replace(CARD, preprocessing=replace(CARD.preprocessing, resize=32, crop=(16, 16)))
    values = vars(wide.preprocessing)
    places = {crop_corners(PlacedCrop(**values, place=(a, b)), 32, 42)[0] for a in (0, 0.5, 1) for b in (0, 0.999, 1)}
    assert places == {(top, left) for top in (0, 8, 16) for left in (0, 26)}
    whole = replace(CARD, preprocessing=replace(CARD.preprocessing, crop=(36, 40)))
    picture = ClipDataset(folder, whole).item(0, None)[0][:, 0]
    windows = picture.unfold(1, 32, 1).unfold(2, 32, 1)  # (3, 5, 9, 32, 32)
    data = ClipDataset(folder, CARD, augment=True)
    at_start = [seed for seed in range(400) if data._random_start(0, np.random.default_rng(seed)) == 0]
    found = [where(data.item(0, np.random.default_rng(seed))[0][:, 0], windows) for seed in at_start]
    assert {top for top, _ in found} == set(range(5))
    assert {left for _, left in found} == set(range(9))


def where(crop, windows):
    """The place (top, left) of a crop among all windows of a picture."""
    ((top, left),) = (windows.permute(1, 2, 0, 3, 4) == crop).flatten(2).all(2).nonzero().tolist()
    return top, left


def test_clips_are_mirrored_only_if_asked(long):
    plain = ClipDataset([long], NUMBERS, augment=True)
    mirrored = ClipDataset([long], NUMBERS, augment=True, flip=True)
    same = 0
    for seed in range(20):
        one, other = (data.item(0, np.random.default_rng(seed)) for data in (plain, mirrored))
        same += torch.equal(one, other)
        assert torch.equal(one, other) or torch.equal(one.flip(-1), other)
    assert 4 <= same <= 16
    with pytest.raises(UsageError, match="set augment=True"):
        ClipDataset([long], NUMBERS, flip=True)


def test_several_labels_are_a_vector(long):
    examples = [
        Example(Segment(str(long)), ("b", "c"), "1", "train"),
        Example(Segment(str(long)), (), "2", "val"),
        Example(Segment(str(long)), ("a",), "3", "train"),
    ]
    labels = LabelList("table", ("a", "b", "c"), tuple(examples), multi_label=True)
    data = ClipDataset(labels, NUMBERS, split="train", clips=2)
    assert data.classes == ("a", "b", "c")
    assert [data[i][1].tolist() for i in range(4)] == [[0, 1, 1], [0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert ClipDataset(labels, NUMBERS, split="val")[0][1].tolist() == [0, 0, 0]
    with pytest.raises(UsageError, match="no videos of the split 'test'"):
        ClipDataset(labels, NUMBERS, split="test")


def test_splits_of_a_list_have_the_same_classes(folder, tmp_path):
    rows = ["path,label,split", *(f"{folder}/{label}/0.mp4,{label},{'val' if label == 'up' else 'train'}" for label in CLASSES)]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    train, val = (ClipDataset(tmp_path / "list.csv", CARD, split=split) for split in ("train", "val"))
    assert train.classes == val.classes == CLASSES
    assert int(val[0][1]) == 3


def test_missing_videos_of_a_list_are_named(folder, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\n{folder}/up/0.mp4,up\ngone.mp4,up\n")
    with pytest.warns(UserWarning, match=r"1 videos of the list were not found: 'gone\.mp4'"):
        assert len(ClipDataset(tmp_path / "list.csv", CARD)) == 1


def in_a_fresh_process(call):
    """Run a function of this module in a new process: LanceDB, which other tests leave loaded, does not survive a fork."""
    code = f"from pathlib import Path; from tests import test_dataset; test_dataset.{call}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, cwd=Path(__file__).parent.parent)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_worker_processes_read_the_same_clips(folder, context):
    in_a_fresh_process(f"read_in_workers(Path({str(folder)!r}), {context!r})")


def read_in_workers(folder, context):
    data = ClipDataset(folder, CARD, clips=2)
    here = [data[i] for i in range(len(data))]  # with a worker process for decoding, which a fork must not use
    loader = DataLoader(data, batch_size=5, num_workers=2, multiprocessing_context=context)
    batches = list(loader)
    assert torch.equal(torch.cat([clips for clips, _ in batches]), torch.stack([clip for clip, _ in here]))
    assert torch.equal(torch.cat([targets for _, targets in batches]), torch.stack([target for _, target in here]))


@pytest.mark.slow
def test_a_fork_after_decoding_in_this_process_does_not_hang(folder):
    in_a_fresh_process(f"fork_after_decoding(Path({str(folder)!r}))")


def fork_after_decoding(folder):
    data = ClipDataset(folder, CARD, in_process=True)
    for _ in range(3):
        data[0]  # leaves containers with threads for the garbage collector
        loader = DataLoader(data, num_workers=2, multiprocessing_context="fork", timeout=30, worker_init_fn=collect)
        assert len(list(loader)) == len(data)


def collect(_):
    gc.collect()


@pytest.mark.slow
def test_processes_share_what_they_know_of_a_video(long):
    in_a_fresh_process(f"share_what_they_know(Path({str(long)!r}))")


def share_what_they_know(long):
    data = ClipDataset([long], NUMBERS, augment=True)
    list(DataLoader(data, num_workers=1))
    assert int(data._last_starts[0]) == 236


def test_a_data_set_is_pickled(folder):
    data = ClipDataset(folder, CARD)
    clip, target = data[3]
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[3][0], clip)
    assert torch.equal(again[3][1], target)
    assert again.classes == data.classes


@pytest.mark.parametrize("in_process", [False, True])
def test_a_clip_that_cannot_be_read_names_its_video(folder, tmp_path, in_process):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((folder / "up" / "0.mp4").read_bytes()[:900])
    data = ClipDataset([folder / "up" / "1.mp4", broken], CARD, in_process=in_process)
    assert data[0].shape == (3, 4, 32, 32)
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        data[1]
    assert data[0].shape == (3, 4, 32, 32)


def test_what_makes_no_data_set_is_refused(folder, long):
    with pytest.raises(UsageError, match="clips must be a whole number from 1"):
        ClipDataset([long], CARD, clips=0)
    with pytest.raises(UsageError, match="no videos"):
        ClipDataset([], CARD)
    with pytest.raises(UsageError, match="have no split"):
        ClipDataset([long], CARD, split="train")
    with pytest.raises(UsageError, match="no such list"):
        ClipDataset("nowhere.csv", CARD)
    with pytest.raises(ModelError, match="clip length"):
        ClipDataset([long], replace(CARD, frames=None))
    with pytest.raises(ModelError, match="optical flow"):
        ClipDataset([long], replace(CARD, spec=replace(CARD.spec, in_channels=2)))
    found = read_label_list(folder)
    assert len(ClipDataset(found, CARD)) == 8
    with pytest.raises(UsageError, match="'up', which is none of the classes"):
        ClipDataset(replace(found, classes=CLASSES[:3]), CARD)
    two = replace(found.examples[0], labels=("up", "down"))
    with pytest.raises(UsageError, match="has 2 labels; expected one"):
        ClipDataset(replace(found, examples=(two,)), CARD)

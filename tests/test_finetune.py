"""Fine-tuning against a plain loop, after kills, and in several processes."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from ig65m.collection.label_list import LabelList, read_label_list
from ig65m.errors import CheckpointError, UsageError, VideoError
from ig65m.models.network import network, network_of, weights_of
from ig65m.models.spec import C3DSpec
from ig65m.train.dataset import ClipDataset
from ig65m.train.draws import Draws, balanced, shuffled
from ig65m.train.finetune import finetune, start_network
from ig65m.train.held_out import broken_videos, held_out_logits
from ig65m.train.recipe import Recipe, rate_at
from ig65m.train.stages import STAGES, parts_before
from tests.labelled import CARD, CLASSES, narrow, write_videos

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums in one order: rounding differs with threads, and training amplifies it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """20 videos to train on and 8 others."""
    folder = tmp_path_factory.mktemp("labelled")
    write_videos(folder / "train", 5)
    write_videos(folder / "val", 2, seed=1)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return [ClipDataset(folder / split, CARD, augment=split == "train", in_process=True) for split in ("train", "val")]


def state_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize("first", ["stem", "layer4", "fc"])
def test_two_steps_equal_a_plain_loop(first, data, tmp_path):
    recipe = Recipe(epochs=2, batch_size=20, rate=0.001, warmup=0, patience=None, first=first, weight_decay=0.02)
    finetune(narrow(), *data, recipe, checkpoint=tmp_path / "state")
    found = state_of(tmp_path / "state")

    model = start_network(narrow(), data[0], replace(recipe, first="stem"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [name for name in before if name.split(".")[0] in STAGES[STAGES.index(first) :]]
    momenta = {}
    for step, peak in enumerate((0.001, 0.0005)):
        draws = Draws(data[0], 0, balance=False)
        clips, targets = (torch.stack(each) for each in zip(*(draws[20 * step + n] for n in range(20)), strict=True))
        model.train()
        for stage in set(STAGES) - {name.split(".")[0] for name in trained}:
            model.get_submodule(stage).eval()
        model.zero_grad()
        F.cross_entropy(model(clips), targets).backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in trained:
                    gradient = weight.grad + (0.02 * weight if weight.dim() > 1 else 0)
                    momenta[name] = 0.9 * momenta[name] + gradient if step else gradient.clone()
                    rate = peak * (10 if name.startswith("fc") else 1)
                    weight.sub_(rate * (gradient + 0.9 * momenta[name]))

    for name, value in model.state_dict().items():
        np.testing.assert_allclose(found["network"][name], value, rtol=1e-6, atol=1e-6, err_msg=name)
        frozen = name not in trained
        assert torch.equal(found["network"][name], before[name]) == frozen, name


def test_batch_norms_take_a_tenth_of_the_new_statistics(data, tmp_path):
    base = narrow()
    finetune(base, *data, Recipe(epochs=1, batch_size=20, warmup=0), checkpoint=tmp_path / "state")
    clips = torch.stack([Draws(data[0], 0, balance=False)[n][0] for n in range(20)])
    values = network_of(base).stem[0](clips)
    found = state_of(tmp_path / "state")["network"]
    mean, var = values.mean((0, 2, 3, 4)), values.var((0, 2, 3, 4))
    torch.testing.assert_close(found["stem.1.running_mean"], 0.1 * mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["stem.1.running_var"], 0.9 + 0.1 * var, rtol=1e-4, atol=1e-4)


def test_a_narrow_network_overfits_32_clips(folder, tmp_path):
    train = ClipDataset(folder / "train", CARD, clips=2, in_process=True)
    examples = [each for label in CLASSES for each in train.examples if each.labels == (label,)][::5]
    labels = LabelList("folders", CLASSES, tuple(each for each in train.examples if each not in examples))
    train = ClipDataset(labels, CARD, clips=2, in_process=True)
    assert len(train) == 32
    epochs = []
    recipe = Recipe(epochs=12, batch_size=8, rate=0.004, patience=None)
    weights = finetune(narrow(), train, train, recipe, checkpoint=tmp_path / "state", on_epoch=epochs.append)
    assert max(epochs, key=lambda each: each.best * each.number).held_out_accuracy == 1.0
    logits = held_out_logits(weights, train)
    assert (logits.argmax(1) == [int(train[i][1]) for i in range(32)]).all()
    assert weights.card.labels == CLASSES
    assert weights.card.frames == 4
    other = held_out_logits(weights, ClipDataset(folder / "val", CARD, in_process=True))
    assert (other.argmax(1) == np.repeat(range(4), 2)).mean() >= 0.75


def run(folder, checkpoint, output, *launcher, save_every="0"):
    command = [sys.executable, *(launcher or ("-m",)), "tests.finetune_run", folder, checkpoint, output, save_every]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """The result of a run: weights, losses of steps, epochs, held-out logits."""
    place = tmp_path_factory.mktemp("undisturbed")
    with run(folder, place / "state", place / "out.safetensors", save_every="1000") as process:
        process.communicate()
    assert process.returncode == 0
    return load_file(place / "out.safetensors"), *json.loads((place / "out.json").read_text())


def test_a_run_killed_again_and_again_ends_as_if_undisturbed(folder, undisturbed, tmp_path):
    """It is killed after its second, fourth and sixth step, of which the last one may be in the checkpoint or not."""
    weights, losses, epochs, logits = undisturbed
    assert len(losses) == 8
    seen = {}
    for last in (2, 4, 6):
        with run(folder, tmp_path / "state", tmp_path / "out.safetensors") as process:
            for line in process.stdout:
                if line.startswith("step "):
                    _, step, _, loss = line.split()
                    seen[int(step)] = float(loss)
                    if int(step) == last:
                        process.send_signal(signal.SIGKILL)
                        break
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out.safetensors").exists()
    with run(folder, tmp_path / "state", tmp_path / "out.safetensors") as process:
        process.communicate()
    assert process.returncode == 0
    rest, again, their_logits = json.loads((tmp_path / "out.json").read_text())
    assert [*(seen[step] for step in range(1, 9 - len(rest))), *rest] == losses
    assert again == epochs
    assert their_logits == logits
    for name, value in load_file(tmp_path / "out.safetensors").items():
        np.testing.assert_array_equal(value, weights[name], err_msg=name)


def test_two_processes_equal_one(folder, undisturbed, tmp_path):
    weights, losses, epochs, logits = undisturbed
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    with run(folder, tmp_path / "state", tmp_path / "out.safetensors", *launcher) as process:
        process.communicate()
    assert process.returncode == 0
    theirs, their_epochs, their_logits = json.loads((tmp_path / "out.json").read_text())
    np.testing.assert_allclose(theirs, losses, atol=1e-5)
    np.testing.assert_allclose(their_logits, logits, atol=1e-4)
    for ours, others in zip(epochs, their_epochs, strict=True):
        assert others == pytest.approx(ours, abs=1e-4)
    for name, value in load_file(tmp_path / "out.safetensors").items():
        np.testing.assert_allclose(value, weights[name], atol=2e-5, rtol=1e-4, err_msg=name)


def test_too_many_processes_are_refused(data, tmp_path, monkeypatch):
    from ig65m.train import processes

    monkeypatch.setattr(processes, "count", lambda: 6)
    with pytest.raises(UsageError, match="batch of 5 clips is too small for 6 processes"):
        finetune(narrow(), *data, Recipe(batch_size=5), checkpoint=tmp_path / "state")


def test_a_finished_run_gives_its_result_again(data, tmp_path):
    recipe, steps, epochs = Recipe(epochs=2, batch_size=10), [], []
    first = finetune(narrow(), *data, recipe, checkpoint=tmp_path / "state", on_epoch=epochs.append)
    watch = {"on_step": lambda *each: steps.append(each), "on_epoch": epochs.append}
    again = finetune(narrow(), *data, recipe, checkpoint=tmp_path / "state", **watch)
    assert not steps
    assert len(epochs) == 4
    assert epochs[:2] == epochs[2:]
    for name, value in first.arrays.items():
        np.testing.assert_array_equal(value, again.arrays[name])


def test_worker_processes_change_nothing(folder, tmp_path):
    results = []
    for workers in (0, 2):
        data = [ClipDataset(folder / split, CARD, augment=split == "train") for split in ("train", "val")]
        recipe = Recipe(epochs=1, batch_size=7, balance=True)
        results.append(finetune(narrow(), *data, recipe, checkpoint=tmp_path / f"state{workers}", workers=workers))
    for name, value in results[0].arrays.items():
        np.testing.assert_array_equal(results[1].arrays[name], value, err_msg=name)


def test_training_stops_when_held_out_clips_get_worse(data, tmp_path):
    epochs = []
    recipe = Recipe(epochs=30, batch_size=10, rate=0.5, patience=2)
    weights = finetune(narrow(), *data, recipe, checkpoint=tmp_path / "state", on_epoch=epochs.append)
    assert len(epochs) < 30
    assert [each.best for each in epochs[-2:]] == [False, False]
    best = min(epochs, key=lambda each: each.held_out_loss)
    logits = torch.from_numpy(held_out_logits(weights, data[1]))
    targets = torch.tensor([int(data[1][i][1]) for i in range(len(data[1]))])
    assert F.cross_entropy(logits, targets).item() == pytest.approx(best.held_out_loss, rel=1e-5)


def test_several_labels_are_learned_by_binary_cross_entropy(folder, tmp_path):
    found = read_label_list(folder / "train")
    sides = {"up": ("up", "bright"), "down": (), "left": ("left",), "right": ("bright",)}
    examples = tuple(replace(each, labels=sides[each.labels[0]]) for each in found.examples)
    labels = LabelList("table", ("bright", "left", "up"), examples, multi_label=True)
    train = ClipDataset(labels, CARD, in_process=True)
    losses = []
    recipe = Recipe(epochs=15, batch_size=10, rate=0.02, label_smoothing=0.02)
    on_step = lambda step, steps, loss: losses.append(loss)  # noqa: E731
    weights = finetune(narrow(), train, train, recipe, checkpoint=tmp_path / "state", on_step=on_step)
    assert weights.spec.multi_label
    logits = held_out_logits(weights, train)
    wanted = np.stack([train[i][1].numpy() for i in range(len(train))])
    assert ((logits > 0) == (wanted > 0)).mean() > 0.95
    start = start_network(narrow(), train, recipe).train()
    draws = Draws(train, 0, balance=False)
    clips, targets = (torch.stack(each) for each in zip(*(draws[n] for n in range(10)), strict=True))
    smooth = targets * 0.98 + 0.01
    chances = torch.sigmoid(start(clips))
    by_hand = -(smooth * chances.log() + (1 - smooth) * (1 - chances).log()).mean()
    assert losses[0] == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(data, folder, tmp_path):
    recipe, state = Recipe(epochs=1, batch_size=20, warmup=0), tmp_path / "state"
    finetune(narrow(), *data, recipe, checkpoint=state)
    with pytest.raises(CheckpointError, match="another run: rate differ"):
        finetune(narrow(), *data, replace(recipe, rate=0.1), checkpoint=state)
    with pytest.raises(CheckpointError, match="another run: base differ"):
        finetune(narrow(1), *data, recipe, checkpoint=state)
    fewer = ClipDataset(replace(read_label_list(folder / "train"), examples=data[0].examples[1:]), CARD, augment=True)
    with pytest.raises(CheckpointError, match="another run: train order, train videos differ"):
        finetune(narrow(), fewer, data[1], recipe, checkpoint=state)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:1000], whole[: len(whole) // 2], bytes(flipped), b"no checkpoint" * 100):
        state.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="delete it to start again"):
            finetune(narrow(), *data, recipe, checkpoint=state)
    torch.save({"weights": 1}, state)
    with pytest.raises(CheckpointError, match="delete it to start again"):
        finetune(narrow(), *data, recipe, checkpoint=state)


def test_a_failed_write_leaves_the_old_checkpoint(data, tmp_path, monkeypatch):
    recipe, state = Recipe(epochs=1, batch_size=10, warmup=0), tmp_path / "state"
    original, written = torch.save, []

    def save(content, file):
        if written:
            Path(file).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(original(content, file))

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        finetune(narrow(), *data, recipe, checkpoint=state, save_every=0)
    assert state_of(state)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_loss_that_is_not_finite_is_an_error(data, tmp_path):
    with pytest.raises(UsageError, match="lower the learning rate"):
        finetune(narrow(), *data, Recipe(epochs=9, batch_size=5, rate=1e12, warmup=0), checkpoint=tmp_path / "state")


def test_broken_videos_are_all_named_before_the_first_step(data, folder, tmp_path):
    examples = []
    for number, each in enumerate(data[0].examples):
        path = Path(each.video.path)
        if number in (3, 11):
            path = tmp_path / f"broken{number}.mp4"
            path.write_bytes(Path(each.video.path).read_bytes()[:900])
        examples.append(replace(each, video=replace(each.video, path=str(path))))
    train = ClipDataset(LabelList("folders", CLASSES, tuple(examples)), CARD, augment=True)
    assert [error.split(":")[0][-12:-4] for error in broken_videos(train).values()] == ["/broken3", "broken11"]
    with pytest.raises(VideoError, match=r"2 of 28 videos cannot be read(?s:.*)broken3\.mp4(?s:.*)broken11\.mp4"):
        finetune(narrow(), train, data[1], checkpoint=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_what_cannot_be_trained_is_refused(data, folder, tmp_path):
    train, held_out = data
    start = {"checkpoint": tmp_path / "state"}
    one = LabelList("folders", CLASSES, tuple(each for each in train.examples if each.labels == ("up",)))
    with pytest.raises(UsageError, match="at least two classes to train on, got those of 1"):
        finetune(narrow(), ClipDataset(one, CARD), held_out, **start)
    other = ClipDataset(replace(one, classes=("up",)), CARD)
    with pytest.raises(UsageError, match="other classes"):
        finetune(narrow(), train, other, **start)
    with pytest.raises(UsageError, match="are augmented"):
        finetune(narrow(), train, train, **start)
    with pytest.raises(UsageError, match="needs a GPU"):
        finetune(narrow(), *data, Recipe(precision="bf16"), **start)
    small = replace(CARD, preprocessing=replace(CARD.preprocessing, crop=(16, 16)))
    with pytest.raises(UsageError, match="not preprocessed as narrow needs"):
        finetune(narrow(), ClipDataset(folder / "train", small), held_out, **start)
    with pytest.raises(UsageError, match="another length"):
        finetune(narrow(), ClipDataset(folder / "train", CARD, frames=3), held_out, **start)
    flow = replace(narrow(), card=replace(CARD, spec=replace(CARD.spec, in_channels=2)))
    with pytest.raises(UsageError, match="optical flow"):
        finetune(flow, *data, **start)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 2.5),
        ("rate", 0),
        ("rate", float("nan")),
        ("momentum", 1),
        ("warmup", 11),
        ("schedule", "linear"),
        ("first", "layer5"),
        ("precision", "fp16"),
        ("patience", 0),
        ("seed", -1),
        ("label_smoothing", 1),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(UsageError, match=setting):
        Recipe(**{setting: value})


def test_c3d_is_frozen_by_groups():
    model = network(C3DSpec(classes=2))
    names = [name for name, _ in model.named_children()]
    for stage, until in (("stem", "conv1a"), ("layer1", "conv2a"), ("layer4", "conv5a"), ("fc", "pool5")):
        parts = parts_before(model, stage)
        below = [part for part in names[: names.index(until)] if part.startswith("conv")]
        assert parts == [model.get_submodule(name) for name in below]


def test_each_turn_draws_each_clip_once():
    orders = [shuffled(10, 0, turn) for turn in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_balanced_draws_have_each_class_equally_often():
    classes = [0] * 50 + [1] * 3 + [4] * 7
    drawn = np.concatenate([balanced(classes, 1, turn) for turn in range(30)])
    assert len(drawn) == 60 * 30
    counts = np.bincount(np.asarray(classes)[drawn])
    assert counts[[0, 1, 4]].tolist() == [600, 600, 600]
    each = np.bincount(drawn, minlength=60)
    assert each[50:53].tolist() == pytest.approx([200] * 3, abs=20)
    assert (each[:50] > 0).all()
    assert each[:50].max() <= 22


def test_rates_are_those_of_torch():
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR, StepLR

    def rates(make, steps):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        schedule, found = make(optimiser), []
        for _ in range(steps):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    def warm(then):
        return lambda each: SequentialLR(each, [LinearLR(each, 0.1, total_iters=9), then(each)], milestones=[10])

    cosine = Recipe(epochs=5, rate=0.3, warmup=0.5)
    ours = [rate_at(step, recipe=cosine, epoch_steps=20) for step in range(100)]
    assert ours == pytest.approx(rates(warm(lambda each: CosineAnnealingLR(each, 90)), 100))
    stepped = Recipe(epochs=5, rate=0.3, warmup=0, schedule="step", drop=0.5, drop_every=1.5)
    ours = [rate_at(step, recipe=stepped, epoch_steps=20) for step in range(100)]
    assert ours == pytest.approx(rates(lambda each: StepLR(each, 30, 0.5), 100))


def test_the_base_stays_as_it_is(data, tmp_path):
    base = narrow()
    before = {name: array.copy() for name, array in base.arrays.items()}
    finetune(base, *data, Recipe(epochs=1, batch_size=20, warmup=0), checkpoint=tmp_path / "state")
    for name, array in base.arrays.items():
        np.testing.assert_array_equal(array, before[name])
    assert weights_of(network_of(base)).sha256 == base.sha256

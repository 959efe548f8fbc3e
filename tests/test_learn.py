"""Learning a last layer: against scikit-learn; the split of groups; temperatures; which clips belong to a label."""

import json
from dataclasses import asdict, replace
from types import MappingProxyType

import numpy as np
import pytest
import scipy.special
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ig65m.collection.label_list import Example, LabelList
from ig65m.engines.base import Work
from ig65m.engines.choice import choose
from ig65m.errors import UsageError
from ig65m.learn import linear
from ig65m.learn.calibration import best_temperature, scores_of
from ig65m.learn.examples import deal
from ig65m.learn.learner import class_warnings, learn_from_features
from ig65m.learn.linear import FALLBACK, choose_strength, held_out_logits, learn_head
from ig65m.learn.report import ClassCount, measure_held_out
from ig65m.learn.training_set import TrainingSet, check_settings, read_training_set
from ig65m.models.card import VMZ, Card
from ig65m.models.head import with_head
from ig65m.models.network import network, network_of, weights_of
from ig65m.models.spec import C3DSpec
from ig65m.store.features import Features
from ig65m.store.folder import Store, read_settings, result_name
from ig65m.types import ClipSpan, Segment
from ig65m.zoo.cards import EMBEDDED, card_for
from ig65m.zoo.load import load_weights

WIDTH = 20


def drawn(examples=60, classes=4, *, seed=0, clips=2, each_group=1, multi_label=False, near=1.0):
    """Features around the mean of their class, of other scales and places, in groups of examples."""
    rng = np.random.default_rng(seed)
    group = np.arange(examples) // each_group
    own = rng.permutation(np.arange(examples) % classes)
    positives = np.zeros((examples, classes), bool)
    positives[np.arange(examples), own] = True
    if multi_label:
        positives |= rng.random(positives.shape) < 0.2
        positives[0] = False
    centres = positives @ rng.normal(0, near, (classes, WIDTH))
    owners = np.repeat(np.arange(examples), clips)
    features = (centres[owners] + rng.normal(size=(len(owners), WIDTH))) * rng.uniform(0.01, 30, WIDTH) + rng.normal(
        0, 9, WIDTH
    )
    features[:, 3] = 7.5  # a constant feature
    names = tuple(f"label {number}" for number in range(classes))
    labelled = tuple(
        Example(Segment(f"/v/{n}.mp4"), tuple(name for name, yes in zip(names, row, strict=True) if yes), str(group[n]))
        for n, row in enumerate(positives)
    )
    return TrainingSet(features.astype(np.float32), owners, labelled, positives, group, names, multi_label)


def scikit_learn(strength, clips):
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / (strength * clips), tol=1e-9, max_iter=10_000))


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("strength", [0.3, 0.01, 0.001])
def test_exclusive_labels_are_those_of_scikit_learn(classes, strength):
    data = drawn(classes=classes, seed=classes)
    theirs = scikit_learn(strength, len(data.features)).fit(data.features.astype(float), data.positives.argmax(1)[data.owners])
    ours = scores_of(learn_head(data, strength)(data.features), multi_label=False)
    np.testing.assert_allclose(ours, theirs.predict_proba(data.features.astype(float)), atol=1e-4)


@pytest.mark.parametrize("strength", [0.3, 0.01])
def test_other_labels_are_those_of_scikit_learn(strength):
    data = drawn(multi_label=True, seed=5)
    theirs = OneVsRestClassifier(scikit_learn(strength, len(data.features)))
    theirs.fit(data.features.astype(float), data.positives[data.owners])
    ours = scores_of(learn_head(data, strength)(data.features), multi_label=True)
    np.testing.assert_allclose(ours, theirs.predict_proba(data.features.astype(float)), atol=1e-4)


def test_groups_are_never_on_both_sides_and_all_classes_are_in_all_folds():
    data = drawn(examples=120, classes=4, each_group=3)
    folds = deal(data.positives, data.groups)
    for group in np.unique(data.groups):
        assert len(set(folds[data.groups == group])) == 1
    assert np.bincount(folds).tolist() == [24] * 5
    data = drawn(examples=40, classes=4)
    for fold in range(5):
        assert data.positives[deal(data.positives, data.groups) == fold].any(axis=0).all()
    assert (deal(data.positives, data.groups, 1) != deal(data.positives, data.groups, 2)).any()


def test_held_out_logits_are_those_of_scikit_learn():
    data = drawn(each_group=2, seed=3, near=0.7)
    targets = data.positives.argmax(1)[data.owners]
    split = PredefinedSplit(deal(data.positives, data.groups)[data.owners])
    strength = 0.05
    model = scikit_learn(strength, 0.8 * len(data.features))
    theirs = cross_val_predict(model, data.features.astype(float), targets, cv=split, method="predict_proba")
    ours = scores_of(held_out_logits(data, strength), multi_label=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_strength_with_the_least_held_out_loss_is_chosen():
    data = drawn(examples=100, seed=4, near=0.5)
    strength, losses = choose_strength(data)
    assert strength == min(losses, key=losses.get)
    assert len(losses) > 2
    targets = data.positives.argmax(1)[data.owners]
    for each, loss in losses.items():
        theirs = log_loss(targets, scores_of(held_out_logits(data, each), multi_label=False))
        assert loss == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_temperature_has_the_least_loss(multi_label):
    data = drawn(examples=400, seed=6, multi_label=multi_label, near=0.6)
    logits = 3.7 * held_out_logits(data, 0.03)
    positives = data.positives[data.owners]
    found = best_temperature(logits, positives, multi_label=multi_label, examples=10**9)

    def loss(temperature):
        scores = scores_of(logits / temperature, multi_label=multi_label)
        if multi_label:
            return np.mean([log_loss(own, row, labels=[False, True]) for own, row in zip(positives.T, scores.T, strict=True)])
        return log_loss(positives.argmax(1), scores)

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02))
    for temperature in np.geomspace(0.1, 15, 40):
        assert loss(found) <= loss(temperature) + 1e-9


def test_scores_of_few_examples_are_not_certain():
    """Nine of nine right: as if ten of eleven were."""
    logits = np.eye(3)[[0, 1, 2] * 3] * 50.0
    temperature = best_temperature(logits, logits > 0, multi_label=False, examples=9)
    scores = scores_of(logits / temperature, multi_label=False)
    np.testing.assert_allclose(scores.max(axis=1), 10 / 11, atol=2e-3)


def test_held_out_metrics_and_their_interval():
    data = drawn(examples=300, seed=8, near=0.5)
    logits = held_out_logits(data, 0.1)
    found = measure_held_out("so", logits, data.positives, data.owners, data.groups, multi_label=False)
    scores = scipy.special.softmax(logits, axis=1)
    own = data.positives.argmax(1)
    by_video = np.array([scores[data.owners == number].mean(axis=0) for number in range(300)]).argmax(axis=1)
    assert found.videos.top1 == pytest.approx(accuracy_score(own, by_video))
    assert found.clips.top1 == pytest.approx(accuracy_score(own[data.owners], scores.argmax(1)))
    assert found.confusion.sum() == 300
    deviation = np.sqrt(found.videos.top1 * (1 - found.videos.top1) / 300)
    assert found.interval[0] == pytest.approx(found.videos.top1 - 1.96 * deviation, abs=0.012)
    assert found.interval[1] == pytest.approx(found.videos.top1 + 1.96 * deviation, abs=0.012)
    thirds = measure_held_out("so", logits, data.positives, data.owners, np.arange(300) // 30, multi_label=False)
    assert thirds.videos == found.videos
    json.dumps(found.to_record(), allow_nan=False)


def test_the_interval_of_labels_that_are_not_exclusive():
    data = drawn(examples=100, seed=9, multi_label=True)
    found = measure_held_out("so", held_out_logits(data, 0.1), data.positives, data.owners, data.groups, multi_label=True)
    assert found.interval[0] < found.videos.map < found.interval[1]
    assert found.confusion is None


def learned(data, *, fps=None, **how):
    base = load_weights(EMBEDDED)
    settings = {
        "name": EMBEDDED,
        "sampling": {"frames": 8, "frame_step": 2, "fps": fps, "stride": None},
        "preprocessing": json.loads(json.dumps(asdict(base.card.preprocessing))),
        "precision": "fp32",
    }
    wide = replace(data, features=np.tile(data.features, (1, 7))[:, :128])
    return learn_from_features(base, settings, wide, name="mine", labels_sha256="0" * 64, **how)


def test_a_learned_network_says_where_it_comes_from():
    data = drawn(examples=80, seed=10)
    weights, report = learned(data)
    base = load_weights(EMBEDDED)
    card = Card.from_json(weights.card.to_json())
    assert card == weights.card
    assert (card.name, card.labels, card.frames, card.frame_step, card.spec.classes) == ("mine", data.classes, 8, 2, 4)
    assert card.preprocessing == base.card.preprocessing
    assert not card.embedded
    assert (card.learned.base, card.learned.base_sha256) == (EMBEDDED, base.sha256)
    assert card.learned.metrics["top1"] == report.held_out.videos.top1
    assert 0 < report.temperature < 5
    for key, array in base.arrays.items():
        assert key.startswith("fc.") or np.array_equal(weights.arrays[key], array)


def test_a_given_split_is_held_out():
    data = drawn(examples=80, seed=11)
    splits = ["train"] * 50 + [None] * 10 + ["val"] * 10 + ["test"] * 10
    examples = tuple(replace(each, split=split) for each, split in zip(data.examples, splits, strict=True))
    _, report = learned(replace(data, examples=examples))
    assert report.held_out.how == "the split test and val"
    assert report.held_out.examples == 20
    assert sum(each.videos for each in report.counts) == 60
    twice = 1 + np.repeat([split in ("val", "test") for split in splits], 2)[:, None]
    _, again = learned(replace(data, examples=examples, features=data.features * twice.astype(np.float32)))
    assert again.temperature == report.temperature  # held-out videos have no part in it
    with pytest.raises(UsageError, match="there is none to learn from"):
        learned(replace(data, examples=tuple(replace(each, split="val") for each in data.examples)))
    groups = data.groups.copy()
    groups[70] = 0
    _, report = learned(replace(data, examples=examples, groups=groups))
    assert any("1 videos are on both sides" in warning for warning in report.warnings)


def test_few_videos_are_learned_from_with_warnings():
    data = drawn(examples=4, classes=4)
    weights, report = learned(data)
    assert report.held_out is None
    assert report.settings["strength"] == FALLBACK
    assert weights.card.learned.metrics == {}
    assert any("no video could be held out" in warning for warning in report.warnings)
    one_of_a_kind = drawn(examples=41, classes=40)
    _, report = learned(one_of_a_kind)
    assert report.held_out.examples == 41
    with pytest.raises(UsageError, match="no clip belongs to a labelled video"):
        learned(drawn(examples=10, classes=2).part(np.zeros(10, np.bool_)))
    with pytest.raises(UsageError, match="have the labels 'label 0' only; expected at least two"):
        learned(drawn(examples=6, classes=1))


def test_warnings_name_the_classes():
    counts = (ClassCount("archery", 9, 20), ClassCount("archry", 1, 2), ClassCount("none", 0, 0))
    assert list(class_warnings(counts, 9, measured=True)) == [
        "'none': no video to learn from; never predicted",
        "'archry': fewer than 5 videos; give more for a reliable result",
        "'archry' is nearly 'archery'; are they one class?",
    ]
    (said,) = class_warnings(counts[:1], 9, measured=True, multi_label=True)
    assert said == "'archery': all videos have this label; always predicted"
    many = tuple(ClassCount(f"action number {number}", 2, 2) for number in range(1000))
    assert len(list(class_warnings(many, 2000, measured=True))) == 2


def test_the_strength_is_chosen_with_a_part_of_many_clips(monkeypatch):
    """Of few long videos as well as of many short ones."""
    monkeypatch.setattr("ig65m.learn.linear.MAX_CHOICE", 100)
    for seed in range(5):
        long = linear._thinned(drawn(examples=8, clips=100), seed)
        assert np.bincount(long.owners).tolist() == [13] * 8
        short = linear._thinned(drawn(examples=300, clips=3, each_group=2), seed)
        assert 50 < len(short.features) == len(short.examples) < 150
        assert len(np.unique(short.groups)) * 2 == len(short.examples)
    assert choose_strength(drawn(examples=8, clips=100, classes=2), seed=3)[1]


def test_features_at_a_rate_give_a_network_at_that_rate():
    weights, _ = learned(drawn(examples=40), fps=12.5)
    assert Card.from_json(weights.card.to_json()).fps == 12.5


def random_weights(spec):
    model = network(spec).eval()
    model.card = replace(card_for(spec, name="base", origin="test"), frames=spec.clip_frames or 8)
    return weights_of(model)


def test_c3d_takes_a_head_on_its_features():
    weights = random_weights(C3DSpec(classes=3))
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(5, 4096)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    found = with_head(weights, weight, bias, labels="abcde")
    clips = rng.integers(0, 256, (1, 16, 112, 112, 3), dtype=np.uint8)
    work = Work(preprocessing=weights.card.preprocessing, frames=16)
    features, logits = choose("openvino").load(found, work)(clips)
    before, _ = choose("openvino").load(weights, work)(clips)
    np.testing.assert_allclose(features, before, rtol=1e-5)
    np.testing.assert_allclose(logits, features @ weight.T + bias, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    network_of(found)


# Which clips belong to a label.

SETTINGS = {
    "name": "n",
    "sha256": "s",
    "pooling": {"spatial": "mean", "temporal": "mean"},
    "sampling": {"frames": 10, "frame_step": 1, "stride": None, "fps": None},
    "preprocessing": json.loads(json.dumps(asdict(VMZ))),
    "features": "float32",
}


def stored(folder, videos, contents=MappingProxyType({})):
    """A folder of features of clips of 10 frames at 10 a second, whose features are their numbers."""
    with Store(folder, SETTINGS) as store:
        for segment, lengths in videos.items():
            first = round(10 * (segment.start or 0))
            spans = []
            for length in lengths:
                spans.append(ClipSpan(first / 10, (first + length) / 10, first, first + length - 1))
                first += length
            array = np.array([[span.start, 1] for span in spans], np.float32).reshape(-1, 2)
            features = Features(segment.path, "ok", array, tuple(spans), model=SETTINGS)
            store.claim(result_name(segment))
            store.commit(segment, contents.get(segment.path, segment.path), features)
    return folder


def labelled(*parts):
    examples = tuple(Example(part, ("x",), part.path) for part in parts)
    return LabelList("table", ("x",), examples)


A, B = "/v/a.mp4", "/v/b.mp4"


@pytest.mark.parametrize(
    ("part", "clips"),
    [
        (Segment(A), [0, 1, 2, 3]),
        (Segment(A, 1.0, 3.0), [1, 2]),
        (Segment(A, 0.6, 2.5), [1, 2]),
        (Segment(A, 0.4, 1.4), [0]),
        (Segment(A, None, 1.9), [0, 1]),
        (Segment(A, 2.9, None), [3]),
        (Segment(A, 1.4, 1.7), [1]),
        (Segment(A, 3.9, 4.05), [3]),
        (Segment(A, starts=(20,)), [2]),
        (Segment(A, starts=(5,)), []),
        (Segment(A, 9.0, 12.0), []),
        (Segment(B, 5.0, 8.0), [5, 6, 7]),
        (Segment(B), [5, 6, 7]),
        (Segment("/v/c.mp4"), []),
    ],
)
def test_clips_of_a_part(tmp_path, part, clips):
    """The last clip of A has four frames."""
    folder = stored(tmp_path / "f", {Segment(A): [10, 10, 10, 10, 4], Segment(B, 5.0, 8.0): [10, 10, 10]})
    found = read_training_set(folder, labelled(part), 2)
    assert found.features[:, 0].tolist() == clips
    assert len(found.without_clips) == (not clips)


def test_a_video_of_one_short_clip_has_that(tmp_path):
    folder = stored(tmp_path / "f", {Segment(A): [7]})
    assert len(read_training_set(folder, labelled(Segment(A)), 2).features) == 1


def test_several_parts_of_a_video_are_examples_of_one_group(tmp_path):
    folder = stored(tmp_path / "f", {Segment(A): [10] * 6})
    found = read_training_set(folder, labelled(Segment(A, 0.0, 2.0), Segment(A, 3.0, 6.0)), 2)
    assert found.owners.tolist() == [0, 0, 1, 1, 1]
    assert found.groups.tolist() == [0, 0]


def test_copies_of_a_video_are_one_group(tmp_path):
    paths = [f"/v/{name}.mp4" for name in "abcd"]
    same = {paths[0]: "x", paths[2]: "x"}
    folder = stored(tmp_path / "f", {Segment(path): [10] for path in paths}, same)
    found = read_training_set(folder, labelled(*map(Segment, paths)), 2)
    assert found.groups.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("key", "value"),
    [("sampling", None), ("sampling", {"frames": 8}), ("preprocessing", None), ("preprocessing", {"resize": 3, "odd": 1})],
)
def test_settings_that_lack_something_are_refused(tmp_path, key, value):
    settings = {**SETTINGS, key: value}
    with pytest.raises(UsageError, match=r"settings\.json of .* lacks how"):
        check_settings(tmp_path, settings, "n", "s")


def test_unusable_features_are_refused(tmp_path):
    folder = stored(tmp_path / "f", {Segment(A): [10]})
    with pytest.raises(UsageError, match=r"the features of /v/a\.mp4 have the shape \(2,\); the network gives \(3,\)"):
        read_training_set(folder, labelled(Segment(A)), 3)
    settings = read_settings(folder)
    check_settings(folder, settings, "n", "s")
    with pytest.raises(UsageError, match="features of n, whose weights are not those of m; extract them with it"):
        check_settings(folder, settings, "m", "t")
    with pytest.raises(UsageError, match="has class scores, not features"):
        check_settings(folder, {**settings, "rows": "class scores"}, "n", "s")
    with pytest.raises(UsageError, match="with the pooling"):
        check_settings(folder, {**settings, "pooling": {"spatial": "max", "temporal": "mean"}}, "n", "s")


def test_features_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    folder = stored(tmp_path / "f", {Segment(A): [10]})
    monkeypatch.setattr("ig65m.learn.training_set.read_result", lambda *_: replace_nan())
    with pytest.raises(UsageError, match=r"the features of /v/a\.mp4 in .* contain numbers that are not finite"):
        read_training_set(folder, labelled(Segment(A)), 2)


def replace_nan():
    return Features(A, "ok", np.full((1, 2), np.nan, np.float32), (ClipSpan(0, 1),), model=SETTINGS)

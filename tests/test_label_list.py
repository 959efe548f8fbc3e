"""Lists of labelled videos, in the formats of the public data sets."""

import json
import os
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import pandas as pd
import pytest

from ig65m.collection.label_list import read_label_list, spelling
from ig65m.collection.listing import find_videos
from ig65m.collection.video_lookup import VideoLookup
from ig65m.errors import UsageError
from ig65m.types import Segment


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def labels_by_name(found):
    return {Path(each.video.path).name: each.labels for each in found.examples}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table(tmp_path, suffix):
    touch(tmp_path, "a.mp4", "b c.mp4", "sub/d.mp4")
    rows = {
        "path": ["a.mp4", "a.mp4", "b c.mp4", "sub/d.mp4", "gone.mp4"],
        "label": ["run, fast", "sit", "sit", "run, fast", "sit"],
        "start": [0, 2.5, None, None, None],
        "end": [2.5, None, None, None, None],
        "split": ["train", "Training", "val", "test", ""],
        "extra": 1,
    }
    pd.DataFrame(rows).to_csv(tmp_path / f"l{suffix}", index=False, sep="\t" if suffix == ".tsv" else ",")
    found = read_label_list(tmp_path / f"l{suffix}")
    assert found.format == "table"
    assert found.classes == ("run, fast", "sit")
    assert not found.multi_label
    assert found.missing == ("gone.mp4",)
    a = str(tmp_path / "a.mp4")
    assert [each.video for each in found.examples] == [
        Segment(a, 0.0, 2.5),
        Segment(a, 2.5, None),
        Segment(str(tmp_path / "b c.mp4")),
        Segment(str(tmp_path / "sub" / "d.mp4")),
    ]
    assert [each.split for each in found.examples] == ["train", "train", "val", "test"]
    assert len({each.group for each in found.examples}) == 3
    assert [each.line for each in found.examples] == [2, 3, 4, 5]
    assert len(read_label_list(tmp_path / f"l{suffix}", split="train").examples) == 2


@pytest.mark.parametrize("header", ["path,label", "Path,LABEL", "\n \n,\nFilename , Class"])
def test_the_header_of_a_table(tmp_path, header):
    touch(tmp_path, "a.mp4", "b, c.mp4")
    found = read_label_list(write(tmp_path / "l.csv", f'{header}\na.mp4, "say ""ball"""\n"b, c.mp4",it\'s "x"\n'))
    assert labels_by_name(found) == {"a.mp4": ('say "ball"',), "b, c.mp4": ('it\'s "x"',)}
    assert [each.line for each in found.examples] == [header.count("\n") + 2, header.count("\n") + 3]


def test_several_labels_make_a_list_multi_label(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    found = read_label_list(write(tmp_path / "l.csv", "path,label\na.mp4,x; y;x\nb.mp4,y\nc.mp4,\n"))
    assert found.multi_label
    assert [each.labels for each in found.examples] == [("x", "y"), ("y",), ()]


def test_all_splits_decide_whether_a_list_is_multi_label(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    path = write(tmp_path / "l.csv", "path,label,split\na.mp4,x;y,train\nb.mp4,,test\n")
    found = read_label_list(path, split="test")
    assert found.multi_label
    assert [each.labels for each in found.examples] == [()]
    assert found.classes == ()


def test_groups_of_a_table(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    found = read_label_list(write(tmp_path / "l.csv", "path,label,group\na.mp4,x,g\nb.mp4,y,g\n"))
    assert {each.group for each in found.examples} == {"g"}


def test_pairs(tmp_path):
    """As SlowFast and mmaction2 write them."""
    touch(tmp_path, "x/a.mp4", "x/b 1.mp4")
    for name in ("train.csv", "train.txt"):
        found = read_label_list(write(tmp_path / name, "x/a.mp4 10\nx/b 1.mp4 2\n"))
        assert (found.format, found.classes) == ("pairs", ("2", "10"))
        assert labels_by_name(found) == {"a.mp4": ("10",), "b 1.mp4": ("2",)}
        assert find_videos([str(tmp_path / name)]) == [each.video for each in found.examples]


def test_labels_of_several_words_in_pairs(tmp_path):
    touch(tmp_path, "a.mp4", "b 1.MOV", "c.avi d.mp4")
    path = write(tmp_path / "l.txt", "a.mp4 long jump\nb 1.MOV\tlong jump\nc.avi d.mp4  3\n")
    found = read_label_list(path)
    assert found.format == "pairs"
    assert labels_by_name(found) == {"a.mp4": ("long jump",), "b 1.MOV": ("long jump",), "c.avi d.mp4": ("3",)}
    write(path, "a.mp4 long jump\nc.avi d.mp4\n")
    with pytest.raises(UsageError, match=r"line 2: expected a path and a label, got 'c\.avi d\.mp4'"):
        read_label_list(path, list_format="pairs")
    write(path, "a.mp4 long jump\nclip 3\n")
    with pytest.raises(UsageError, match=r"lists videos without labels.*--list-format pairs"):
        read_label_list(path)
    assert labels_by_name(read_label_list(path, list_format="pairs")) == {"a.mp4": ("long jump",)}


def test_vmz(tmp_path):
    touch(tmp_path, "a.avi")
    found = read_label_list(write(tmp_path / "l.csv", "org_video,label,start_frm,video_id\na.avi,3,0,1\na.avi,3,32,1\n"))
    assert [each.video.starts for each in found.examples] == [(0,), (32,)]
    assert len({each.group for each in found.examples}) == 1


KINETICS = '''label,youtube_id,time_start,time_end,split
testifying,---QUuC4vJs,84,94,validate
eating spaghetti,--3ouPhoy2A,20,30,validate
dribbling basketball,--4-0ihtnBU,58,68,validate
"playing ""ball""",gone_______,1,11,validate
'''


def test_kinetics(tmp_path):
    names = ("testifying/---QUuC4vJs_000084_000094.mp4", "x/--3ouPhoy2A.mkv", "x/--4-0ihtnBU_000001_000011.mp4")
    touch(tmp_path / "val", *names)
    found = read_label_list(write(tmp_path / "k.csv", KINETICS), videos=tmp_path / "val")
    assert found.format == "kinetics"
    assert [each.video for each in found.examples] == [
        Segment(str(tmp_path / "val/testifying/---QUuC4vJs_000084_000094.mp4")),
        Segment(str(tmp_path / "val/x/--3ouPhoy2A.mkv"), 20.0, 30.0),
    ]
    assert found.missing == ("--4-0ihtnBU_000058_000068", "gone________000001_000011")
    assert {each.split for each in found.examples} == {"val"}
    assert found.classes == ("eating spaghetti", "testifying")
    assert [each.group for each in found.examples] == ["---QUuC4vJs", "--3ouPhoy2A"]


UCF_CLASSES = "1 ApplyEyeMakeup\n2 ApplyLipstick\n3 Archery\n37 HandstandPushups\n"


def ucf(folder, classes=("ApplyEyeMakeup", "Archery", "HandstandPushups")):
    names = []
    for label in classes:
        for group, clip in ((8, 1), (8, 2), (9, 1)):
            spelled = label.replace("HandstandP", "HandStandP")  # as UCF101 has it
            names.append(f"{label}/v_{spelled}_g{group:02}_c{clip:02}.avi")
    touch(folder / "videos", *names)
    index = "".join(f"{number} {label}\n" for number, label in enumerate(classes, 1))
    write(folder / "lists/classInd.txt", index.replace("\n", "\r\n"))
    lines = [f"{name} {classes.index(name.split('/')[0]) + 1}" for name in names]
    write(folder / "lists/trainlist01.txt", "\r\n".join(lines) + "\r\n")
    write(folder / "lists/testlist01.txt", "\n".join(names) + "\n")
    return folder / "lists"


def test_ucf101(tmp_path):
    lists = ucf(tmp_path)
    for name, split in (("trainlist01", "train"), ("testlist01", "test")):
        found = read_label_list(lists / f"{name}.txt", videos=tmp_path / "videos")
        assert (found.format, len(found.examples), found.missing) == ("ucf101", 9, ())
        assert found.classes == ("ApplyEyeMakeup", "Archery", "HandstandPushups")
        assert {each.split for each in found.examples} == {split}
        assert len({each.group for each in found.examples}) == 6
    videos = find_videos([str(lists / "testlist01.txt")], videos_in=tmp_path / "videos")
    assert [each.video for each in found.examples] == videos
    flat = tmp_path / "flat"
    touch(flat, *(Path(each.video.path).name for each in found.examples))
    assert labels_by_name(read_label_list(lists / "testlist01.txt", videos=flat)) == labels_by_name(found)
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\n2 HandstandPushups\n3 Archery\n")
    with pytest.raises(UsageError, match=r"trainlist01\.txt, line 4: class 'Archery' with number 2"):
        read_label_list(lists / "trainlist01.txt", videos=tmp_path / "videos")


def test_hmdb51(tmp_path):
    """A file for each class and split; 1 is training, 2 test, 0 neither."""
    names = "April_09_brush_hair_u_nm_np1_ba_goo_{}.avi"
    for label, pattern in (("brush_hair", names), ("climb_stairs", "Stairs_climb_stairs_f_cm_np1_ba_med_{}.avi")):
        touch(tmp_path / "videos", *(f"{label}/{pattern.format(number)}" for number in range(4)))
        lines = [f"{pattern.format(number)} {(1, 2, 0, 1)[number]} " for number in range(4)]
        write(tmp_path / f"splits/{label}_test_split1.txt", "\n".join(lines) + "\n")
        write(tmp_path / f"splits/{label}_test_split2.txt", f"{pattern.format(0)} 2\n")
    found = read_label_list(tmp_path / "splits/brush_hair_test_split1.txt", videos=tmp_path / "videos")
    assert (found.format, found.classes) == ("hmdb51", ("brush_hair", "climb_stairs"))
    assert Counter(each.split for each in found.examples) == {"train": 4, "test": 2}
    assert {each.group for each in found.examples} == {"brush_hair/April_09", "climb_stairs/Stairs"}
    assert len(read_label_list(tmp_path / "splits/climb_stairs_test_split2.txt", videos=tmp_path / "videos").examples) == 2


def test_activitynet(tmp_path):
    touch(tmp_path, "v_abc.mp4", "def.mkv", "v_ghi.mp4")
    database = {
        "abc": {"subset": "training", "annotations": [{"label": "Polo", "segment": each} for each in ([1, 4.5], [6, 9])]},
        "def": {
            "subset": "Validation",  # as THUMOS14 writes it
            "annotations": [{"label": "Diving", "segment": [2, 3]}, {"label": "CliffDiving", "segment": [2, 3]}],
        },
        "ghi": {"subset": "testing", "annotations": []},
        "gone": {"subset": "training", "annotations": [{"label": "Polo", "segment": [0, 1]}]},
    }
    path = write(tmp_path / "l.json", json.dumps({"version": "1.3", "database": database}))
    found = read_label_list(path)
    assert (found.format, found.multi_label, found.missing) == ("activitynet", True, ("gone",))
    assert [(each.video.start, each.video.end, each.labels, each.split) for each in found.examples] == [
        (1, 4.5, ("Polo",), "train"),
        (6, 9, ("Polo",), "train"),
        (2, 3, ("Diving", "CliffDiving"), "val"),
    ]
    assert read_label_list(path, split="train").multi_label  # as the whole list is
    whole = [str(tmp_path / name) for name in ("v_abc.mp4", "def.mkv", "v_ghi.mp4", "gone")]
    assert find_videos([str(path)]) == [Segment(each) for each in whole]


def test_a_folder_for_each_class(tmp_path):
    touch(tmp_path, "run/a.mp4", "run/deep/b.mp4", "sit/a.mp4")
    found = read_label_list(tmp_path)
    assert (found.format, found.classes, len(found.examples)) == ("folders", ("run", "sit"), 3)
    touch(tmp_path / "split", "train/run/a.mp4", "val/run/b.mp4", "val/sit/c.mp4")
    found = read_label_list(tmp_path / "split")
    assert Counter(each.split for each in found.examples) == {"train": 1, "val": 2}
    assert found.classes == ("run", "sit")


def test_features_and_evaluations_in_a_folder_of_classes_are_no_classes(tmp_path):
    touch(tmp_path, "run/a.mp4", "sit/a.mp4")
    touch(tmp_path, "mine.features/settings.json", "mine.features/journal.jsonl", "mine.features/features/a.parquet")
    touch(tmp_path, "evaluation/scores/settings.json", "evaluation/report.html")
    assert read_label_list(tmp_path).classes == ("run", "sit")
    touch(tmp_path, "scores/settings/b.mp4", "settings.json/settings.json", "settings.json/b.mp4")
    assert read_label_list(tmp_path).classes == ("run", "scores", "settings.json", "sit")


def test_training_and_testing_are_splits_too(tmp_path):
    touch(tmp_path, "training/run/a.mp4", "Testing/sit/b.mp4")
    found = read_label_list(tmp_path)
    assert found.classes == ("run", "sit")
    assert {each.split for each in found.examples} == {"train", "test"}


def test_the_order_of_equal_numbers_is_always_the_same(tmp_path):
    touch(tmp_path, *(f"{number}.mp4" for number in range(4)))
    path = write(tmp_path / "l.csv", "path,label\n0.mp4,1\n1.mp4,001\n2.mp4,01\n3.mp4,0\n")
    assert read_label_list(path).classes == ("0", "001", "01", "1")


def test_known_videos_are_found_by_what_tells_them_apart(tmp_path):
    path = write(tmp_path / "l.csv", "path,label\na/1.mp4,x\nb/1.mp4,y\nc/2.mp4,x\n")
    elsewhere = ["/data/set/a/1.mkv", "/data/set/b/1.mkv", "/data/2.mp4"]
    found = read_label_list(path, videos=elsewhere)
    assert [each.video.path for each in found.examples] == elsewhere
    found = read_label_list(path, videos=elsewhere[1:])  # b's file is not a's
    assert [each.video.path for each in found.examples] == elsewhere[1:]
    assert found.missing == ("a/1.mp4",)
    with pytest.raises(UsageError, match=r"'c/2\.mp4' could be '/one/2\.mp4', '/two/2\.mp4'"):
        read_label_list(path, videos=[*elsewhere[:2], "/two/2.mp4", "/one/2.mp4"])


@pytest.mark.parametrize("name", ["c/1.mp4", "./c/1.mp4", "c//1.mp4", "c/./1.mp4", "d/../c/1.mp4", ".c/1.mp4", "c/1.mp4/"])
@pytest.mark.parametrize("beside", [".", "lists", "lists/../other/."])
def test_known_videos_are_found_however_paths_are_written(tmp_path, monkeypatch, name, beside):
    """Beside the list, in the working folder, and as absolute paths."""
    monkeypatch.chdir(tmp_path)
    for folder in ("lists", "other", "d"):
        (tmp_path / folder).mkdir()
    folder = Path(beside)
    path = write(folder / "l.csv", f"path,label\n{name},x\n")
    plain = name.strip("/").removeprefix("./").replace("//", "/").replace("/./", "/").replace("d/../", "")
    place = Path(os.path.normpath(tmp_path / folder))
    for wanted in (place / plain, tmp_path / plain):
        for known in (
            wanted,
            os.path.relpath(wanted),
            f"/{wanted}",
            wanted.parent / "." / ".." / wanted.parent.name / wanted.name,
        ):
            found = read_label_list(path, videos=[known, "/elsewhere/c/2.mp4"])
            assert os.path.normpath(found.examples[0].video.path).replace("//", "/") == str(wanted)
    absent = VideoLookup(folder, [name], None)
    assert absent.at(name) is None
    assert absent.expected(name) == str(folder / name)
    assert VideoLookup(folder, [name], tmp_path).expected(name) == str(tmp_path / name)


def test_the_digest_does_not_depend_on_folders_and_order(tmp_path):
    digests = set()
    for place, lines in (("one", ("a.mp4,x", "b.mp4,y")), ("two", ("b.mp4,y", "a.mp4,x")), ("three", ("a.mp4,y", "b.mp4,y"))):
        touch(tmp_path / place, "a.mp4", "b.mp4")
        digests.add(read_label_list(write(tmp_path / place / "l.csv", "\n".join(("path,label", *lines)))).sha256)
    assert len(digests) == 2


@pytest.mark.parametrize(
    "labels",
    [
        ("पानी", "पीना"),
        ("กิน", "กัน"),
        ("1", "-1", "11", "1 1", "1-1"),
        ("1.5", "15", "1,5"),
        ("C", "C++", "C#"),
        ("?", "!"),
    ],
)
def test_different_labels_stay_different(labels):
    assert len({spelling(label) for label in labels}) == len(labels)


@pytest.mark.parametrize(
    "labels",
    [
        ("Long Jump", "long_jump", "long-jump", "LongJump", "long jump."),
        ("Straße", "STRASSE"),
        ("café", normalize("NFD", "CAFÉ")),
        ("class 4", "Class_4", "CLASS  4"),
        ("\uff33it", "sit"),
    ],
)
def test_labels_that_differ_in_spelling_only(labels):
    assert len({spelling(label) for label in labels}) == 1


def test_labels_are_normalised_but_names_of_files_are_not(tmp_path):
    name = normalize("NFD", "é.mp4")
    touch(tmp_path, name, "b.mp4", normalize("NFD", "classes/café/c.mp4"))
    text = f"path,label\n{name},{normalize('NFD', 'café')}\nb.mp4,{normalize('NFC', 'café')}\n"
    found = read_label_list(write(tmp_path / "l.csv", text))
    assert found.classes == (normalize("NFC", "café"),)
    assert found.examples[0].video.path == str(tmp_path / name)
    found = read_label_list(tmp_path / "classes")
    assert found.classes == (normalize("NFC", "café"),)
    assert found.examples[0].video.path == str(tmp_path / normalize("NFD", "classes/café/c.mp4"))


def test_a_part_may_begin_before_zero(tmp_path):
    touch(tmp_path, "a.mp4")
    found = read_label_list(write(tmp_path / "l.csv", "path,label,start,end\na.mp4,x,-1.5,+.5\na.mp4,y,-1e0,\n"))
    assert [(each.video.start, each.video.end) for each in found.examples] == [(-1.5, 0.5), (-1, None)]


def annotated(label, segment):
    """A list of ActivityNet with one annotation, in JSON."""
    return f'{{"database": {{"a": {{"annotations": [{{"label": {label}, "segment": {segment}}}]}}}}}}'


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.csv", "path,label\na.mp4,x\n\nb.mp4,\n", r"line 4: 'b\.mp4' has no label"),
        ("l.csv", "path,label\na.mp4,x\na.mp4,y\n", r"'x' in line 2 and 'y' in line 3"),
        ("l.csv", "path,label,split\na.mp4,x,train\na.mp4,x,test\n", "split train in line 2 and of test in line 3"),
        ("trainlist01.txt", f"Archery/v_Archery_g08_c01.avi {'9' * 5000}\n", "'Archery/v_Archery_g08"),
        ("l.csv", "path,label\na.mp4,Long Jump\nb.mp4,long_jump\n", r"'Long Jump', 'long_jump' differ in spelling only"),
        ("l.csv", "path,label\na.mp4,a\x1b[1mb\n", r"line 2: the label 'a\\x1b\[1mb' has control characters"),
        ("l.csv", f"path,label\na.mp4,{'x' * 1001}\n", "line 2: the label must be text of at most 1,000 characters"),
        ("l.csv", ",\n", "l.csv has no columns; expected one of path"),
        ("l.csv", "path;label\na.mp4;x\n", r"separated by ;\? Then write commas, or name it \.tsv for tabs"),
        ("l.csv", "path\tlabel\na.mp4\tx\n", r"separated by tabs\? Then name it \.tsv"),
        ("l.csv", "path,Label,label\na.mp4,x,y\n", "line 1: the column 'label' is named twice"),
        ("l.csv", 'path,label\na.mp4,x\nb.mp4,"y\na.mp4,x\n', "line 3: a quote is not closed"),
        ("l.csv", 'path,label\na.mp4,"x\nb.mp4,"y"\n', "line 2: a quote is not closed, or closed within a field"),
        ("l.csv", '"path,label\na.mp4,x\n', "line 1: a quote is not closed"),
        ("l.csv", "path,label,group\na.mp4,x,g\n\na.mp4,x,\n", "the group 'g' in line 2 and of none in line 4"),
        ("l.csv", "path,label,end\na.mp4,x,0\n", "line 2: end must be after 0 s, got 0 s"),
        ("l.csv", "path,label,start,end\na.mp4,x,-2,-1\n", "line 2: end must be after 0 s, got -1 s"),
        ("l.csv", "path,label,start,end\na.mp4,x,1,1_0\n", "line 2: end must be a number of seconds, got '1_0'"),
        ("l.csv", "path,label,start,end\na.mp4,x,1,1e999\n", "line 2: end must be a number of seconds, got '1e999'"),
        ("l.csv", "path,label,split\na.mp4,x,trian\n", "line 2: split must be one of train"),
        ("l.csv", "path,label\na.mp4,x,1,2\n", "line 2: 4 fields, but the first line names 2 columns"),
        ("l.csv", "path\na.mp4\n", "has no labels; expected a column `label`"),
        ("l.csv", "path,label\nnone.mp4,x\nneither.mp4,y\n", "none of its 2 videos was found, such as 'none.mp4'"),
        ("l.csv", "label,youtube_id\nx,abc\n", "a list of Kinetics has 'time_start', 'time_end' too"),
        ("l.csv", "label,youtube_id,time_start,time_end\nx,abc,10,soon\n", "line 2: time_end must be a number of seconds"),
        ("l.txt", "a.mp4\nb.mp4\n", "lists videos without labels"),
        ("l.json", "[1]", "an object `database`"),
        ("l.json", '{"database": {"a": {"annotations": [{"label": "x"}]}}}', "'a': expected `annotations` with"),
        ("l.json", '{"database": {"a": {"annotations": [{"label": "x", "segment": [0, Infinity]}]}}}', r"got \[0, inf\]"),
        ("l.json", annotated("null", "[0, 1]"), "'a': a label must be text that is not empty, got None"),
        ("l.json", annotated('" "', "[0, 1]"), "'a': a label must be text that is not empty, got ' '"),
        ("l.json", annotated('"x"', '"12"'), r"'a': a segment must be \[start, end\] in seconds, got '12'"),
        ("l.json", annotated('"x"', "[0, 1, 2]"), r"'a': a segment must be .* got \[0, 1, 2\]"),
        ("l.json", annotated('"x"', '["0", true]'), r"'a': a segment must be .* got \['0', True\]"),
        ("l.json", annotated('"x"', f"[0, {'9' * 400}]"), "'a': a segment must be"),
        ("l.json", "{", "is not JSON"),
    ],
)
def test_a_wrong_list_is_an_error_that_names_the_line(tmp_path, name, text, said):
    touch(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(UsageError, match=said):
        read_label_list(write(tmp_path / name, text))


def test_a_format_can_be_given(tmp_path):
    touch(tmp_path, "a.mp4")
    odd = write(tmp_path / "list of pairs.txt", "a.mp4 x\nclip 3 y\n")
    assert [each.path for each in find_videos([str(odd)])] == [str(tmp_path / "a.mp4 x"), str(tmp_path / "clip 3 y")]
    found = read_label_list(odd, list_format="pairs")
    assert (found.classes, found.missing) == (("x",), ("clip 3",))
    with pytest.raises(UsageError, match=r"list format 'pears' is not one of paths, pairs.*did you mean 'pairs'"):
        read_label_list(odd, list_format="pears")
    with pytest.raises(UsageError, match=r"line 1: expected a name such as Archery/v_Archery"):
        read_label_list(odd, list_format="ucf101")
    for empty in ("nothing", "no/such"):
        (tmp_path / "nothing").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="expected"):
            read_label_list(tmp_path / empty)


def test_names_that_are_no_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    touch(tmp_path, name)
    (tmp_path / "l.csv").write_bytes(b"path,label\ncaf\xe9.mp4,x\n")
    found = read_label_list(tmp_path / "l.csv")
    assert found.examples[0].video.path == str(tmp_path / name)
    assert len(found.sha256) == 64


def test_labels_that_are_no_utf_8_are_refused(tmp_path):
    touch(tmp_path, "a.mp4", os.fsdecode(b"classes/caf\xe9/c.mp4"))
    (tmp_path / "l.csv").write_text("path,label\na.mp4,café\n", "latin-1")
    with pytest.raises(UsageError, match=r"l\.csv, line 2: the label 'caf\\udce9' is not UTF-8; save the list as UTF-8"):
        read_label_list(tmp_path / "l.csv")
    with pytest.raises(UsageError, match=r"classes: the name of the folder 'caf\\udce9' is not UTF-8; rename it"):
        read_label_list(tmp_path / "classes")

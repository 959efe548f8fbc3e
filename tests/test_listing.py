"""Files, folders and lists name videos."""

import os
from pathlib import Path

import av
import pandas as pd
import pytest

from ig65m.collection.listing import find_videos
from ig65m.errors import UsageError
from ig65m.types import Segment
from tests.videos import numbered


def paths(inputs):
    return [video.path for video in find_videos([str(each) for each in inputs])]


@pytest.fixture
def folder(tmp_path, bigbuckbunny):
    for name in (
        "a.mp4",
        "sub/b.MKV",
        "sub/deep/c.webm",
        "sub/notes.doc",
        "sub/.hidden.mp4",
        ".cache/d.mp4",
        "code.ts",
        "x.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"export const x = 1;")
    (tmp_path / "without").write_bytes(bigbuckbunny.read_bytes()[:1000])
    return tmp_path


def test_a_folder_is_the_videos_in_it(folder):
    wanted = ["a.mp4", "sub/b.MKV", "sub/deep/c.webm", "without"]
    assert sorted(paths([folder])) == [str(folder / name) for name in wanted]
    assert paths([folder]) == paths([folder])


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf"])
def test_a_video_without_a_suffix_is_known_by_how_it_begins(tmp_path, container):
    codec = {"mpeg": "mpeg2video", "ogg": "libvpx", "flv": "flv", "asf": "mpeg4"}.get(container, "libx264")
    video = tmp_path / "films" / f"film.{container}"
    video.parent.mkdir()
    with av.open(str(video), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        output.mux(stream.encode(None))
    video.rename(video.with_name("film"))
    assert paths([tmp_path]) == [str(tmp_path / "films" / "film")]


def test_images_count_only_where_there_are_no_videos(tmp_path):
    for name in ("one/1.jpg", "one/2.jpg", "two/1.png", "empty/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert paths([tmp_path]) == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert paths([tmp_path / "one"]) == [str(tmp_path / "one")]
    (tmp_path / "two" / "v.mp4").touch()
    assert paths([tmp_path]) == [str(tmp_path / "two" / "v.mp4")]
    with pytest.raises(UsageError, match="no videos or images found"):
        find_videos([str(tmp_path / "empty")])


def test_a_list_is_a_path_a_line(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "here.mp4").touch()
    (tmp_path / "there.mp4").touch()
    lines = ["\ufeffhere.mp4\r", "", "/abs/olute.mp4", "there.mp4", "here.mp4", "  spaced name.mp4 ", ""]
    (tmp_path / "lists" / "all.txt").write_text("\n".join(lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    found = paths(["lists/all.txt", "there.mp4"])
    inside = tmp_path / "lists"
    assert found == [str(inside / "here.mp4"), "/abs/olute.mp4", str(tmp_path / "there.mp4"), str(inside / "spaced name.mp4")]


def test_names_that_are_no_utf_8_stay_as_they_are(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4\n")
    assert paths([tmp_path / "list.txt"]) == [str(tmp_path / name)]


def test_only_ends_of_lines_end_a_name(tmp_path):
    names = ["a\u2028b.mp4", "c\x85d.mp4", "e\x0cf.mp4", "g\x1ch.mp4"]
    (tmp_path / "list.txt").write_bytes("\n".join(names).encode())
    assert paths([tmp_path / "list.txt"]) == [str(tmp_path / name) for name in names]
    pd.DataFrame({"path": [*names, 'i"\nj.mp4']}).to_csv(tmp_path / "list.csv", index=False)
    assert paths([tmp_path / "list.csv"]) == [str(tmp_path / name) for name in [*names, 'i"\nj.mp4']]


def test_a_table_may_give_start_and_end(tmp_path):
    table = pd.DataFrame({"label": ["x, y", "z", ""], "path": ["/v/a.mp4", "/v/a.mp4", "/v/b.mp4"], "start": [1.5, None, 0]})
    table["end"] = [2, 7.25, None]
    table.to_csv(tmp_path / "list.csv", index=False)
    table.to_csv(tmp_path / "list.tsv", index=False, sep="\t")
    wanted = [Segment("/v/a.mp4", 1.5, 2.0), Segment("/v/a.mp4", None, 7.25), Segment("/v/b.mp4", 0.0, None)]
    assert find_videos([str(tmp_path / "list.csv")]) == find_videos([str(tmp_path / "list.tsv")]) == wanted


def test_a_list_of_vmz(tmp_path):
    """As its tutorial on feature extraction writes them: a row a clip."""
    rows = [("/v/a.avi", 0, 32, 7), ("/v/b.avi", 1, 0, 8), ("/v/a.avi", 0, 0, 9), ("/v/a.avi", 0, 1200, 10)]
    pd.DataFrame(rows, columns=["org_video", "label", "start_frm", "video_id"]).to_csv(tmp_path / "l.csv", index=False)
    wanted = [Segment("/v/a.avi", starts=(0, 32, 1200)), Segment("/v/b.avi", starts=(0,))]
    assert find_videos([str(tmp_path / "l.csv")]) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the list is empty"),
        ("\n \n", "the list is empty"),
        ("name,label\na.mp4,1\n", "'name', 'label'; expected one of path"),
        ("path,start,end\na.mp4,3,2\n", "line 2: start must be before end"),
        ("path,start\na.mp4,soon\n", "line 2: start must be a number of seconds, got 'soon'"),
        ("path,start\na.mp4,nan\n", "line 2: start must be"),
        ("path,start\n,1\n", "line 2: no path"),
        ("org_video,start_frm\na.mp4,-1\n", "line 2: start_frm must be the number of a frame"),
        ("org_video,start_frm\na.mp4,9999999999999999\n", "start_frm must be the number of a frame"),
        ("path\n\0\n", "binary"),
        (f"{'x' * 200_000},path\n", "field larger than field limit"),
        (f'path,start\n"{"x" * 200_000}\n', "field larger than field limit"),
    ],
)
def test_a_list_that_is_not_understood(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        find_videos([str(tmp_path / "list.csv")])


def test_what_is_not_there_is_left_to_the_reader(tmp_path):
    assert paths([tmp_path / "none.mp4", tmp_path / "none.txt"]) == [str(tmp_path / "none.mp4"), str(tmp_path / "none.txt")]


def test_a_folder_that_cannot_be_read_is_reported(folder, monkeypatch):
    scan = os.scandir

    def closed(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UsageError, match=r"deep: Permission denied"):
        find_videos([str(folder)])


def test_links_to_folders_are_not_followed_in_circles(folder):
    (folder / "sub" / "round").symlink_to(folder)
    assert len(paths([folder])) == 4


def test_a_videos_own_name_is_that_of_the_link(folder):
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    assert str(Path(folder / "link.mp4")) in paths([folder])

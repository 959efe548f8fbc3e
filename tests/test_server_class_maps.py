"""Class activation maps over HTTP: those of the network, at their places in the picture; and refusals."""

import numpy as np
import pytest

from ig65m.explain.class_maps import ClassMapper, ClipMap, VideoMaps
from ig65m.search.index import Index
from ig65m.server.class_maps import LazyMapper, class_map
from ig65m.server.errors import ApiError
from ig65m.tasks.options import Options
from ig65m.types import ClipSpan, Segment
from ig65m.video.sampling import Sampling
from ig65m.zoo.cards import CARDS
from tests.serving import checked, serving
from tests.test_server_motion import BIKES, identifiers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web(shelf, tmp_path_factory):
    with serving(shelf / "index", tmp_path_factory.mktemp("web") / "tmp") as served, served.client() as client:
        yield client
        assert "ig65m: GET" not in served.said()


def test_the_map_of_a_clip(web, shelf):
    """The values are those of the clip alone; places are shares of the picture, which is resized to 64x64."""
    index = Index.open(shelf / "index")
    name = identifiers(web)[BIKES]
    timeline = web.get(f"/api/videos/{name}/timeline").json()
    assert timeline["has_class_maps"] is True
    clip = timeline["clips"][3]
    found = web.get(f"/api/videos/{name}/class-map", params={"time": (clip["start"] + clip["end"]) / 2}).json()
    assert (found["start"], found["end"]) == (clip["start"], clip["end"])
    assert (found["label"], found["score"]) == (clip["labels"][0]["label"], pytest.approx(clip["labels"][0]["score"], abs=1e-4))
    sampling = index.settings["sampling"]
    options = Options(model=index.model_name, frames=sampling["frames"], frame_step=sampling["frame_step"])
    segment = Segment(str(shelf / "videos" / BIKES), start=clip["start"], end=clip["end"])
    [wanted] = ClassMapper(options).maps(segment).maps
    np.testing.assert_allclose(found["values"], wanted.values, rtol=1e-5)
    assert found["rows"] == found["columns"] == pytest.approx([(16 * n + 0.5) / 64 for n in range(4)])
    assert found["times"] == [clip["start"]]
    assert found["region"] == {"top": 0, "left": 0, "height": 1, "width": 1}


def test_a_label_that_was_asked_for(web):
    address = f"/api/videos/{identifiers(web)[BIKES]}/class-map"
    assert web.get(address, params={"label": "pan_left"}).json()["label"] == "pan_left"
    checked(web.get(address, params={"label": "archery"}), 404, "no_label")
    checked(web.get("/api/videos/nobody/class-map"), 404, "no_video")
    checked(web.get(address, params={"time": -1}), 422, "bad_parameter")


def test_places_where_the_aspect_ratio_is_kept(shelf):
    """CSN sees 224x224 of the middle of a picture whose shorter edge is 256: of 1280x720, columns 115 to 339 of 455."""
    card, index = CARDS["ir_csn_152_32_ig65m_kinetics"], Index.open(shelf / "index")
    sampling = Sampling(frames=32, frame_step=2)

    class Network:
        def maps(self, segment, *, label, stopping):
            span = ClipSpan(segment.start, segment.end, 0, 41)  # 21 of 32 frames are there
            made = ClipMap(span, "archery", 0.5, np.zeros((4, 7, 7), np.float32), (720, 1280))
            return VideoMaps((made,), None, card, card.preprocessing, sampling, "layer4")

    found = class_map(Network(), index, index.videos()[0], shelf / "videos" / BIKES, 0.0, None, lambda: False)
    assert found.region.left == pytest.approx(115 / 455)
    assert found.region.width == pytest.approx(224 / 455)
    assert found.region.top == pytest.approx(16 / 256)
    assert found.columns[1] == pytest.approx((115 + 32 + 0.5) / 455)
    assert found.times == pytest.approx([found.start + share * (found.end - found.start) for share in (0, 16 / 42, 32 / 42, 1)])


def test_a_stopped_request_has_no_answer(shelf):
    index = Index.open(shelf / "index")
    mapper = ClassMapper(Options(model=index.model_name))
    assert class_map(mapper, index, index.videos()[0], shelf / "videos" / BIKES, 0.0, None, lambda: True) is None


def test_a_video_that_is_no_longer_one(shelf, tmp_path):
    index = Index.open(shelf / "index")
    (tmp_path / "bikes.mp4").write_bytes(b"no video")
    mapper = ClassMapper(Options(model=index.model_name))
    with pytest.raises(ApiError, match="not a video") as refusal:
        class_map(mapper, index, index.videos()[0], tmp_path / "bikes.mp4", 0.0, None, lambda: False)
    assert (refusal.value.status, refusal.value.code) == (422, "unreadable")
    assert str(tmp_path) not in refusal.value.message


def test_the_network_is_loaded_once_and_late():
    loaded = []
    mapper = LazyMapper(lambda: loaded.append(1) or "network")
    assert not loaded
    assert mapper.get() == mapper.get() == "network"
    assert loaded == [1]

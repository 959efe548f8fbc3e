"""Class activation maps over HTTP: those of the network, at their places in the picture; and refusals."""

import numpy as np
import pytest

from ig65m.explain.class_maps import ClassMapper, ClipMap, VideoMaps
from ig65m.search.index import Index
from ig65m.server.class_maps import LazyMapper, class_map
from ig65m.tasks.options import Options
from ig65m.types import ClipSpan, Segment
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
    checked(web.get(address, params={"width": 0}), 422, "bad_parameter")


def test_places_where_the_aspect_ratio_is_kept(shelf):
    """CSN sees 224x224 of the middle of a picture whose shorter edge is 256: of 1280x720, columns 115 to 339 of 455."""
    card, index = CARDS["ir_csn_152_32_ig65m_kinetics"], Index.open(shelf / "index")
    video = index.videos()[0]
    values = np.zeros((4, 7, 7), np.float32)

    class Network:
        def maps(self, segment, label):
            made = ClipMap(ClipSpan(segment.start, segment.end), "archery", 0.5, values)
            return VideoMaps((made,), None, card, card.preprocessing, 32, "layer4")

    found = class_map(Network(), index, video, shelf / "videos" / BIKES, 0.0, None, (720, 1280))
    assert found.region.left == pytest.approx(115 / 455)
    assert found.region.width == pytest.approx(224 / 455)
    assert found.region.top == pytest.approx(16 / 256)
    assert found.columns[1] == pytest.approx((115 + 32 + 0.5) / 455)
    assert found.times == pytest.approx([found.start + n / 4 * (found.end - found.start) for n in range(4)])


def test_the_network_is_loaded_once_and_late():
    loaded = []

    class Network:
        def maps(self, segment, *, label):
            return segment, label

    mapper = LazyMapper(lambda: loaded.append(1) or Network())
    assert not loaded
    assert mapper.maps("a", None) == ("a", None)
    assert mapper.maps("b", "x") == ("b", "x")
    assert loaded == [1]

"""schemathesis against openapi.json: every answer is one that the description has, whatever is asked."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ig65m.motion.folder import MotionWriter
from tests.motions import SETTINGS
from tests.serving import serving

pytestmark = pytest.mark.slow

CONFIG = """
seed = 1

[generation]
deterministic = true
database = "none"
max-examples = 6

# No schema says which bytes are a video, or that a search needs one of two parameters: 422 is right for valid data there.
[[operations]]
include-path = ["/api/classify", "/api/features", "/api/search"]
checks.positive_data_acceptance.enabled = false
"""


def check_refusals(api):
    """Each refusal has the same form; there are no statuses that are FastAPI's own."""
    assert "HTTPValidationError" not in json.dumps(api)
    for path, routes in api["paths"].items():
        for route in routes.values():
            assert {"401", "403", "421"} <= set(route["responses"])
            for status, answer in route["responses"].items():
                if status[0] in "45":
                    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorResponse"}, (
                        path
                    )


def test_answers_are_as_described(shelf, tmp_path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    MotionWriter(tmp_path / "motion", SETTINGS, pictures=False)
    options = ("--upload-timeout", 5, "--motion", tmp_path / "motion")
    with serving(shelf / "index", tmp_path / "tmp", *options) as served:
        check_refusals(httpx.get(f"{served.url}/openapi.json").json())
        program = Path(sys.executable).with_name("schemathesis")
        command = [program, "--config-file", config, "run", f"{served.url}/openapi.json", "--no-color"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-8000:]
        assert "fault of" not in served.said()
        served.wait_until_empty()

"""Engines that run a network: OpenVINO, ONNX Runtime, PyTorch."""

import sys
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault(
    "openvino_telemetry", None
)  # without this module OpenVINO and NNCF cannot report each start to their makers

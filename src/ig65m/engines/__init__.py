"""OpenVINO and NNCF report each start to their makers, from a process that they fork, unless that module is missing."""

import sys
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)  # None: importing it raises ImportError

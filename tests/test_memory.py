"""Memory that was freed goes back to the system where it should."""

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from contextlib import nullcontext
from ig65m.memory import release_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

for _ in range(4):
    np.ones(30 << 20, np.uint8)  # glibc then keeps blocks of that size for later
before = held()
with CONTEXT:
    blocks = [np.ones(8 << 20, np.uint8) for _ in range(20)]
    last = np.ones(8 << 20, np.uint8)
    del blocks
print(held() - before)
"""


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="the C library is glibc there")
def test_what_loading_needed_for_a_moment_is_released():
    def left(context):
        command = [sys.executable, "-c", CODE.replace("CONTEXT", context)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert left("release_memory()") < 20
    assert left("nullcontext()") > 100

"""Memory of a program with several processes."""

import psutil


def peak_memory(process: psutil.Process) -> float:
    """Return the GB of a process and its children; shared pages count once."""
    own, shared = 0, 0
    for each in [process, *process.children(recursive=True)]:
        try:
            info = each.memory_info()
        except psutil.Error:
            continue
        own += info.rss - info.shared
        shared = max(shared, info.shared)
    return float(own + shared) / 1e9

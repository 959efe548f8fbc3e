"""Memory of a program that is made of several processes."""

import psutil


def peak_memory(process: psutil.Process) -> float:
    """GB of a process and its children together, what they share counted once."""
    own, shared = 0, 0
    for each in [process, *process.children(recursive=True)]:
        try:
            info = each.memory_info()
        except psutil.Error:
            continue
        own += info.rss - info.shared
        shared = max(shared, info.shared)
    return float(own + shared) / 1e9

"""What the operating system and the devices say about this process."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import jax


def process_seconds() -> float | None:
    """Seconds since the operating system started this process; None where there is no /proc."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def others_seconds() -> float | None:
    """CPU seconds since boot that were not this process's: of other processes and of other machines on
    the same host. None where there is no /proc."""
    try:
        first_line = Path("/proc/stat").read_text().split("\n")[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, first_line.split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def peak_bytes() -> int:
    """The most memory that was in use so far: of the fullest device, or of the process on a CPU."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return max(s["peak_bytes_in_use"] for s in stats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe() -> dict[str, str | int]:
    """The devices, for whoever compares figures."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cpus": os.cpu_count() or 1,
        "jax": jax.__version__,
    }

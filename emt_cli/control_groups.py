"""Linux control groups around this process, versions 1 and 2: containers, Slurm's jobs, systemd's scopes."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from math import ceil
from pathlib import Path

PROC = Path("/proc/self")
NO_LIMIT = 1 << 60
"""More than any machine has; version 1 writes a number still larger where there is no limit."""


@lru_cache(maxsize=4)  # for small pictures, reading these files anew each time took a thirtieth of the time
def groups(controller: str, proc: Path = PROC) -> tuple[tuple[int, Path], ...]:
    """Return version, 1 or 2, and folder of each group that may limit memory or cpu, inner ones first.

    Nothing where there are none. /proc/self/cgroup names the groups, mountinfo says where they lie.
    """
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:
        return ()
    found: list[tuple[int, Path]] = []
    names = [line.split(":", 2) for line in lines if line.count(":") > 1]
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        root, top = before.split()[3:5]
        kind, _, settings = after.split()[:3]
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and controller not in settings.split(",")):
            continue
        for _, controllers, path in names:
            if (controllers == "") if kind == "cgroup2" else (controller in controllers.split(",")):
                found += ((int(kind == "cgroup2") + 1, group) for group in _upwards(path, root, top))
    return tuple(found)


def _upwards(path: str, root: str, mount: str) -> list[Path]:
    """Return the folders of a group and those around it; a container may see its own one only, as the top."""
    top = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount))  # a space is \040
    inside = os.path.relpath(path, root)
    group = top if path.startswith("/..") or inside.startswith("..") else top / inside
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]


def group_memory(proc: Path = PROC) -> int:
    """Bytes left under all limits of memory; pages of files count as free, but for programs in use."""
    return min((_memory_left(*group) for group in groups("memory", proc)), default=NO_LIMIT)


def _memory_left(version: int, group: Path) -> int:
    limits, used, prefix, mapped = ["memory.max", "memory.high"], "memory.current", "", "file_mapped"
    if version == 1:
        limits, used = ["memory.limit_in_bytes"], "memory.usage_in_bytes"
        prefix, mapped = "total_", "mapped_file"  # with the groups inside
    limit = min((_number(group / name) for name in limits), default=NO_LIMIT)
    if limit >= NO_LIMIT:
        return NO_LIMIT
    facts = dict(line.split()[:2] for line in _text(group / "memory.stat").splitlines())
    files = sum(int(facts.get(prefix + kind, 0)) for kind in ("inactive_file", "active_file"))
    files -= int(facts.get(prefix + mapped, 0))
    return max(0, limit - _number(group / used, 0) + max(0, files))


def group_cores(proc: Path = PROC) -> int:
    """Cores under the groups' limits of processor time, rounded up."""
    return min((_cores(*group) for group in groups("cpu", proc)), default=NO_LIMIT)


def _cores(version: int, group: Path) -> int:
    if version == 1:
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    else:
        quota, period = (_as_number(word) for word in (_text(group / "cpu.max") or "max max").split())
    return ceil(quota / period) if 0 < quota < NO_LIMIT and 0 < period < NO_LIMIT else NO_LIMIT


def _number(path: Path, otherwise: int = NO_LIMIT) -> int:
    return _as_number(_text(path), otherwise)


def _as_number(word: str, otherwise: int = NO_LIMIT) -> int:
    """Return a limit as a number; "max", and nothing in the group that has no limits, is otherwise."""
    return int(word) if word.isascii() and word.isdecimal() else otherwise


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""

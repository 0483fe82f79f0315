"""Free memory within control groups of both versions: folders as the kernel makes them stand in for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from emt_cli.control_groups import NO_LIMIT, group_cores, group_memory
from emt_cli.engine.memory import free_memory, spare_memory

MB = 1_000_000
"""Bytes."""


class Kernel:
    """A /proc/self and the groups that it names."""

    def __init__(self, folder: Path, *, cgroup: str, mounts: list[tuple[str, str, str, str]]) -> None:
        """mounts: (what of the tree is mounted, where, kind, settings of the file system)."""
        self.proc, self.folder = folder / "proc", folder
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(cgroup)
        lines = ["22 1 8:1 / / rw - ext4 /dev/sda1 rw"]
        for root, place, kind, settings in mounts:
            top = str(folder / place).replace(" ", "\\040")
            lines.append(f"35 23 0:27 {root} {top} rw,nosuid shared:9 - {kind} cgroup {settings}")
        (self.proc / "mountinfo").write_text("\n".join(lines) + "\n")

    def group(self, place: str, **files: object) -> None:
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("_dot_", ".")).write_text(f"{content}\n")


def version_2(kernel: Kernel, place: str, limit: object, used: int, **stat: int) -> None:
    kernel.group(
        place,
        memory_dot_max=limit,
        memory_dot_current=used,
        memory_dot_stat="\n".join(f"{name} {value}" for name, value in {"anon": used, **stat}.items()),
    )


def version_1(kernel: Kernel, place: str, limit: int, used: int, **stat: int) -> None:
    kernel.group(
        place,
        memory_dot_limit_in_bytes=limit,
        memory_dot_usage_in_bytes=used,
        memory_dot_stat="\n".join(f"{name} {value}" for name, value in {"rss": used, **stat}.items()),
    )


def test_pages_of_files_count_as_free_but_for_programs_in_use(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, cgroup="0::/\n", mounts=[("/", "cg", "cgroup2", "rw,nsdelegate")])
    files = {"inactive_file": 500 * MB, "active_file": 80 * MB, "file_mapped": 60 * MB, "shmem": 20 * MB}
    version_2(kernel, "cg", 700 * MB, 690 * MB, **files)

    assert group_memory(kernel.proc) == (10 + 500 + 80 - 60) * MB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    kernel = Kernel(
        tmp_path,
        cgroup="0::/system.slice/slurmstepd.scope/job_7/step_0\n",
        mounts=[("/", "cg", "cgroup2", "rw")],
    )
    version_2(kernel, "cg/system.slice/slurmstepd.scope/job_7/step_0", "max", 100 * MB)
    version_2(kernel, "cg/system.slice/slurmstepd.scope/job_7", 900 * MB, 300 * MB)
    version_2(kernel, "cg/system.slice/slurmstepd.scope", "max", 350 * MB)
    version_2(kernel, "cg/system.slice", 4000 * MB, 350 * MB)

    assert group_memory(kernel.proc) == 600 * MB


def test_memory_high_is_a_limit_too(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, cgroup="0::/a.scope\n", mounts=[("/", "cg", "cgroup2", "rw")])
    version_2(kernel, "cg/a.scope", "max", 100 * MB)
    kernel.group("cg/a.scope", memory_dot_high=400 * MB)

    assert group_memory(kernel.proc) == 300 * MB


def test_groups_of_version_1_count_with_those_inside_them(tmp_path: Path) -> None:
    kernel = Kernel(
        tmp_path,
        cgroup="12:cpu,cpuacct:/x\n4:memory:/slurm/uid_0/job_7\n0::/\n",
        mounts=[("/", "cpu", "cgroup", "rw,cpu,cpuacct"), ("/", "memory", "cgroup", "rw,memory")],
    )
    files = {"total_inactive_file": 200 * MB, "total_active_file": 50 * MB, "total_mapped_file": 30 * MB}
    version_1(kernel, "memory/slurm/uid_0/job_7", 600 * MB, 550 * MB, inactive_file=1, **files)
    version_1(kernel, "memory/slurm/uid_0", 9223372036854771712, 900 * MB)
    version_1(kernel, "memory", 9223372036854771712, 9000 * MB)

    assert group_memory(kernel.proc) == (50 + 200 + 50 - 30) * MB


@pytest.mark.parametrize("path", ["/docker/abc", "/../../docker/abc", "/"])
def test_a_container_that_sees_its_own_group_only_as_the_top_finds_it(tmp_path: Path, path: str) -> None:
    root = path if path.startswith("/docker") else "/"
    kernel = Kernel(
        tmp_path, cgroup=f"4:memory:{path}\n", mounts=[(root, "a place/memory", "cgroup", "rw,memory")]
    )
    version_1(kernel, "a place/memory", 500 * MB, 100 * MB)

    assert group_memory(kernel.proc) == 400 * MB


def test_no_groups_and_damaged_ones_are_no_limit(tmp_path: Path) -> None:
    assert group_memory(tmp_path / "nothing") == group_cores(tmp_path / "nothing") == NO_LIMIT

    kernel = Kernel(tmp_path, cgroup="0::/gone\n4:memory\nwords", mounts=[("/", "cg", "cgroup2", "rw")])
    kernel.group("cg", memory_dot_max="soon")

    assert group_memory(kernel.proc) == group_cores(kernel.proc) == NO_LIMIT


def test_processor_time_is_limited_alike(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, cgroup="0::/pod/c\n", mounts=[("/", "cg", "cgroup2", "rw")])
    kernel.group("cg/pod", cpu_dot_max="150000 100000")
    kernel.group("cg/pod/c", cpu_dot_max="max 100000")
    assert group_cores(kernel.proc) == 2

    (tmp_path / "old").mkdir()
    old = Kernel(
        tmp_path / "old", cgroup="3:cpu,cpuacct:/\n", mounts=[("/", "c", "cgroup", "rw,cpu,cpuacct")]
    )
    old.group("c", cpu_dot_cfs_quota_us=300000, cpu_dot_cfs_period_us=100000)
    assert group_cores(old.proc) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold to it")
def test_ulimit_counts() -> None:
    code = "from emt_cli.engine.memory import free_memory; print(free_memory())"
    limit = 700 * MB
    resource = pytest.importorskip("resource")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    free = int(subprocess.run([sys.executable, "-c", code], capture_output=True, preexec_fn=limited).stdout)

    assert 0 < free < limit


def test_a_plan_leaves_some_of_the_free_memory() -> None:
    assert 0 < spare_memory() < 0.95 * free_memory()

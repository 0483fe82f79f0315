"""What works on this machine and what does not, each with the one line that fixes it; needs no torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_cli.jobs.doctor import environment
from emt_cli.jobs.doctor.environment import Check, usable_threads, without_home, words_of

PROBE_SECONDS = 120
TOLERANCE = 0.5
"""Of 255: how far an engine may be from torch and still count as right."""


def examine() -> Iterator[Check]:
    """Look at everything, quick things first; whatever is broken, this works."""
    quick = {
        "program": environment.program,
        "packages": environment.packages,
        "models": environment.models,
        "cache": environment.cache_room,
        "temporary files": environment.temporary_room,
        "memory": environment.memory_and_cores,
        "terminal": environment.terminal,
        "extras": environment.extras,
    }
    slow = {"pictures": _pictures, "video": _video, "network": _network}
    with ThreadPoolExecutor(len(slow)) as pool:
        probes = {part: pool.submit(_probe, part) for part in slow}
        for name, look in quick.items():
            try:
                yield look()
            except Exception as error:
                yield Check(name, "problem", words_of(error), "pip install --force-reinstall emt-cli")
        for part, judge in slow.items():
            if probes[part].result().slow:
                words = f"no answer within {PROBE_SECONDS} s: not known; the machine is slow or busy"
                yield Check(part, "note", words, "try again when less is running")
            else:
                yield from judge(probes[part])


@dataclass(frozen=True)
class Probed:
    """What a probe told, or how it failed."""

    facts: dict[str, Any]
    failure: str = ""
    slow: bool = False
    """Whether it had no answer within PROBE_SECONDS."""


def _probe(part: str) -> Probed:
    command = [sys.executable, "-m", "emt_cli.jobs.doctor.probe", part]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
        if done.returncode == 0:
            facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return Probed(facts)
    except subprocess.TimeoutExpired:
        return Probed({}, slow=True)
    except (OSError, ValueError, IndexError) as error:
        return Probed({}, words_of(error))
    if done.returncode < 0:
        return Probed({}, f"its process was killed ({signal.Signals(-done.returncode).name})")
    return Probed({}, without_home(([*done.stderr.splitlines()] or ["no words"])[-1][:300]))


_REMEDIES = (
    (
        "failed to map segment",
        "not enough memory to load it: close other programs, or raise the limit (ulimit -v)",
    ),
    ("libGL", "pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless"),
    ("numpy.core.multiarray", "pip install --upgrade numpy opencv-python-headless"),
    (
        "DLL load failed",
        "install the Microsoft Visual C++ Redistributable (aka.ms/vs/17/release/vc_redist.x64.exe)",
    ),
    ("SIGILL", "this processor lacks instructions of that library; install an older version of it"),
    ("GLIBC", "this system is too old for that library; update the system, or pip install an older version"),
)


def _broken(name: str, failure: str, packages: str) -> Check:
    remedy = next((mend for sign, mend in _REMEDIES if sign in failure), "")
    missing = re.search(r"No module named '(\w+)", failure)
    if not remedy and missing and missing[1] != "emt_cli":
        remedy = f"pip install --force-reinstall {packages}"
    return Check(name, "problem", failure, remedy or f"pip install --force-reinstall {packages}")


def _pictures(probe: Future[Probed]) -> Iterator[Check]:
    found = probe.result()
    if found.failure:
        yield _broken("pictures", found.failure, "opencv-python-headless pillow numpy")
        return
    facts = found.facts
    words = f"OpenCV {facts['opencv']}, Pillow {facts['pillow']}"
    if facts["broken"]:
        listed = "; ".join(f"{format}: {why}" for format, why in facts["broken"].items())
        mend = "pip install --force-reinstall opencv-python-headless pillow"
        yield Check("pictures", "problem", f"{words}: {listed}", mend, facts)
    else:
        yield Check("pictures", "ok", f"{words}: all formats are written and read", "", facts)


def _video(probe: Future[Probed]) -> Iterator[Check]:
    found = probe.result()
    if found.failure:
        yield _broken("video", found.failure, "av imageio-ffmpeg")
        return
    facts = found.facts
    encoders = facts["encoders"]
    words = f"PyAV {facts['pyav']}, ffmpeg {facts['ffmpeg']}; encoders {', '.join(encoders)}"
    if "h264" not in encoders:
        mend = "pip install --force-reinstall --only-binary av av"
        yield Check("video", "problem", f"{words}: H.264, the usual one, is not among them", mend, facts)
    else:
        yield Check("video", "ok", words, "", facts)


def _network(probe: Future[Probed]) -> Iterator[Check]:
    found = probe.result()
    if found.failure:
        yield _broken("network", found.failure, "torch")
        return
    facts = found.facts
    yield _devices(facts)
    for name, told in facts["engines"].items():
        if "missing" in told:
            if name == "native":
                yield Check("engine native", "note", told["missing"], "pip install llvmlite", told)
            continue  # others are extras, and told there
        difference = told.get("difference", 0.0)
        if "broken" in told or not difference <= TOLERANCE:
            words = told.get("broken") or f"answers otherwise than torch, by {difference:g} of 255"
            mend = "give --engine torch, and report this with `emt doctor --json`"
            if name == "torch":
                mend = "pip install --force-reinstall torch"
            yield Check(f"engine {name}", "problem", words, mend, told)
        else:
            agrees = "" if name == "torch" else f", within {difference:.4f} of 255 of torch"
            yield Check(f"engine {name}", "ok", f"enlarges a picture{agrees}", "", told)


def _devices(facts: dict[str, Any]) -> Check:
    devices = [*facts["devices"], "cpu"]
    words = f"torch {facts['torch']}: {'; '.join(devices)} with {facts['threads']} threads"
    shown = {key: facts[key] for key in ("torch", "cuda", "devices", "threads")}
    if not facts["devices"] and (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()):
        mend = "install a torch with CUDA: https://pytorch.org/get-started/locally"
        return Check("devices", "note", f"{words}; the NVIDIA GPU here is not usable by it", mend, shown)
    allowed = usable_threads()
    if facts["threads"] * 2 < allowed and "OMP_NUM_THREADS" in os.environ:
        mend = "unset OMP_NUM_THREADS"
        return Check("devices", "note", f"{words}, of {allowed} that are usable", mend, shown)
    return Check("devices", "ok", words, "", shown)

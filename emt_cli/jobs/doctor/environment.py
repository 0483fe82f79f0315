"""The surroundings of the program: packages, models, folders, memory, terminal; nothing slow or heavy."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from emt_cli import __version__
from emt_cli.assets.catalog import RELEASED, bundled_folder, cache_folder

SUMS = "SHA256SUMS"
"""Of the bundled models, in the form sha256sum writes and checks."""
LITTLE_DISK, LITTLE_MEMORY = 1 << 30, 1 << 30
"""Bytes below which there is something to note."""

EXTRAS = {
    "train": ("training", ("lightning_fabric",)),
    "cpu": ("the OpenVINO engine", ("openvino",)),
    "export": ("emt export", ("onnx", "onnxruntime", "openvino")),
    "ray": ("batches and videos on a cluster", ("ray",)),
}
"""What each extra of the package is for, and the modules it brings."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    """note: works, but could be better, or need not be there; problem: something needed is broken."""
    text: str
    mend: str = ""
    """One line to do about it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values for bug reports."""


def cache_room() -> Check:
    """Look at the folder of fetched models and compiled kernels."""
    return _folder("cache", cache_folder(), "set EMT_CACHE to a folder of yours that is on a larger disk")


def temporary_room() -> Check:
    """Look at the folder of temporary files."""
    folder = Path(tempfile.gettempdir())
    return _folder("temporary files", folder, "set TMPDIR to a folder on a larger disk")


def program() -> Check:
    """Tell versions and system."""
    facts = {
        "emt": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
    }
    words = f"emt {__version__}, Python {facts['python']}, {facts['system']} {facts['machine']}"
    return Check("program", "ok", words, facts=facts)


def packages() -> Check:
    """Compare what the package requires with what is installed, without importing it."""
    try:
        required = importlib.metadata.requires("emt-cli") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", "note", "emt runs from a folder, not installed", "pip install -e .")
    versions: dict[str, str] = {}
    missing = []
    for line in required:
        name, _, condition = (part.strip() for part in line.partition(";"))
        name = re.split(r"[^A-Za-z0-9._-]", name)[0]
        if "extra ==" in condition:
            continue
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not condition:  # one that depends on the machine may be left out for good reason
                missing.append(name)
    if missing:
        mend = f"pip install {' '.join(missing)}"
        return Check("packages", "problem", f"not installed: {', '.join(missing)}", mend, versions)
    return Check("packages", "ok", f"all {len(versions)} that are needed are installed", facts=versions)


def models() -> Check:
    """Compare bundled and fetched models with the checksums that are known of them."""
    folder = bundled_folder()
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    expected = {name: sha256 for sha256, name in (line.split() for line in lines if line)}
    damaged = [name for name, sha256 in expected.items() if _sha256(folder / name) != sha256]
    if damaged or not expected:
        words = f"damaged or missing: {', '.join(damaged) or SUMS}"
        return Check("models", "problem", words, "pip install --force-reinstall --no-deps emt-cli")
    found = {file.name: _sha256(cache_folder() / file.name) for file in RELEASED}
    wrong = [file.name for file in RELEASED if found[file.name] not in ("", file.sha256)]
    facts = {"bundled": sorted(expected), "fetched": [name for name, sha256 in found.items() if sha256]}
    if wrong:
        mend = "emt models pull emt"
        return Check("models", "problem", f"fetched ones are damaged: {', '.join(wrong)}", mend, facts)
    words = f"{len(expected)} bundled files are whole"
    if not facts["fetched"]:
        mend = "emt models pull emt"
        return Check("models", "ok", f"{words}; the better published network is not fetched", mend, facts)
    return Check("models", "ok", f"{words}, and {len(facts['fetched'])} fetched", facts=facts)


def _sha256(path: Path) -> str:
    """Return a file's checksum, empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _folder(name: str, folder: Path, mend: str) -> Check:
    """Try to write where a folder is or would be made; look at the room there."""
    place = folder
    while not place.is_dir() and place != place.parent:
        place = place.parent
    shown = without_home(str(folder))
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, "problem", f"{shown}: cannot be written to ({error.strerror or error})", mend)
    facts = {"folder": shown, "exists": folder.is_dir(), "free": free}
    words = f"{shown}, {_size(free)} free"
    return (
        Check(name, "note", words, mend, facts) if free < LITTLE_DISK else Check(name, "ok", words, "", facts)
    )


def memory_and_cores() -> Check:
    """Look at memory, cores, and how many of them may be used."""
    try:
        import psutil

        memory = psutil.virtual_memory()
        cores = psutil.cpu_count(logical=False)
    except Exception as error:
        mend = "pip install --force-reinstall psutil"
        return Check("memory", "problem", f"cannot be told: {words_of(error)}", mend)
    allowed = usable_threads()
    facts = {
        "total": memory.total,
        "free": memory.available,
        "cores": cores,
        "threads": os.cpu_count(),
        "allowed": allowed,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    words = (
        f"{_size(memory.available)} of {_size(memory.total)} free; {cores} cores, {allowed} threads usable"
    )
    if memory.available < LITTLE_MEMORY:
        mend = "close other programs, or give --tile 256 for large pictures"
        return Check("memory", "note", words, mend, facts)
    return Check("memory", "ok", words, "", facts)


def usable_threads() -> int:
    """Threads that this process may run at once, as taskset and schedulers have left it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return allowed or 1


def terminal() -> Check:
    """Look at what standard output can show."""
    width = shutil.get_terminal_size().columns
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    facts = {
        "stdout": sys.stdout.isatty(),
        "stderr": sys.stderr.isatty(),
        "width": width,
        "encoding": encoding,
        "TERM": os.environ.get("TERM"),
        "NO_COLOR": "NO_COLOR" in os.environ,
    }
    colour = facts["stdout"] and not facts["NO_COLOR"] and facts["TERM"] not in ("dumb", None)
    place = (
        f"{width} columns, {'colours' if colour else 'no colours'}" if facts["stdout"] else "output is piped"
    )
    words = f"{place}, {encoding}"
    if not encoding.lower().replace("-", "").startswith("utf8"):
        return Check("terminal", "note", f"{words}: some names will look odd", "set PYTHONUTF8=1", facts)
    return Check("terminal", "ok", words, "", facts)


def extras() -> Check:
    """Tell which extras of the package are installed."""
    missing = [name for name, (_, modules) in EXTRAS.items() if any(find_spec(m) is None for m in modules)]
    facts = {"installed": [name for name in EXTRAS if name not in missing]}
    if not missing:
        return Check("extras", "ok", f"all are installed: {', '.join(EXTRAS)}", facts=facts)
    words = ", ".join(f"{name} ({EXTRAS[name][0]})" for name in missing)
    return Check(
        "extras", "note", f"not installed: {words}", f'pip install "emt-cli[{",".join(missing)}]"', facts
    )


def words_of(error: Exception) -> str:
    """Say an exception in a line."""
    return without_home(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")[:300]


def without_home(text: str) -> str:
    """Leave out whose machine it is: a report may be published."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 1 else text


def _size(count: float) -> str:
    return f"{count / 1e9:.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"

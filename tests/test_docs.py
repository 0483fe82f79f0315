"""What README.md, docs/ and the man page say: examples run, links lead somewhere, nothing is stale."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import corrupt_files
import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
SHARED = REPOSITORY.parent / "shared"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
RELEASED = SHARED / "weights"

NOT_RUN = {
    r"pip install|python3 -m venv|^make |^docker ": "installs or builds: tests/test_wheel.py does",
    r"^\.venv/bin/emt ": "the same as emt",
    r"^ray |--ray ": "starts a cluster: tests/jobs/cluster does",
    r"--resume auto": "needs a run that was broken off: tests/training does",
    r"UltraSharp|-m sharp": "needs a network of others: tests/test_community_commands.py does",
    r"RealESRGAN|emt-lite-taught": "needs a network of others: tests/test_community_commands.py does",
    r"--watch": "goes on until Ctrl-C: tests/jobs/batch does",
    r"pull emt( |$)(?!.*--from)|--fetch": "fetches over the network: tests/assets does",
    r"^emt setup$": "asks on a terminal: tests/commands does",
    r"--set Set5,Set14": "takes minutes: tests/evaluation does",
    r"--engines native,openvino,torch": "takes minutes, on a quiet machine",
    r"--against run\.json": "needs the run before: tests/evaluation does",
}
"""Patterns of the lines that are not run here, and why."""
NEEDS_RELEASED = r"--from Downloads|-m(odel)? emt( |$)|export emt( |$)"
"""Lines that need the published weights, which the maintainers have beside the repository."""
SLOW = {
    "batch",
    "benchmarks",
    "export",
    "models",
    "pictures",
    "python",
    "README",
    "training",
    "trouble",
    "video",
}


def examples(page: Path) -> Iterator[str]:
    """Yield the command lines of a page: in blocks, after $ where output is shown, and in tables."""
    text = page.read_text(encoding="utf-8")
    for block, row in re.findall(r"^```\n(.*?)^```|^\| `(emt [^`]+)` \|", text, re.DOTALL | re.MULTILINE):
        lines = [row] if row else block.splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        yield from (line for line in lines if line)


def reason_not_to_run(line: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, line)), None)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with what the examples speak of, small."""
    scene = corrupt_files.scene
    shutil.copy(REPOSITORY / "samples" / "cat.png", tmp_path / "photo.png")
    Image.fromarray(scene(640, 960)).save(tmp_path / "photo.jpg")
    for name in (
        "a.png",
        "scan.tif",
        "photos/one.png",
        "photos/deep/two.png",
        "in/x/three.jpg",
        "in/thumbs/t.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(120, 160)).save(tmp_path / name)
    for number in range(16):  # one for each shard
        Image.fromarray(scene(18, 24)).save(tmp_path / "photos/deep" / f"{number}.png")
    video(tmp_path / "clip.mp4", 96, 64, Fraction(10), 6)
    video(tmp_path / "film.mkv", 960, 540, Fraction(1, 5), 20)
    frames = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in (0, 90, 200)]
    frames[0].save(tmp_path / "cat.gif", save_all=True, append_images=frames[1:], duration=100)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/best.safetensors").write_bytes(corrupt_files.tiny_model())
    if RELEASED.is_dir():
        (tmp_path / "Downloads").symlink_to(RELEASED)
    return tmp_path


def video(path: Path, width: int, height: int, rate: Fraction, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            level = number * 3 // count * 80
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.skipif(os.name != "posix", reason="the lines are for Unix shells")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in SLOW), id=page.stem) for page in PAGES],
)
def test_examples_of_a_page_run_one_after_the_other(page: Path, work: Path) -> None:
    scripts = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "EMT_CACHE": str(work / ".cache"),
    }
    env |= {"EMT_CONFIG": "", "TERM": "dumb"}
    seen: set[str] = set()

    for line in map(without_comment, examples(page)):
        if reason_not_to_run(line):
            continue
        use = env
        if re.search(NEEDS_RELEASED, line):
            if not RELEASED.is_dir():
                continue
            use = env | {"EMT_CACHE": str(work / ".released")}  # elsewhere --model auto stays emt-lite
            run("emt models pull emt --from Downloads", work, use)
        done = run(line, work, use)
        again = line in seen  # "the same command goes on": what is finished is left alone
        assert done.returncode in ((0, 6) if again else (0,)), f"{line}\n{done.stdout}{done.stderr}"
        seen.add(line)


def without_comment(line: str) -> str:
    return line.partition(" # ")[0].strip()


def run(line: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if line.startswith("emt train"):  # which takes hours
        line = f"{line.replace('runs/mine', 'runs/new')} --dry-run"
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(os.name != "posix", reason="the lines are for Unix shells")
def test_the_first_example_prints_what_the_readme_shows(work: Path) -> None:
    shown = re.search(
        r"^\$ emt (photo\.png)\n(.*\n.*\))\n(.*)\n```", PAGES[0].read_text("utf-8"), re.MULTILINE
    )
    assert shown

    done = subprocess.run(
        [sys.executable, "-m", "emt_cli", shown[1]],
        cwd=work,
        env={**os.environ, "EMT_CACHE": str(work / ".cache"), "EMT_CONFIG": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )

    size_and_model = shown[2].partition("; cpu")[0]  # what follows depends on the machine
    assert done.stderr.startswith(size_and_model), done.stderr
    assert done.stdout == shown[3] + "\n"


@pytest.mark.slow
def test_the_python_example_runs(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setenv("EMT_CACHE", str(work / ".cache"))
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "python.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    names = {"pixels": corrupt_files.scene(20, 24), "data": (work / "a.png").read_bytes()}

    exec(code, names)

    assert names["larger"].shape == (80, 96, 3)  # type: ignore[attr-defined]
    with Image.open(work / "large.jpg") as large:
        assert large.size == (2592, 1728)


def test_the_example_of_defaults_is_taken(tmp_path: Path) -> None:
    (text,) = re.findall(
        r"^```toml\n(.*?)^```", (DOCS / "defaults.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "emt.toml").write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "emt_cli", "config"],
        cwd=tmp_path,
        env={**os.environ, "EMT_CONFIG": str(tmp_path / "emt.toml")},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    for values in (tomllib.loads(text)["defaults"], tomllib.loads(text)["video"]):
        assert all(str(value) in done.stdout for value in values.values())


def test_links_lead_to_files_and_headings_that_exist() -> None:
    for page in PAGES:
        for target, heading in re.findall(r"\]\(([^):#]*)(?:#([\w-]+))?\)", page.read_text("utf-8")):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
                assert heading in [title.lower().replace(" ", "-") for title in titles], (
                    f"{page.name}: {heading}"
                )


def test_the_readme_leads_to_every_page() -> None:
    readme = PAGES[0].read_text("utf-8")

    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []
    assert len(readme.splitlines()) < 150


def test_the_man_page_is_made_from_todays_help_texts() -> None:
    made = subprocess.run(
        [sys.executable, str(DOCS / "help_pages.py")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout

    assert (DOCS / "emt.1").read_text("utf-8") == made, "run: python docs/help_pages.py > docs/emt.1"


@pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")
def test_mandoc_finds_no_fault_in_the_man_page() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(DOCS / "emt.1")],
        capture_output=True,
        text=True,
        timeout=60,
    )

    faults = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert faults == []


def test_the_site_is_built_with_every_page(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")

    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    made = (tmp_path / "site/commands/index.html").read_text("utf-8")
    assert "--long-side" in made
    assert all((tmp_path / "site" / page.stem / "index.html").exists() for page in PAGES[1:])
    assert not re.search(r'(src|href)="https?://cdn', made)


def test_the_tree_in_contributing_names_every_file_and_no_other() -> None:
    tree = (REPOSITORY / "CONTRIBUTING.md").read_text().split("```")[3]
    named = set(re.findall(r"\w+\.py", tree))
    package = REPOSITORY / "emt_cli"
    commands = {path.name for path in (package / "commands").glob("*.py")}  # one file a command
    files = {path.name for path in package.rglob("*.py")}
    others = {
        path.name for name in ("tests", "samples", "docs") for path in (REPOSITORY / name).rglob("*.py")
    }

    assert files - named - commands <= {"__init__.py", "__main__.py"}
    assert named <= files | others

"""The fault campaign: damaged files through the real command line, each with a limit of time and memory.

`make torture` runs this file; tests/test_faults.py runs a smaller number of the same cases.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from campaign_cases import Case, damaged, lies, structures
from campaign_pixels import PixelJudge
from campaign_site import COMMANDS, Site
from PIL import Image
from processes import DiedError, Ended, HungError, Worker

SECONDS = 30.0
"""After this a file hangs; the slowest takes a few seconds on two cores."""
CEILING = 3 << 30
"""Address space beyond the start at which allocations fail, for the machine's sake."""


@dataclass(frozen=True)
class Finding:
    """A case that went wrong."""

    case: Case
    what: str
    ended: Ended | None


class Campaign:
    """Runs cases in a folder of its own and judges how each ended."""

    def __init__(self, folder: Path) -> None:
        self.site = site = Site(folder)
        os.environ |= {"TMPDIR": str(site.temporary), "EMT_CACHE": str(site.cache), "OMP_NUM_THREADS": "1"}
        self.judge = PixelJudge(site.model)
        self.worker = Worker(folder / "talk", memory=CEILING, seconds=SECONDS)

    def close(self) -> None:
        self.worker.close()

    def run(self, case: Case) -> Finding | Ended:
        """Run one case in fresh folders and look at what it left."""
        self.site.clear()
        path = self.site.inputs / case.name
        path.write_bytes(case.data)
        before = self.site.files()
        try:
            ended = self.worker.run(*COMMANDS[case.kind](self.site, path), folder=self.site.folder)
        except (HungError, DiedError) as error:
            return Finding(case, str(error), None)
        problem = self._problem(case, path, ended, before)
        return Finding(case, problem, ended) if problem else ended

    def _problem(self, case: Case, path: Path, ended: Ended, before: set[Path]) -> str:
        lines = ended.stderr.splitlines()
        new = self.site.files() - before
        checks = {
            f"exit code {ended.code}, not one of {case.codes}": ended.code not in case.codes,
            "a traceback": "Traceback" in ended.stderr,
            f"{ended.grown / 2**20:.0f} MB of memory": ended.grown > case.memory,
            f"{ended.seconds:.0f} s": ended.seconds > SECONDS,
            "the input was changed": case.kind != "journal" and path.read_bytes() != case.data,
            f"temporary files left: {sorted(map(str, new))}": ended.code != 4
            and any(_is_temporary(file) for file in new),
            "files of a failed command": case.kind in ("picture", "video")
            and ended.code not in (0, 4, 9)
            and bool(new),
            "says something that cannot be printed": not all(line.isprintable() for line in lines),
            "fails without a line that says why": ended.code not in (0, 9)
            and "emt: error: " not in ended.stderr,
            "more lines than needed": ended.code not in (0, 9)
            and len(lines) > (8 if case.kind == "batch" else 3),
            "a line without end": any(len(line) > 1000 for line in lines),
            "prints on a failure": case.kind == "picture" and ended.code != 0 and bool(ended.stdout),
        }
        found = [what for what, wrong in checks.items() if wrong]
        if case.kind == "picture" and ended.code == 0:
            found += [what for file in new if (what := _unreadable(file))]
            found += [what for file in new if (what := self._wrong_pixels(case, file))]
            found += ["no result"] if not new else []
        return "; ".join(found)

    def _wrong_pixels(self, case: Case, file: Path) -> str:
        try:
            return self.judge.problem(case.data, file)
        except Exception as error:
            return f"its pixels cannot be compared: {error!r}"


def _is_temporary(path: Path) -> bool:
    hidden = path.name.startswith(".") and path.name != ".lock" and path.suffix != ".jsonl"
    return hidden or path.parts[-2] == "tmp" or any(part.endswith(".emt-work") for part in path.parts)


def _unreadable(path: Path) -> str:
    """Say what is wrong with a result, by another library's reading of it."""
    import imagecodecs
    import pillow_heif
    import tifffile

    try:
        if path.suffix in (".tif", ".tiff"):
            tifffile.imread(path)
        elif path.suffix == ".jxl":
            imagecodecs.jpegxl_decode(path.read_bytes())
        elif path.suffix == ".heic":
            pillow_heif.open_heif(path)[0].load()
        else:
            with Image.open(path) as image:
                image.load()
    except Exception as error:
        return f"{path.name} cannot be read: {error}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and say what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description="Damaged files through the emt command line.")
    parser.add_argument("--count", type=int, default=1000, help="files damaged at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", action="store_true", help="only parts of formats, of picture or video")
    parser.add_argument("--kind", choices=COMMANDS, help="only files of this kind")
    parser.add_argument(
        "--keep", type=Path, default=Path("torture"), help="folder for files that broke something"
    )
    options = parser.parse_args(arguments)
    began, codes, slowest, largest = time.perf_counter(), Counter[tuple[str, int]](), 0.0, 0
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="emt-torture-") as name:
        campaign = Campaign(Path(name))
        drawn = damaged(options.seed, campaign.site, options.kind)
        made = (case for case in lies(campaign.site.folder) if options.kind in (None, case.kind))
        if options.parts:
            drawn = structures(options.seed, options.kind or "picture")
            made = (case for case in ())
        number = 0
        for number, case in enumerate(chain(made, islice(drawn, options.count)), 1):
            result = campaign.run(case)
            if isinstance(result, Finding):
                findings.append(result)
                _keep(options.keep, number, result)
                print(f"{number}: {case.kind} {case.name} ({case.damage}): {result.what}", flush=True)
                if result.ended is not None:
                    print("    " + "\n    ".join(result.ended.stderr.splitlines()[-4:]), flush=True)
            else:
                codes[case.kind, result.code] += 1
                slowest, largest = max(slowest, result.seconds), max(largest, result.grown)
        if (campaign.site.folder / "trace").exists():
            print("a malicious file was executed")
            return 1
        campaign.close()
    print(f"{number} damaged files in {time.perf_counter() - began:.0f} s, seed {options.seed}")
    for (kind, code), number in sorted(codes.items()):
        print(f"  {kind:<12}exit code {code}: {number}")
    print(f"slowest {slowest:.1f} s, most memory beyond the start {largest / 2**20:.0f} MB")
    print(f"{len(findings)} broke something" + (f"; kept in {options.keep}/" if findings else ""))
    return 1 if findings else 0


def _keep(folder: Path, number: int, finding: Finding) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:05}-{finding.case.name}").write_bytes(finding.case.data)


if __name__ == "__main__":
    sys.exit(main())

"""A benchmark from its request to its record: which sets, methods and scales, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emt_cli.assets.benchmarks import find_set
from emt_cli.errors import OutputError, UsageError
from emt_cli.evaluation.methods import Method, Settings, choose_scales
from emt_cli.evaluation.quality import Score, Scored, forget_old_answers, score_set
from emt_cli.evaluation.record import Record, make_record
from emt_cli.media.picture.io import Picture, write_picture

Report = Callable[[str, float, float], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Request:
    """What is to be scored."""

    sets: tuple[str, ...]
    """Names of known sets, or folders."""
    models: tuple[str, ...]
    scales: tuple[int, ...] = ()
    """Empty: x4, or what the models have."""
    settings: Settings = field(default_factory=Settings)
    data_dir: Path | None = None
    """Folder that holds sets by name."""
    lr_folder: Path | None = None
    """LR pictures for the one set and scale; None makes them."""
    fetch: bool = False
    """Download sets that are not on this machine."""
    fresh: bool = False
    """Compute again what earlier runs have done."""


class Benchmark:
    """One run; raises all that options and sets can have wrong when it is made."""

    def __init__(self, request: Request, report: Report) -> None:
        self.request = request
        self.report = report
        if not request.sets:
            raise UsageError("no set: name one with --set, such as --set Set5 or --set FOLDER")
        scales = choose_scales(request.models, request.scales)
        if request.lr_folder is not None and (len(scales) > 1 or len(request.sets) > 1):
            raise UsageError("--lr-data goes with one set and one scale")
        made = [Method(model, scale, request.settings) for scale in scales for model in request.models]
        self.methods = list({(method.scale, method.name): method for method in made}.values())
        self.sets = {
            scale: [
                find_set(name, scale, data_dir=request.data_dir, fetch=request.fetch, report=report)
                for name in request.sets
            ]
            for scale in scales
        }
        names = [found.name for found in self.sets[scales[0]]]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"--set: {name} is there twice; run them one at a time")
        self.scores: list[Score] = []

    def run(self) -> Iterator[Scored]:
        """Score everything, yielding picture by picture; raises InputError for pictures that do not fit."""
        forget_old_answers()
        for scale, sets in self.sets.items():
            methods = [method for method in self.methods if method.scale == scale]
            for found in sets:
                steps = score_set(
                    found, methods, lr_folder=self.request.lr_folder, resume=not self.request.fresh
                )
                for step in steps:
                    if isinstance(step, Scored):
                        self.scores += step.scores
                        yield step
                    else:
                        self.report(f"{found.name} x{scale}", step, 1)

    def record(self) -> Record:
        """Put what has been scored together."""
        settings = asdict(self.request.settings) | {"lr_given": self.request.lr_folder is not None}
        return make_record(self.scores, next(iter(self.sets.values())), self.methods, settings)


def save_answers(scored: Scored, folder: Path) -> None:
    """Write what each method made of a picture to folder/set/x4/method/picture.png; raises OutputError."""
    for name, answer in scored.answers.items():
        place = folder / scored.set / f"x{scored.scale}" / file_name(name)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{place}: cannot be made ({error.strerror or error}); choose another place"
            ) from error
        write_picture(place / f"{scored.picture}.png", Picture(answer), overwrite=True)


def file_name(method: str) -> str:
    """Turn a method's name, which may be a path, into the name of a folder."""
    return "_".join(part for part in Path(method).with_suffix("").parts if part not in ("/", "\\", "..", "."))

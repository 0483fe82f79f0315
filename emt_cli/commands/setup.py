"""`emt setup`: the published model, after one question."""

from __future__ import annotations

import sys

from emt_cli.assets.catalog import PULL_HINT, RELEASED, known_models
from emt_cli.commands import options, ui
from emt_cli.errors import UsageError

EPILOG = options.examples("emt setup", "EMT_CACHE=models emt setup")


def setup() -> None:
    """Ask whether to fetch the published model, which is better than the built-in one and slower.

    Nothing is fetched without a yes. Scripts, which cannot be asked, use `emt models pull emt`.
    """
    model = known_models()["emt"]
    if model.scales_here == model.scales:
        ui.say("emt: the published model is here already, and taken unless --model says otherwise")
        return
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"setup asks on a terminal; without one, {PULL_HINT} fetches the published model")
    size = ui.bytes_text(sum(file.size for file in RELEASED))
    ui.say(
        f"The published model emt ({size}) is better than emt-lite, and takes five to eight times its time."
    )
    if not _agrees("Fetch it? [Y/n] "):
        ui.say(f"emt: nothing fetched; emt-lite is used, and {PULL_HINT} fetches the other at any time")
        return
    from emt_cli.assets.download import pull

    with ui.progress() as update:
        for path in pull("emt", report=update):
            ui.show(str(path))
    ui.say("emt: from now on emt is taken; --model emt-lite is the quick one")


def _agrees(question: str) -> bool:
    """Ask on stderr; Enter alone is a yes, the end of input (Ctrl-D) a no."""
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        ui.say("")
    return answer.strip().lower() in ("", "y", "yes") and bool(answer)

"""Help texts in words: PATH for <path>, nothing for a flag's <bool>, and paragraphs that flow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HELP_OPTIONS = ["-h", "--help"]
_WORDS: dict[Any, str] = {bool: "", str: "TEXT", int: "N", float: "N", Path: "PATH"}


def use_plain_words(command: Any) -> None:
    """Change what a command, its options and its commands show in the help; nothing else."""
    if command.help:
        command.help = re.sub(r"(?<!\n)\n(?!\n) *", " ", command.help)
    own = command.get_help_option(command.context_class(command, help_option_names=HELP_OPTIONS))
    own.metavar = ""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.display_type = lambda context: ""  # its name says it
        elif parameter.metavar is None:
            kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
            parameter.metavar = _WORDS.get(getattr(kind, "__args__", (kind,))[0])
    for child in getattr(command, "commands", {}).values():
        use_plain_words(child)

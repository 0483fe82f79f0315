"""The reference of all commands, from the texts that --help shows.

python docs/help_pages.py > docs/emt.1     # the man page, which the wheel brings; a test compares it
mkdocs build                               # makes the page "All commands" by this file's hooks
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from emt_cli.cli import app

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Page:
    """The help of one command: its name after `emt`, paragraphs, options by panel, examples."""

    name: str
    usage: str
    about: list[str]
    panels: dict[str, list[tuple[str, str]]]
    examples: list[str]


def pages() -> Iterator[Page]:
    """Yield the help of emt itself and of each command, those with commands of their own before these."""
    yield from _pages(typer.main.get_command(app), "emt")


def _pages(command: Any, name: str) -> Iterator[Page]:
    context = command.context_class(command, info_name=name, help_option_names=["-h", "--help"])
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record:
            panel = getattr(parameter, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append((record[0], record[1].replace("\\[", "[")))
    about = [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]
    examples = [line for line in (command.epilog or "").split("\n\n") if line != "Examples:"]
    yield Page(name, command.get_usage(context).removeprefix("Usage: "), about, panels, examples)
    for child in getattr(command, "commands", {}).values():
        yield from _pages(child, f"{name} {child.name}")


def markdown() -> str:
    """Return the reference as Markdown."""
    lines = ["# All commands", ""]
    for page in pages():
        lines += [f"## {page.name}", "", "```", page.usage, "```", ""]
        for paragraph in page.about:
            lines += [paragraph, ""]
        for panel, rows in page.panels.items():
            lines += [f"| {panel} | |", "|---|---|"]
            lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in rows] + [""]
        lines += ["```", *page.examples, "```", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def man() -> str:
    """Return the reference as a man page, in the man macros."""
    lines = ['.TH EMT 1 "" "emt" "User Commands"', ".SH NAME"]
    for number, page in enumerate(pages()):
        if number == 0:
            lines += [f"emt \\- {_roff(_lower(page.about[0]))}", ".SH SYNOPSIS", f".B {_roff(page.usage)}"]
            lines += [".SH DESCRIPTION", *_paragraphs(page.about[1:])]
        else:
            lines += [f".SH {_roff(page.name.upper())}", f".B {_roff(page.usage)}", ".PP"]
            lines += _paragraphs(page.about)
        for panel, rows in page.panels.items():
            lines.append(f".SS {_roff(panel)}")
            for option, text in rows:
                lines += [".TP", f".B {_roff(option)}", _roff(" ".join(text.split()))]
        lines += [".SS Examples", ".nf", *map(_roff, page.examples), ".fi"]
    lines += [".SH EXIT STATUS"]
    for code, meaning in exit_codes():
        lines += [".TP", f".B {code}", _roff(meaning)]
    return "\n".join(lines) + "\n"


def exit_codes() -> list[tuple[str, str]]:
    """Return the exit codes and their meanings, as docs/json.md has them."""
    table = (ROOT / "docs" / "json.md").read_text(encoding="utf-8").partition("## JSON")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", table, re.MULTILINE)
    return [(codes, meaning.replace("`", "")) for codes, meaning in rows]


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:].rstrip(".")


def _paragraphs(texts: list[str]) -> list[str]:
    return [line for text in texts for line in (_roff(text), ".PP")][:-1]


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


# Hooks of MkDocs


def on_files(files: Any, config: Any) -> Any:
    """Add what is made here, and the files beside docs/ that its pages link to or show."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=markdown()))
    found, pending = {"README.md"}, [ROOT / "README.md", *Path(config["docs_dir"]).glob("*.md")]
    while pending:
        linked = {name for name in _links(pending.pop()) if (ROOT / name).is_file()} - found
        found |= linked
        pending += [ROOT / name for name in linked if name.endswith(".md")]
    for name in sorted(found):
        files.append(File(name, str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def _links(source: Path) -> Iterator[str]:
    """Yield the files outside docs/ that a page links to, from the root."""
    for target in re.findall(r"\]\(([^)#:]+)", source.read_text(encoding="utf-8")):
        path = (source.parent / target).resolve()
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs"):
            yield path.relative_to(ROOT).as_posix()


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Let links hold on the site, where the pages of docs/ lie beside the files of the root."""
    if (ROOT / page.file.src_uri).is_file():
        return markdown.replace("](docs/", "](")
    return markdown.replace("](../", "](")


if __name__ == "__main__":
    print(man(), end="")

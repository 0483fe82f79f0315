"""Streams beside the picture: timed text as SubRip, attached files, and data that nothing can copy."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import pytest

from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.task import Settings
from emt_cli.media.video import mux

TEXTS = """1
00:00:00,100 --> 00:00:00,500
<b>Hello</b> & <i>you</i> {note}
two lines

2
00:00:00,600 --> 00:00:00,900
- “World”
"""


def captioned(path: Path) -> Path:
    """Make an MP4 with timed text, and nothing but its texts in between."""
    texts, silent = path.with_suffix(".srt"), path.with_name(f"silent_{path.name}")
    texts.write_text(TEXTS)
    clips.clip(silent, size="32x32", rate="10")
    clips.ffmpeg(
        "-i", silent, "-i", texts, "-map", "0", "-map", "1", "-c:v", "copy", "-c:s", "mov_text",
        "-metadata:s:s:0", "language=eng", path,
    )  # fmt: skip
    return path


def renamed(path: Path, handler: bytes, entry: bytes) -> Path:
    """Make an MP4 whose timed text says that it is something else."""
    data = captioned(path).read_bytes()
    assert data.count(b"tx3g") == data.count(b"\0\0\0\0sbtl") == 1
    path.write_bytes(data.replace(b"tx3g", entry).replace(b"\0\0\0\0sbtl", b"\0\0\0\0" + handler))
    return path


def texts_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (float(packet.pts * packet.time_base), float(packet.duration * packet.time_base), text)
            for packet in container.demux(container.streams.subtitles[0])
            if (text := bytes(packet).decode()) and packet.pts is not None
        ]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, [(0.1, 0.4, "<b>Hello</b> & <i>you</i> {note}\ntwo lines"), (0.6, 0.3, "- “World”")]),
        ("0.2", "0.7", [(0, 0.3, "<b>Hello</b> & <i>you</i> {note}\ntwo lines"), (0.4, 0.1, "- “World”")]),
        ("0.5", None, [(0.1, 0.3, "- “World”")]),
    ],
)
def test_timed_text_becomes_subrip_with_its_words_at_their_times(
    tmp_path: Path,
    start: str | None,
    end: str | None,
    expected: list[tuple[float, float, str]],
    enlarge: Callable[..., dict[str, Any]],
) -> None:
    part = {"start": start and Fraction(start), "end": end and Fraction(end)}

    facts = enlarge(captioned(tmp_path / "a.mp4"), tmp_path / "b.mkv", codec="ffv1", **part)

    assert facts["verified"], facts["checks"]
    assert texts_of(Path(facts["output"])) == expected


@pytest.mark.parametrize("damage", ["words", "times"])
def test_subrip_of_other_words_or_times_does_not_pass(
    tmp_path: Path, damage: str, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = captioned(tmp_path / "a.mp4")

    def write(_info: object, _index: int, target: Path, *_: object) -> None:
        wrong = TEXTS.replace("World", "Word") if damage == "words" else TEXTS.replace(",600", ",650")
        texts = tmp_path / "wrong.srt"
        texts.write_text(wrong)
        clips.ffmpeg("-i", texts, "-c", "copy", target)

    monkeypatch.setattr(mux, "write_subrip", write)

    facts = enlarge(source, tmp_path / "b.mkv")

    assert [check["name"] for check in facts["checks"] if not check["passed"]] == ["subtitle"]


def test_timed_text_that_is_cut_stays_right_in_mp4(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]]
) -> None:
    facts = enlarge(captioned(tmp_path / "a.mp4"), start=Fraction("0.2"), end=Fraction("0.7"))

    assert facts["verified"], facts["checks"]


@pytest.mark.parametrize(
    ("handler", "entry", "words"),
    [
        (b"text", b"wvtt", "WebVTT subtitles (wvtt)"),
        (b"meta", b"mebx", "data mebx"),
        (b"meta", b"mett", "data mett"),
        (b"meta", b"fdsc", "data fdsc"),
    ],
)
def test_data_that_cannot_be_copied_are_named_before_the_work(
    tmp_path: Path, handler: bytes, entry: bytes, words: str, model: str
) -> None:
    source = renamed(tmp_path / "a.mp4", handler, entry)

    task = VideoJob(Settings(target=Target(2), model=model)).open(source)

    assert f"stream 1: {words} cannot be copied, and is left out" in task.notes
    assert task.target.suffix == ".mp4"


def test_an_attached_file_of_other_bytes_does_not_pass(
    tmp_path: Path, enlarge: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    font, silent, source = tmp_path / "font.ttf", tmp_path / "silent.mkv", tmp_path / "a.mkv"
    clips.clip(silent, size="32x32", seconds=0.2)
    for file, content in ((source, b"font " * 99), (tmp_path / "wrong.mkv", b"tnof " * 99)):
        font.write_bytes(content)
        kind = "mimetype=application/x-truetype-font"
        clips.ffmpeg("-i", silent, "-c", "copy", "-attach", font, "-metadata:s:t", kind, file)
    usual = mux._source

    assert enlarge(source)["verified"]

    monkeypatch.setattr(
        mux,
        "_source",
        lambda *arguments, **more: [part.replace("a.mkv", "wrong.mkv") for part in usual(*arguments, **more)],
    )
    facts = enlarge(source, overwrite=True)
    assert [check["name"] for check in facts["checks"] if not check["passed"]] == ["attachment"]

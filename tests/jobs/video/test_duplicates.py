"""Frames seen a moment ago are known again by their pixels, not by a checksum alone."""

from __future__ import annotations

import numpy as np
import pytest

from emt_cli.jobs.video import duplicates
from emt_cli.jobs.video.duplicates import RecentFrames


def test_frames_of_one_checksum_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_checksum", lambda pixels: 0)
    recent: RecentFrames[str] = RecentFrames(2)
    first, second = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)

    recent.add(first, "first")

    assert recent.find(first.copy()) == "first"
    assert recent.find(second) is None
    assert recent.find(first.astype(np.uint16)) is None


def test_the_oldest_is_forgotten() -> None:
    recent: RecentFrames[int] = RecentFrames(2)
    frames = [np.full((2, 2, 3), level, np.uint8) for level in range(3)]

    for level, frame in enumerate(frames):
        recent.add(frame, level)

    assert [recent.find(frame) for frame in frames] == [None, 1, 2]

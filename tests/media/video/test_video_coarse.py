"""Videos that were coded coarsely are told by their quantisers, as far as their codec tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emt_cli.jobs.target import Target
from emt_cli.jobs.video.plan import VideoJob
from emt_cli.jobs.video.task import Settings
from emt_cli.media.video.probe import probe


def coded(path: Path, photo: np.ndarray, codec: str, **options: str) -> Path:
    """Write twelve frames in which a picture moves."""
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=25)
        track.width, track.height, track.pix_fmt, track.options = 96, 64, "yuv420p", options
        for shift in range(0, 24, 2):
            frame = av.VideoFrame.from_ndarray(photo[:64, shift : shift + 96].copy(), "rgb24")
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "fine", "coarse"),
    [
        ("libx264", {"qp": "20"}, {"qp": "36"}),
        ("mpeg2video", {"qmin": "2", "qmax": "2"}, {"qmin": "9", "qmax": "9"}),
        ("mpeg4", {"qmin": "2", "qmax": "2"}, {"qmin": "9", "qmax": "9"}),
        ("libvpx-vp9", {"crf": "20", "b": "0"}, {"crf": "58", "b": "0", "qmin": "56"}),
    ],
)
def test_a_video_is_coarse_where_its_quantisers_are(
    tmp_path: Path, photo: np.ndarray, codec: str, fine: dict[str, str], coarse: dict[str, str]
):
    assert probe(coded(tmp_path / "fine.mkv", photo, codec, **fine)).kind == "plain"
    assert probe(coded(tmp_path / "coarse.mkv", photo, codec, **coarse)).kind == "coarse video"


def test_a_codec_that_does_not_tell_is_not_coarse(tmp_path: Path, photo: np.ndarray):
    path = coded(tmp_path / "a.mkv", photo, "libx265", **{"x265-params": "qp=45:log-level=none"})

    assert probe(path).kind == "plain"


def test_auto_takes_the_photo_model_for_a_coarse_video_and_another_choice_stays(
    tmp_path: Path, photo: np.ndarray
):
    path = coded(tmp_path / "a.mkv", photo, "libx264", qp="40")

    chosen = VideoJob(Settings(Target(4))).open(path)
    named = VideoJob(Settings(Target(4), model="emt-lite")).open(path)

    assert [model.name for model in (*chosen.models, *named.models)] == ["emt-lite-photo", "emt-lite"]
    assert "--model emt-lite takes it as it is" in (chosen.models[0].hint or "")

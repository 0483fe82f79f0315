"""The library: arrays, files, videos and folders from Python; nothing of the host program is changed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from clips import clip
from PIL import Image

import emt_cli
from emt_cli import DeviceError, EmtError, Session, StoppedError, Upscaler, upscale_file
from emt_cli.engine.weights import save_weights
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


@pytest.fixture
def model(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> str:
    """A model file of x2."""
    save_weights(tmp_path / "tiny.safetensors", tiny_config, tiny_network.state_dict(), {})
    return str(tmp_path / "tiny.safetensors")


@pytest.fixture
def cat(tmp_path: Path, photo: np.ndarray) -> Path:
    Image.fromarray(photo[:40, :56]).save(tmp_path / "cat.jpg", exif=exif())
    return tmp_path / "cat.jpg"


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    return tags


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, emt_cli; dir(emt_cli); print({'torch', 'numpy', 'cv2', 'typer'} & sys.modules.keys())"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_the_readme_lines_enlarge_a_picture(photo: np.ndarray) -> None:
    upscaler = Upscaler.from_model("emt-lite", scale=4)

    larger = upscaler.upscale(photo[:40, :56])

    assert (larger.shape, larger.dtype) == ((160, 224, 3), np.uint8)
    small = np.asarray(Image.fromarray(larger).resize((56, 40), Image.Resampling.BOX), int)
    assert np.abs(small - photo[:40, :56]).mean() < 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("gray", [False, True])
def test_type_and_kind_of_the_array_stay(model: str, photo: np.ndarray, dtype: type, gray: bool) -> None:
    full = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    picture = (photo[:20, :30].astype(np.float64) * full).astype(dtype)
    picture = picture[..., 0] if gray else picture

    larger = Upscaler.from_model(model).upscale(picture)

    assert larger.dtype == dtype
    assert larger.shape == (40, 60, *picture.shape[2:])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 3), np.float64),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.full((4, 4, 3), np.nan, np.float32),
    ],
    ids=["five channels", "doubles", "integers", "empty", "batch", "nan"],
)
def test_what_is_no_picture_is_a_value_error(model: str, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="picture"):
        Upscaler.from_model(model).upscale(array)


def test_views_of_any_layout_are_pictures(model: str, photo: np.ndarray) -> None:
    upscaler = Upscaler.from_model(model)
    turned = photo[:20, :30][::-1, ::-1, ::-1]

    assert np.array_equal(upscaler.upscale(turned), upscaler.upscale(turned.copy()))


def test_a_file_of_another_scale_than_asked_for_is_refused(model: str) -> None:
    with pytest.raises(EmtError, match="enlarges x2, not x4"):
        Upscaler.from_model(model, scale=4)


def test_a_file_is_enlarged_with_its_metadata(cat: Path, model: str) -> None:
    shares: list[float] = []

    result = upscale_file(cat, cat.with_name("large.jpg"), scale=1.5, model=model, progress=shares.append)

    with Image.open(result) as image:
        assert image.size == (84, 60)
        assert image.getexif()[0x010F] == "Maker"
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_session_takes_the_model_that_the_command_line_takes(cat: Path) -> None:
    with Session() as session:
        for scale, model in ((1, "emt-lite-photo"), (2, "emt-photo")):
            by_itself, named = (cat.with_name(f"{name}.png") for name in (f"auto{scale}", f"named{scale}"))
            session.upscale_file(cat, by_itself, scale=scale)
            Session(model).upscale_file(cat, named, scale=scale)
            assert np.array_equal(*(np.asarray(Image.open(path)) for path in (by_itself, named)))


@pytest.mark.parametrize("sharpness", [-0.1, 2.0, float("nan")])
def test_a_session_refuses_a_sharpness_that_is_none_before_the_first_picture(sharpness: float) -> None:
    with pytest.raises(EmtError, match="a sharpness is a number from 0 to 1"):
        Session(sharpness=sharpness)


def test_a_result_lies_beside_its_source_and_overwrites_nothing(cat: Path, model: str) -> None:
    result = upscale_file(str(cat), long_side=100, model=model)

    assert result == cat.with_name("cat_100x71.jpg")
    with pytest.raises(EmtError, match="exists already"):
        upscale_file(cat, long_side=100, model=model)
    assert upscale_file(cat, long_side=100, model=model, overwrite=True) == result


def test_every_public_name_is_there() -> None:
    for name in emt_cli.__all__:
        assert getattr(emt_cli, name) is not None
    with pytest.raises(AttributeError):
        emt_cli.Downscaler  # noqa: B018


@pytest.mark.parametrize("engine", ["native", "openvino", "torch"])
def test_threads_may_share_an_upscaler(model: str, photo: np.ndarray, engine: str) -> None:
    upscaler = Upscaler.from_model(model, scale=2, engine=engine)
    pictures = [photo[i : i + 24, i : i + 30] for i in range(8)]
    alone = [upscaler.upscale(picture) for picture in pictures]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(upscaler.upscale, pictures * 3))

    for answer, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_array_equal(answer, expected)


def test_a_closed_upscaler_says_so(model: str, photo: np.ndarray) -> None:
    with Upscaler.from_model(model, scale=2) as upscaler:
        upscaler.upscale(photo[:20, :20])

    with pytest.raises(ValueError, match="closed"):
        upscaler.upscale(photo[:20, :20])


def test_an_rgba_array_is_enlarged_with_its_alpha(model: str, photo: np.ndarray, ramp: np.ndarray) -> None:
    upscaler = Upscaler.from_model(model, scale=2)
    picture = np.dstack([photo, np.where(ramp < 100, 0, 255).astype(np.uint8)])

    answer = upscaler.upscale(picture)

    assert answer.shape == (192, 240, 4)
    assert (answer[-40:, :, 3] == 255).all()
    assert (answer[:40, :, 3] == 0).all()
    opaque = upscaler.upscale(photo)
    assert np.abs(answer[-60:-20, :, :3].astype(int) - opaque[-60:-20]).mean() < 1


def test_an_array_reports_progress_and_stops_when_told(model: str, photo: np.ndarray) -> None:
    upscaler, stop, shares = Upscaler.from_model(model, scale=2, tile=32), Event(), []

    def progress(share: float) -> None:
        shares.append(share)
        if share > 0.3:
            stop.set()

    with pytest.raises(StoppedError):
        upscaler.upscale(photo, progress=progress, stop=stop)
    assert shares == sorted(shares)
    assert 0.3 < shares[-1] < 0.9


def test_bytes_in_are_bytes_out(model: str, cat: Path) -> None:
    with Session(model) as session:
        same = Image.open(io.BytesIO(session.upscale_bytes(cat.read_bytes(), scale=2)))
        other = Image.open(io.BytesIO(session.upscale_bytes(cat.read_bytes(), scale=2, format="png")))

    assert (same.format, same.size) == ("JPEG", (112, 80))
    assert other.format == "PNG"
    assert same.getexif()[0x010F] == "Maker"


def test_a_session_keeps_its_model_between_files(
    model: str, cat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emt_cli.jobs import networks

    read, load = [], networks.load_model
    monkeypatch.setattr(
        networks, "load_model", lambda path, **options: read.append(path) or load(path, **options)
    )

    with Session(model) as session:
        for name in ("one.png", "two.png"):
            session.upscale_file(cat, tmp_path / name, scale=2)

    assert len(read) == 1
    with pytest.raises(ValueError, match="closed"):
        session.upscale_file(cat, tmp_path / "three.png", scale=2)


def test_a_memory_limit_refuses_what_is_larger(model: str, cat: Path, tmp_path: Path) -> None:
    with Session(model, memory=10_000) as session, pytest.raises(DeviceError, match="limit"):
        session.upscale_file(cat, tmp_path / "large.png", scale=2)

    assert not (tmp_path / "large.png").exists()


def test_videos_and_folders_leave_the_signals_of_their_host_alone(
    model: str, cat: Path, tmp_path: Path
) -> None:
    film = clip(tmp_path / "film.mp4", seconds=0.4)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[object] = []

    def look(_: float) -> None:
        seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

    with Session(model) as session:
        facts = session.upscale_video(film, tmp_path / "large.mp4", scale=2, progress=look)
        (tmp_path / "in").mkdir()
        cat.rename(tmp_path / "in" / "cat.jpg")
        folder = session.upscale_folder(tmp_path / "in", tmp_path / "out", scale=2, progress=look)

    assert facts["verified"]
    assert (folder.done, folder.failures) == (1, [])
    assert seen
    assert all(there == handlers for there in seen)


def test_a_video_is_made_in_any_thread_and_goes_on_after_a_stop(model: str, tmp_path: Path) -> None:
    film, stop, ends = clip(tmp_path / "film.mp4", seconds=1), Event(), []

    def run() -> None:
        with Session(model) as session:
            try:
                session.upscale_video(
                    film, tmp_path / "large.mp4", scale=2, progress=lambda _: stop.set(), stop=stop
                )
            except StoppedError as error:
                ends.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    with Session(model) as session:
        facts = session.upscale_video(film, tmp_path / "large.mp4", scale=2)

    assert len(ends) == 1
    assert facts["verified"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("engine", "told"), [("native", "same"), ("openvino", "fork"), ("torch", "fork")])
def test_a_forked_process_computes_or_says_why_not(model: str, engine: str, told: str) -> None:
    program = f"""
import os, numpy as np
from emt_cli import DeviceError, Upscaler
upscaler = Upscaler.from_model({model!r}, scale=2, engine={engine!r})
picture = np.arange(3 * 96 * 96, dtype=np.uint32).astype(np.uint8).reshape(96, 96, 3)
expected = upscaler.upscale(picture)
sys_out = os.dup(1)
if os.fork() == 0:
    try:
        same = np.array_equal(upscaler.upscale(picture), expected)
        os.write(sys_out, b"same" if same else b"other")
    except DeviceError as error:
        os.write(sys_out, b"fork" if "fork" in str(error) else b"?")
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == told

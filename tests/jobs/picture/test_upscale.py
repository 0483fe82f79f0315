"""`emt upscale` on files: sizes, formats, alpha, metadata, pipes, refusals, exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.errors import UsageError
from emt_cli.jobs.picture.job import PictureJob
from emt_cli.jobs.picture.plan import name_ending, plan_picture
from emt_cli.jobs.picture.task import Task
from emt_cli.jobs.target import Target
from emt_cli.media.metrics import psnr
from emt_cli.media.resize import bicubic_downscale, resize

EMT = [sys.executable, "-m", "emt_cli"]


def upscale(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run `emt upscale` in this process, with the bundled model."""
    return CliRunner().invoke(app, ["upscale", "--model", "emt-lite", *map(str, arguments)], input=stdin)


def stderr_line(result: Result) -> str:
    """The one line of an error."""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def cat(tmp_path: Path, photo: np.ndarray) -> Path:
    """A picture file of 60x48 pixels."""
    path = tmp_path / "cat.png"
    Image.fromarray(photo[:48, :60]).save(path)
    return path


@pytest.mark.parametrize(
    ("target", "scales", "passes", "size"),
    [
        (Target(scale=4), (2, 3, 4), (4,), (400, 800)),
        (Target(scale=2.7), (2, 3, 4), (3,), (270, 540)),
        (Target(scale=2), (4,), (4,), (200, 400)),
        (Target(scale=1.1), (2, 3, 4), (2,), (110, 220)),
        (Target(scale=5), (2, 3, 4), (2, 3), (500, 1000)),
        (Target(scale=8), (2, 3, 4), (2, 4), (800, 1600)),
        (Target(scale=16), (2, 3, 4), (4, 4), (1600, 3200)),
        (Target(width=600), (2, 3, 4), (3,), (300, 600)),
        (Target(height=250), (2, 3, 4), (3,), (250, 500)),
        (Target(long_side=801), (2, 3, 4), (2, 3), (400, 801)),
        (Target(scale=16), (8,), (8, 8), (1600, 3200)),
        (Target(scale=1), (2, 4), (2,), (100, 200)),
    ],
)
def test_the_smallest_scales_that_cover_the_target_are_taken(
    target: Target, scales: tuple[int, ...], passes: tuple[int, ...], size: tuple[int, int]
) -> None:
    plan = plan_picture(100, 200, target, scales, name="x")

    assert plan.passes == passes
    assert (plan.out_height, plan.out_width) == size
    factor = np.prod(passes)
    assert plan.resized == ((100 * factor, 200 * factor) != size)


@pytest.mark.parametrize(
    ("target", "scales", "words"),
    [
        (Target(17), (8,), "beyond 16 times"),
        (Target(5), (2,), "beyond 4 times"),
        (Target(0.5), (2,), "emt only enlarges"),
        (Target(width=20), (2,), "emt only enlarges"),
    ],
)
def test_what_no_two_passes_reach_is_refused(target: Target, scales: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_picture(10, 20, target, scales, name="photo.png")


def test_a_network_of_scale_one_keeps_the_size_that_is_asked_for() -> None:
    plan = plan_picture(10, 20, Target(width=20), (1,), name="photo.png")

    assert plan.passes == (1,)
    assert not plan.resized


@pytest.mark.parametrize(
    ("source", "format", "ending"),
    [("A.JPG", "jpeg", ".JPG"), ("a.jpe", "jpeg", ".jpe"), ("a.JPG", "png", ".png"), (None, "tiff", ".tif")],
)
def test_a_result_ends_as_its_source_where_that_fits(source: str | None, format: str, ending: str) -> None:
    assert name_ending(source and Path(source), format) == ending


@pytest.mark.parametrize(
    "target", [Target(scale=0.5), Target(scale=0.99), Target(width=200), Target(scale=17)]
)
def test_what_is_no_enlargement_up_to_16_is_refused(target: Target) -> None:
    with pytest.raises(UsageError, match=r"only enlarges|beyond 16 times"):
        plan_picture(100, 200, target, (2, 3, 4), name="x")


@pytest.mark.parametrize(
    "options",
    [
        ["--scale", "nan"],
        ["--scale", "-4"],
        ["--scale", "0"],
        ["--width", "0"],
        ["--scale", "2", "--width", "9"],
    ],
)
def test_sizes_that_make_no_sense_are_usage_errors(cat: Path, options: list[str]) -> None:
    result = upscale(cat, *options)

    assert result.exit_code == 2
    assert list(cat.parent.iterdir()) == [cat]


def test_a_photo_becomes_four_times_larger_beside_itself(cat: Path) -> None:
    result = upscale(cat)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{cat.with_name('cat_x4.png')}\n"
    assert Image.open(cat.with_name("cat_x4.png")).size == (240, 192)
    assert "60x48 to 240x192" in result.stderr


def test_the_bundled_model_is_clearly_better_than_bicubic(tmp_path: Path) -> None:
    from skimage.data import astronaut
    from skimage.metrics import peak_signal_noise_ratio

    hr = astronaut()[:256, 100:356]
    lr = bicubic_downscale(hr, 4)
    Image.fromarray(lr).save(tmp_path / "lr.png")
    bicubic = np.rint(np.clip(resize(lr.astype(np.float32), 256, 256), 0, 255)).astype(np.uint8)

    upscale(tmp_path / "lr.png", "-o", tmp_path / "sr.png")

    answer = np.array(Image.open(tmp_path / "sr.png"))
    gain = peak_signal_noise_ratio(hr, answer) - peak_signal_noise_ratio(hr, bicubic)
    assert gain > 1.0


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--scale", "2.7"], (162, 130)),
        (["--width", "100"], (100, 80)),
        (["--long-side", "70"], (70, 56)),
        (["--scale", "6"], (360, 288)),
    ],
)
def test_any_size_can_be_had(cat: Path, options: list[str], size: tuple[int, int]) -> None:
    result = upscale(cat, *options, "-o", cat.parent / "large.png")

    assert result.exit_code == 0, result.stderr
    assert Image.open(cat.parent / "large.png").size == size


def test_a_resized_result_is_the_x4_result_resized_once(cat: Path) -> None:
    only_x4 = Path(__file__).parent.parent.parent.parent / "weights" / "emt-lite-x4.safetensors"
    upscale(cat, "--scale", "4", "--model", only_x4)
    upscale(cat, "--scale", "2", "--model", only_x4)

    large = np.array(Image.open(cat.with_name("cat_x4.png"))).astype(np.float32)
    small = np.array(Image.open(cat.with_name("cat_x2.png")))
    error = np.abs(resize(large, 96, 120).clip(0, 255) - small)
    assert np.percentile(error, 99) < 0.8, "beyond roundings only where the network overshoots white or black"


@pytest.mark.parametrize("ending", ["jpg", "webp", "tif", "bmp", "png"])
def test_a_result_has_the_format_of_its_input(tmp_path: Path, photo: np.ndarray, ending: str) -> None:
    Image.fromarray(photo[:20, :24]).save(tmp_path / f"a.{ending}")

    result = upscale(tmp_path / f"a.{ending}")

    large = Image.open(tmp_path / f"a_x4.{ending}")
    assert result.exit_code == 0, result.stderr
    assert large.size == (96, 80)
    assert large.format == Image.open(tmp_path / f"a.{ending}").format


def test_the_content_decides_the_format_not_the_name(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo[:20, :24]).save(tmp_path / "really.png", format="jpeg")

    upscale(tmp_path / "really.png")

    assert Image.open(tmp_path / "really_x4.jpg").format == "JPEG"


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, photo: np.ndarray) -> None:
    small = photo[:32, :32]
    Image.fromarray(small).save(tmp_path / "eight.png")
    cv2.imwrite(str(tmp_path / "sixteen.png"), small[..., ::-1].astype(np.uint16) * 257)

    upscale(tmp_path / "eight.png", tmp_path / "sixteen.png")

    eight = cv2.imread(str(tmp_path / "eight_x4.png"), cv2.IMREAD_UNCHANGED)
    sixteen = cv2.imread(str(tmp_path / "sixteen_x4.png"), cv2.IMREAD_UNCHANGED)
    assert sixteen.dtype == np.uint16
    assert np.abs(sixteen / 257 - eight).max() < 0.51
    assert (sixteen % 257 != 0).mean() > 0.9, "more than eight bits of precision"


def test_a_gray_picture_stays_gray(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo[:20, :24, 0]).save(tmp_path / "gray.png")

    upscale(tmp_path / "gray.png")

    assert Image.open(tmp_path / "gray_x4.png").mode == "L"


def test_alpha_is_enlarged_without_a_halo_and_opaque_stays_opaque(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :40]
    disc = (x - 20) ** 2 + (y - 20) ** 2 < 144
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[disc] = (250, 200, 40, 255)
    Image.fromarray(rgba).save(tmp_path / "disc.png")

    upscale(tmp_path / "disc.png")

    large = np.array(Image.open(tmp_path / "disc_x4.png"))
    inside = disc.repeat(4, 0).repeat(4, 1)
    deep = cv2.erode(inside.astype(np.uint8), np.ones((25, 25))).astype(bool)
    far = cv2.dilate(inside.astype(np.uint8), np.ones((25, 25))) == 0
    assert (large[deep][:, 3] == 255).all()
    assert (large[far][:, 3] == 0).all()
    edge = (large[..., 3] > 20) & ~deep
    assert large[edge][:, 0].min() > 225, "no black from under the transparency"


def test_an_opaque_alpha_channel_stays_exactly_opaque(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo[:20, :24]).convert("RGBA").save(tmp_path / "a.png")

    upscale(tmp_path / "a.png")

    large = np.array(Image.open(tmp_path / "a_x4.png"))
    assert large.shape == (80, 96, 4)
    assert (large[..., 3] == 255).all()


def test_transparency_is_not_lost_into_jpeg(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "a.png")

    result = upscale(tmp_path / "a.png", "--format", "jpeg")

    assert result.exit_code == 2
    assert "transparency" in stderr_line(result)


def test_a_rotated_photo_is_turned_once_and_keeps_its_metadata(tmp_path: Path, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Camera maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo[:20, :40]).save(
        tmp_path / "a.jpg", exif=exif, icc_profile=profile, dpi=(300, 300), quality=95
    )

    upscale(tmp_path / "a.jpg")

    large = Image.open(tmp_path / "a_x4.jpg")
    assert large.size == (80, 160)
    assert large.getexif()[0x0112] == 1
    assert large.getexif()[0x010F] == "Camera maker"
    assert large.info["icc_profile"] == profile
    assert large.info["dpi"] == (300, 300)
    shrunk = np.array(large.resize((20, 40), Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - np.rot90(photo[:20, :40], -1)).mean() < 4


def test_metadata_can_be_stripped(tmp_path: Path, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera maker"
    Image.fromarray(photo[:8, :8]).save(tmp_path / "a.png", exif=exif)

    upscale(tmp_path / "a.png", "--strip-metadata")

    assert not Image.open(tmp_path / "a_x4.png").getexif()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 3)])
def test_the_smallest_and_thinnest_pictures_work(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 200, 90)).save(tmp_path / "a.png")

    result = upscale(tmp_path / "a.png")

    assert result.exit_code == 0, result.stderr
    assert Image.open(tmp_path / "a_x4.png").size == (size[0] * 4, size[1] * 4)


def test_a_result_that_exists_is_not_replaced(cat: Path) -> None:
    place = cat.with_name("cat_x4.png")
    place.write_bytes(b"precious")

    result = upscale(cat)

    assert result.exit_code == 6
    assert "-y" in stderr_line(result)
    assert place.read_bytes() == b"precious"
    assert upscale(cat, "-y").exit_code == 0
    assert Image.open(place).size == (240, 192)


def test_dry_run_prints_the_plan_and_writes_nothing(cat: Path) -> None:
    result = upscale(cat, "--scale", "2.5", "--dry-run")

    assert result.exit_code == 0
    assert "60x48 to 150x120" in result.stderr
    assert list(cat.parent.iterdir()) == [cat]


def test_pictures_go_through_pipes(cat: Path) -> None:
    done = subprocess.run(
        [*EMT, "upscale", "-", "--model", "emt-lite"],
        input=cat.read_bytes(),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert Image.open(io.BytesIO(done.stdout)).size == (240, 192)


def test_results_go_into_a_folder_that_is_made(cat: Path) -> None:
    other = cat.with_name("näme with spaces -y.png")
    other.write_bytes(cat.read_bytes())

    result = upscale(cat, other, "-o", f"{cat.parent / 'new' / 'large'}{os.sep}")

    assert result.exit_code == 0, result.stderr
    made = sorted(path.name for path in (cat.parent / "new" / "large").iterdir())
    assert made == ["cat_x4.png", "näme with spaces -y_x4.png"]


def test_dry_run_makes_no_folder(cat: Path) -> None:
    result = upscale(cat, "--dry-run", "-o", f"{cat.parent / 'new'}{os.sep}")

    assert (result.exit_code, Path(result.stdout.strip())) == (0, cat.parent / "new" / "cat_x4.png")
    assert list(cat.parent.iterdir()) == [cat]


def test_a_folder_that_cannot_be_made_is_known_before_the_work(cat: Path) -> None:
    result = upscale(cat, "--dry-run", "-o", f"{cat / 'new'}{os.sep}")

    assert result.exit_code == 4
    assert "is no folder" in stderr_line(result).removeprefix("emt: ")


def test_two_inputs_never_share_one_result(cat: Path) -> None:
    (cat.parent / "sub").mkdir()
    twin = cat.parent / "sub" / "cat.png"
    twin.write_bytes(cat.read_bytes())

    result = upscale(cat, twin, "-y", "-o", f"{cat.parent / 'out'}{os.sep}")

    assert result.exit_code == 3
    assert "result of another input" in result.stderr


def test_before_and_after_replaces_no_result_of_the_same_run(cat: Path) -> None:
    other = cat.with_name("cat_compare.png")
    other.write_bytes(cat.read_bytes())

    result = upscale(cat, other, "-o", f"{cat.parent}/out/", "--suffix", "", "--compare", "-y")

    assert result.exit_code == 3
    assert "is the result of another input" in result.stderr
    assert sorted(path.name for path in (cat.parent / "out").iterdir()) == ["cat.png", "cat_compare.png"]


def test_results_can_have_the_dates_of_their_sources(cat: Path) -> None:
    os.utime(cat, ns=(10**18, 1_234_567_890_123_456_789))

    assert upscale(cat, "--keep-dates", "--compare").exit_code == 0

    for name in ("cat_x4.png", "cat_x4_compare.png"):
        assert cat.with_name(name).stat().st_mtime_ns == 1_234_567_890_123_456_789


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_may_begin_with_a_single_byte(cat: Path) -> None:
    fifo = cat.with_name("pipe")
    os.mkfifo(fifo)
    data = cat.read_bytes()

    def feed() -> None:
        with fifo.open("wb", buffering=0) as stream:
            stream.write(data[:1])
            time.sleep(0.2)
            stream.write(data[1:])

    feeder = threading.Thread(target=feed)
    feeder.start()
    result = upscale(fifo, "-o", cat.with_name("out.png"))
    feeder.join()

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("address", ["https://example.com/a.png", "file:///tmp/a.png"])
def test_an_address_is_told_from_a_path(address: str) -> None:
    result = upscale(address)

    assert result.exit_code == 8
    assert "is an address, not a file; download it first" in result.stderr


def test_one_bad_picture_does_not_stop_the_others(cat: Path) -> None:
    bad = cat.with_name("bad.png")
    bad.write_text("no picture")

    result = upscale(bad, cat)

    assert result.exit_code == 3
    assert cat.with_name("cat_x4.png").exists()
    assert "bad.png: holds text" in result.stderr
    assert upscale(bad, bad).exit_code == 4


def test_one_picture_is_let_go_before_the_next_is_read(cat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[weakref.ref[Task]] = []
    alive = []

    def opening(job: PictureJob, *arguments: Any, **options: Any) -> Task:
        alive.append(sum(task() is not None for task in tasks))
        task = opened(job, *arguments, **options)
        tasks.append(weakref.ref(task))
        return task

    opened = PictureJob.open
    monkeypatch.setattr(PictureJob, "open", opening)
    other = cat.with_name("other.png")
    other.write_bytes(cat.read_bytes())

    upscale(cat, other, "--dry-run")

    assert alive == [0, 0]


def test_json_tells_what_was_done_and_what_failed(cat: Path) -> None:
    result = upscale(cat, cat.with_name("missing.png"), "--json", "--compare")

    done, failed = map(json.loads, result.stdout.splitlines())
    assert done["event"] == "done"
    assert (done["out_width"], done["out_height"]) == (240, 192)
    assert done["model"] == "emt-lite"
    assert Path(done["output"]).exists()
    assert Path(done["compare"]).exists()
    assert failed["event"] == "failed"
    assert failed["exit_code"] == 8
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.png", None, "does not exist"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello there", "holds text"),
        ("folder", "folder", "is a folder"),
        ("photo.heic", b"\0\0\0\x18ftypheic", "cut short"),
    ],
)
def test_inputs_that_are_no_picture_are_one_line_and_8(
    tmp_path: Path, name: str, content: bytes | str | None, words: str
) -> None:
    if content == "folder":
        (tmp_path / name).mkdir()
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)

    result = upscale(tmp_path / name)

    assert result.exit_code == 8
    assert words in stderr_line(result)


def test_a_truncated_picture_is_refused(cat: Path) -> None:
    cat.write_bytes(cat.read_bytes()[:-2000])

    assert upscale(cat).exit_code == 8
    assert list(cat.parent.iterdir()) == [cat]


def test_a_declared_size_over_the_limit_is_refused(cat: Path) -> None:
    result = upscale(cat, "--max-pixels", "2879")

    assert result.exit_code == 8
    assert "--max-pixels" in stderr_line(result)


@pytest.mark.parametrize("model", ["emt-light", "missing.safetensors"])
def test_unknown_models_are_one_line_and_5(cat: Path, model: str) -> None:
    result = upscale(cat, "--model", model)

    assert result.exit_code == 5
    assert model in stderr_line(result)


def test_more_memory_than_there_is_is_told_before_the_work(
    cat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emt_cli.jobs.memory.spare_memory", lambda device="cpu": 1000)

    result = upscale(cat)

    assert result.exit_code == 7
    assert "are free" in stderr_line(result)


@pytest.mark.skipif(os.name == "nt", reason="limits of file sizes are a Unix matter")
def test_a_full_disk_is_one_line_and_leaves_nothing(cat: Path) -> None:
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        f"from emt_cli.cli import app; app(['upscale', {str(cat)!r}, '--model', 'emt-lite', '-q'])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 4
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(cat.parent.iterdir()) == [cat]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a Unix matter")
def test_kill_at_any_moment_leaves_no_half_result(tmp_path: Path, photo: np.ndarray) -> None:
    source = tmp_path / "photo.png"
    Image.fromarray(np.tile(photo, (4, 4, 1))).save(source)
    place = tmp_path / "photo_x4.png"
    command = [*EMT, "upscale", str(source), "--model", "emt-lite", "-q", "-y"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    for share in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
        place.unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(seconds * share)
        process.send_signal(signal.SIGKILL)
        process.wait()

        if place.exists():
            with Image.open(place) as large:
                large.load()
                assert large.size == (1920, 1536)
    assert upscale(source, "-y").exit_code == 0


def test_scale_1_cleans_at_the_same_size_with_the_photo_model(tmp_path: Path, photo: np.ndarray) -> None:
    clean = np.ascontiguousarray(photo[:72, :80])
    Image.fromarray(clean).save(tmp_path / "damaged.jpg", quality=30)

    result = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "damaged.jpg"), "--scale", "1", "-f", "png", "--json"]
    )

    facts = json.loads(result.stdout)
    assert (facts["out_width"], facts["out_height"]) == (facts["width"], facts["height"]) == (80, 72)
    assert (facts["model"], facts["resized"]) == ("emt-lite-photo", True)
    damaged, cleaned = (np.asarray(Image.open(path)) for path in (tmp_path / "damaged.jpg", facts["output"]))
    assert Path(facts["output"]).name == "damaged_x1.png"
    assert psnr(cleaned, clean) > psnr(damaged, clean) + 0.3


def test_a_plan_is_shown_though_the_result_exists_and_says_so(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo[:8, :8]).save(tmp_path / "a.png")
    (tmp_path / "a_x4.png").write_bytes(b"mine")

    plain = upscale(tmp_path / "a.png", "--dry-run")
    program = upscale(tmp_path / "a.png", "--dry-run", "--json")

    assert (plain.exit_code, program.exit_code) == (0, 0)
    assert "a_x4.png: exists already; -y would replace it" in plain.stderr
    assert json.loads(program.stdout)["exists"] is True
    assert (tmp_path / "a_x4.png").read_bytes() == b"mine"


def test_auto_takes_the_photo_model_for_jpeg_of_low_quality_and_emt_art_for_drawings_and_says_so(
    tmp_path: Path, photo: np.ndarray
) -> None:
    for quality in (60, 95):
        Image.fromarray(photo).save(tmp_path / f"{quality}.jpg", quality=quality)
    Image.fromarray(photo).save(tmp_path / "clean.png")
    page = Image.new("RGB", (120, 60), "white")
    ImageDraw.Draw(page).text((8, 8), "Drawn by a program", "black")
    page.save(tmp_path / "page.png")
    page.resize((240, 120), Image.Resampling.NEAREST).save(tmp_path / "page.jpg", quality=50)
    files = [str(tmp_path / name) for name in ("60.jpg", "95.jpg", "clean.png", "page.png", "page.jpg")]

    result = CliRunner().invoke(app, ["upscale", *files, "-o", str(tmp_path / "out"), "--json"])
    said, told = (CliRunner().invoke(app, ["upscale", files[i], "--dry-run"]).stderr for i in (0, 4))
    chosen = upscale(files[0], "--json")

    models = {
        Path(facts["input"]).name: facts["model"] for facts in map(json.loads, result.stdout.splitlines())
    }
    assert models == {
        "60.jpg": "emt-photo", "95.jpg": "emt-lite", "clean.png": "emt-lite", "page.png": "emt-art",
        "page.jpg": "emt-art",
    }  # fmt: skip
    assert "emt-photo, as it was saved coarsely; --model emt-lite" in said
    assert "emt-art, as it seems to be drawn; --model emt-lite" in told
    assert json.loads(chosen.stdout)["model"] == "emt-lite"

"""`emt benchmark` on small pictures and, where they are, on the standard sets."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner, Result

from emt_cli.cli import app
from emt_cli.engine.torch.network import weights_of
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import save_weights
from emt_cli.evaluation import methods, quality
from emt_cli.evaluation.methods import Method, Settings
from emt_cli.evaluation.published import PUBLISHED, SETS
from emt_cli.media.resize import bicubic_downscale, resize_bytes
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT


def benchmark(*arguments: str | Path) -> Result:
    """Run `emt benchmark` in this process."""
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def record(*arguments: str | Path) -> dict[str, Any]:
    """Run it with --json and read what it prints."""
    result = benchmark(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def error_line(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code not in (0, 1), result.output
    assert result.stderr.startswith("emt: error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMT_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """A set of two pictures, one with sides that are no multiple of the scale."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(photo[:65, :90]).save(folder / "cat.png")
    Image.fromarray(photo[30:, 40:]).save(folder / "eye.png")
    return folder


@pytest.fixture
def tiny(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    """A model file of scale 2."""
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), {"name": "tiny"})
    return path


def scored_by_skimage(a: np.ndarray, b: np.ndarray, border: int) -> tuple[float, float]:
    y_a, y_b = (rgb2ycbcr(picture)[border:-border, border:-border, 0] for picture in (a, b))
    similar = structural_similarity(
        y_a, y_b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return peak_signal_noise_ratio(y_b, y_a, data_range=255), similar


def test_network_is_scored_as_skimage_would(photos: Path, tiny: Path, tiny_network: EMT) -> None:
    scores = record("--set", photos, "--model", tiny)["pictures"]

    hr = np.array(Image.open(photos / "cat.png"))[:64, :90]
    sr = Upscaler(weights_of(tiny_network), exact=True).upscale(bicubic_downscale(hr, 2))
    cat = next(score for score in scores if score["picture"] == "cat")
    assert (cat["psnr"], cat["ssim"]) == pytest.approx(scored_by_skimage(sr, hr, 2), abs=1e-6)
    assert cat["psnr_rgb"] == pytest.approx(peak_signal_noise_ratio(hr[2:-2, 2:-2], sr[2:-2, 2:-2]), abs=1e-6)


def test_answers_of_another_engine_are_not_taken_over(
    tiny: Path, tiny_network: EMT, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Method(str(tiny), 2, Settings(device="cpu")).identity
    monkeypatch.setattr(methods, "Upscaler", lambda weights, **how: Upscaler(weights, engine="torch"))

    torch_answers = Method(str(tiny), 2, Settings(device="cpu")).identity

    assert "torch" in torch_answers.split()
    assert (chosen == torch_answers) == (Upscaler(weights_of(tiny_network)).runner.name == "torch")


def test_answers_of_other_kernels_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "engine" / "native" / "tail.py"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("old")
    monkeypatch.setattr(methods, "__file__", str(tmp_path / "evaluation" / "methods.py"))
    before = methods._code()

    kernel.write_text("new")

    assert methods._code() != before


def test_means_are_those_of_the_pictures(photos: Path) -> None:
    made = record("--set", photos, "--scale", "3", "--model", "bicubic")

    (mean,) = made["means"]
    assert mean["pictures"] == 2
    assert mean["psnr"] == pytest.approx(np.mean([score["psnr"] for score in made["pictures"]]))
    assert mean["published"] is None


def test_models_and_scales_stand_side_by_side(photos: Path) -> None:
    made = record("--set", photos, "--scale", "2,3,4", "--model", "bicubic", "--model", "lanczos")

    assert [(mean["scale"], mean["method"]) for mean in made["means"]] == [
        (scale, method) for scale in (2, 3, 4) for method in ("bicubic", "lanczos")
    ]
    assert len({mean["psnr"] for mean in made["means"]}) == 6


def test_table_shows_published_figures_and_the_difference(shared: Path) -> None:
    result = benchmark("--set", "Set5", "--data-dir", shared / "data", "--model", "bicubic")

    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[1] == [
        "Set5",
        "x4",
        "bicubic",
        "28.429",
        "0.8111",
        "28.42",
        "/",
        "0.8104",
        "+0.01",
        "/",
        "+0.0007",
    ]
    assert ["EMT", "32.64", "/", "0.9003", "-4.21", "/", "-0.0892"] in rows


def test_csv_has_every_picture_and_the_mean(photos: Path, tmp_path: Path) -> None:
    benchmark("--set", photos, "--model", "bicubic", "--csv", tmp_path / "scores.csv")

    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [row["picture"] for row in rows] == ["cat", "eye", "mean"]
    assert float(rows[2]["psnr"]) == pytest.approx((float(rows[0]["psnr"]) + float(rows[1]["psnr"])) / 2)


def test_given_lr_pictures_are_used(photos: Path, tmp_path: Path) -> None:
    lr = tmp_path / "lr"
    lr.mkdir()
    for path in photos.iterdir():
        small = bicubic_downscale(np.array(Image.open(path)), 4)
        Image.fromarray(small // 2).save(lr / f"{path.stem}x4.png")

    given = record("--set", photos, "--model", "bicubic", "--lr-data", lr)["means"][0]["psnr"]
    made = record("--set", photos, "--model", "bicubic")["means"][0]["psnr"]

    assert given < made - 5


def test_gray_picture_scores_as_three_equal_channels(photos: Path) -> None:
    gray = np.array(Image.open(photos / "cat.png").convert("L"))
    Image.fromarray(gray).save(photos / "cat.png")

    scores = record("--set", photos, "--model", "bicubic")["pictures"]

    hr = np.repeat(gray[:64, :88, None], 3, 2)
    sr = resize_bytes(bicubic_downscale(hr, 4), 64, 88)
    assert scores[0]["psnr"] == pytest.approx(scored_by_skimage(sr, hr, 4)[0])


def test_deep_picture_scores_nearly_as_its_bytes(photos: Path, photo: np.ndarray) -> None:
    import cv2

    expected = record("--set", photos, "--model", "bicubic")["pictures"][0]["psnr"]
    cv2.imwrite(str(photos / "cat.png"), photo[:65, :90, ::-1].astype(np.uint16) * 257)

    assert record("--set", photos, "--model", "bicubic")["pictures"][0]["psnr"] == expected


def test_perfect_answer_has_no_number_in_json(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "flat" / "a.png")

    made = record("--set", tmp_path / "flat", "--model", "bicubic")

    assert made["means"][0]["psnr"] is None
    assert made["means"][0]["ssim"] == pytest.approx(1)
    assert "inf" in benchmark("--set", tmp_path / "flat", "--model", "bicubic").stdout


def test_second_run_takes_answers_from_the_first(
    photos: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = record("--set", photos, "--model", tiny)
    monkeypatch.setattr(Upscaler, "steps", None)

    second = record("--set", photos, "--model", tiny)

    assert [score["seconds"] for score in second["pictures"]] == [None, None]
    assert second["means"] == first["means"]


def test_answers_of_other_settings_or_pictures_are_not_taken(photos: Path, tiny: Path, cache: Path) -> None:
    record("--set", photos, "--model", tiny)
    record("--set", photos, "--model", tiny, "--tta")
    Image.open(photos / "cat.png").rotate(180).save(photos / "cat.png")
    again = record("--set", photos, "--model", tiny)

    assert len(list((cache / "benchmark").iterdir())) == 5
    assert [score["seconds"] is None for score in again["pictures"]] == [False, True]


def test_fresh_run_computes_again(photos: Path, tiny: Path) -> None:
    record("--set", photos, "--model", tiny)

    again = record("--set", photos, "--model", tiny, "--fresh")

    assert all(score["seconds"] is not None for score in again["pictures"])


def test_damaged_answer_is_computed_again(photos: Path, tiny: Path, cache: Path) -> None:
    first = record("--set", photos, "--model", tiny)
    for path in (cache / "benchmark").iterdir():
        path.write_bytes(path.read_bytes()[:100])

    assert record("--set", photos, "--model", tiny)["means"] == first["means"]


@pytest.mark.slow
def test_killed_run_goes_on_where_it_was(tmp_path: Path, photo: np.ndarray, cache: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(8):
        Image.fromarray(np.roll(photo, index, 1).repeat(2, 0).repeat(2, 1)).save(folder / f"{index:02}.png")
    command = [sys.executable, "-m", "emt_cli", "benchmark", "--set", str(folder), "--model", "emt-lite"]
    killed = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    while len(list((cache / "benchmark").glob("[0-9a-f]*.png"))) < 3:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    scores = record("--set", folder, "--model", "emt-lite")["pictures"]

    kept = sum(score["seconds"] is None for score in scores)
    assert 3 <= kept < 8
    assert len(scores) == 8


def test_old_answers_are_forgotten(photos: Path, tiny: Path, cache: Path) -> None:
    record("--set", photos, "--model", tiny)
    old = time.time() - (quality.KEEP_DAYS + 1) * 86400
    for path in (cache / "benchmark").iterdir():
        os.utime(path, (old, old))

    quality.forget_old_answers()

    assert list((cache / "benchmark").iterdir()) == []


def test_unknown_set_suggests_a_known_one() -> None:
    assert "did you mean Urban100?" in error_line(benchmark("--set", "Urban10", "--model", "bicubic"))


def test_lr_of_another_size_names_both(photos: Path) -> None:
    line = error_line(benchmark("--set", photos, "--model", "bicubic", "--lr-data", photos))

    assert "cat.png: 90x65, but cat.png is 90x65: x4 needs 22x16" in line


def test_missing_lr_is_told(photos: Path, tmp_path: Path) -> None:
    line = error_line(benchmark("--set", photos, "--model", "bicubic", "--lr-data", tmp_path))

    assert "no LR picture for cat" in line


def test_tiny_picture_is_too_small(photos: Path) -> None:
    Image.new("RGB", (18, 40)).save(photos / "speck.png")

    line = error_line(benchmark("--set", photos, "--model", "bicubic"))

    assert "speck.png: 18x40 is too small" in line
    assert "leave it out of the set" in line


def test_broken_picture_is_named(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    assert "bad.png" in error_line(benchmark("--set", photos, "--model", "bicubic"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--model", "bicubic"), "no set"),
        (("--set", "Set5", "--model", "bicubic", "--scale", "8"), "2, 3 and 4"),
        (("--set", "Set5", "--model", "bicubic", "--scale", "four"), "not a scale"),
        (("--set", "Set5", "--model", "emt-light"), "did you mean emt-lite"),
        (("--set", "Set5", "--model", "bicubic", "--data-dir", "nowhere"), "no such folder"),
        (("--set", "Set5", "--model", "bicubic", "--json", "--csv", "-"), "not both"),
        (("--set", "Set5,Set14", "--model", "bicubic", "--lr-data", "x"), "one set and one scale"),
    ],
)
def test_impossible_options_are_refused_in_a_line(arguments: tuple[str, ...], what: str) -> None:
    assert what in error_line(benchmark(*arguments))


def test_set_given_twice_is_refused(photos: Path) -> None:
    assert "twice" in error_line(benchmark("--set", photos, "--set", photos, "--model", "bicubic"))


def test_file_of_another_scale_is_refused(photos: Path, tiny: Path) -> None:
    assert "has x2 only" in error_line(benchmark("--set", photos, "--model", tiny, "--scale", "4"))


def test_scale_of_a_model_file_is_the_default(photos: Path, tiny: Path) -> None:
    assert record("--set", photos, "--model", tiny, "--model", "bicubic")["means"][1]["scale"] == 2


def test_published_figures_are_possible_and_grow_over_the_years() -> None:
    for paper in PUBLISHED:
        for scale, row in paper.scores.items():
            assert len(row) == len(SETS)
            for figures in filter(None, row):
                assert 20 < figures[0] < 40
                assert 0.6 < figures[1] < 1
                assert scale in (2, 3, 4)
    emt, bicubic = PUBLISHED[-1], PUBLISHED[0]
    assert all(emt.score(name, 4)[0] > bicubic.score(name, 4)[0] + 1.5 for name in SETS)  # type: ignore[index]


@pytest.fixture
def earlier(photos: Path, tmp_path: Path) -> Path:
    """A record of lanczos and bicubic on the photos."""
    path = tmp_path / "run.json"
    made = record("--set", photos, "--model", "lanczos", "--model", "bicubic")
    path.write_text(json.dumps(made))
    return path


def with_scores(path: Path, psnr: float = 0, ssim: float = 0) -> Path:
    """The record with the first method's means raised."""
    made = json.loads(path.read_text())
    made["means"][0]["psnr"] += psnr
    made["means"][0]["ssim"] += ssim
    path.write_text(json.dumps(made))
    return path


def test_same_scores_are_no_regression(photos: Path, earlier: Path) -> None:
    result = benchmark("--set", photos, "--model", "lanczos", "--model", "bicubic", "--against", earlier)

    assert result.exit_code == 0
    assert "not worse than" in result.stderr


@pytest.mark.parametrize(
    ("psnr", "ssim", "tolerance", "code"),
    [(0.02, 0, 0.01, 9), (0.02, 0, 0.03, 0), (0, 0.001, 1, 9), (0, 0.0004, 1, 0), (-5, -0.1, 0, 0)],
)
def test_worse_mean_beyond_the_tolerance_ends_with_9(
    photos: Path, earlier: Path, psnr: float, ssim: float, tolerance: float, code: int
) -> None:
    with_scores(earlier, psnr, ssim)
    models = ("--model", "lanczos", "--model", "bicubic")

    result = benchmark("--set", photos, *models, "--against", earlier, "--tolerance", str(tolerance))

    assert result.exit_code == code
    assert ("lanczos" in result.stderr) == (code == 9)


def test_method_that_is_missing_now_is_a_regression(photos: Path, earlier: Path) -> None:
    result = benchmark("--set", photos, "--model", "lanczos", "--against", earlier)

    assert result.exit_code == 9
    assert "bicubic: not measured now" in result.stderr


def test_renamed_model_is_compared_with_the_only_other_one(photos: Path, earlier: Path) -> None:
    made = json.loads(earlier.read_text())
    made["means"] = made["means"][:1]
    made["means"][0]["method"] = "checkpoint-1"
    earlier.write_text(json.dumps(made))

    assert benchmark("--set", photos, "--model", "lanczos", "--against", earlier).exit_code == 0
    assert benchmark("--set", photos, "--model", "bicubic", "--against", earlier).exit_code == 9


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "means": [{"set": 3}]}'])
def test_file_that_is_no_record_is_refused(photos: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)

    line = error_line(benchmark("--set", photos, "--model", "bicubic", "--against", tmp_path / "bad.json"))

    assert "not a record" in line
    assert "--json > FILE" in line


def test_record_of_other_sets_is_refused(photos: Path, earlier: Path) -> None:
    arguments = ("--set", photos, "--model", "bicubic", "--scale", "2", "--against", earlier)

    assert "in common" in error_line(benchmark(*arguments))


def test_saved_answers_are_those_that_were_scored(photos: Path, tmp_path: Path, tiny: Path) -> None:
    cat = record("--set", photos, "--model", tiny, "--save", tmp_path / "kept")["pictures"][0]

    (path,) = (tmp_path / "kept").rglob("cat.png")
    hr = np.array(Image.open(photos / "cat.png"))[:64, :90]
    assert path.parts[-4:-2] == ("photos", "x2")
    assert cat["psnr"] == pytest.approx(scored_by_skimage(np.array(Image.open(path)), hr, 2)[0])


RELEASED = {
    (2, "Set5"): (38.291, 0.9615),
    (2, "Set14"): (34.186, 0.9230),
    (3, "Set5"): (34.793, 0.9303),
    (3, "Set14"): (30.695, 0.8490),
    (4, "Set5"): (32.639, 0.9003),
    (4, "Set14"): (28.968, 0.7901),
}


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "name"), RELEASED)
def test_released_network_scores_as_published(shared: Path, cache: Path, scale: int, name: str) -> None:
    model = shared / "weights" / f"EMT_LSR_x{scale}.pth"

    (mean,) = record("--set", name, "--data-dir", shared / "data", "--scale", str(scale), "--model", model)[
        "means"
    ]

    assert mean["psnr"] == pytest.approx(RELEASED[scale, name][0], abs=0.002)
    assert mean["ssim"] == pytest.approx(RELEASED[scale, name][1], abs=0.0001)
    assert abs(mean["difference"]["psnr"]) < 0.01

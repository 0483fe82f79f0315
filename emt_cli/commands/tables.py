"""What `emt benchmark` prints: scores beside published figures, and speeds."""

from __future__ import annotations

from typing import Any

from emt_cli.commands import ui


def show_scores(record: dict[str, Any], *, rgb: bool, each: bool) -> None:
    """Print means beside published figures, and the pictures, worst first, on request."""
    more = ["PSNR RGB", "SSIM RGB"] if rgb else []
    if each:
        columns = ["set", "scale", "picture", "model", "PSNR", "SSIM", *more]
        rows = [
            [row["set"], f"x{row['scale']}", row["picture"], row["method"], *_figures(row, rgb=rgb)]
            for row in sorted(
                record["pictures"], key=lambda row: (row["set"], row["scale"], row["psnr"] or 1e9)
            )
        ]
        ui.show_table(columns, rows)
        ui.show("")
    columns = ["set", "scale", "model", "PSNR", "SSIM", *more, "published", "difference"]
    rows = []
    for mean in record["means"]:
        paper = mean["published"]
        rows.append(
            [mean["set"], f"x{mean['scale']}", mean["method"], *_figures(mean, rgb=rgb)]
            + ([_pair(paper), _signed(mean["difference"])] if paper else ["", ""])
        )
        following = record["means"][record["means"].index(mean) + 1 :]
        if not following or (following[0]["set"], following[0]["scale"]) != (mean["set"], mean["scale"]):
            rows += [
                [
                    "",
                    "",
                    paper["method"],
                    "",
                    "",
                    *("" for _ in more),
                    _pair(paper),
                    _signed(paper["difference"]),
                ]
                for paper in record["published"]
                if (paper["set"], paper["scale"]) == (mean["set"], mean["scale"])
            ]
    ui.show_table(columns, rows)
    if record["published"]:
        ui.say("difference: measured less published; for methods not run here, of the first model")


def _figures(row: dict[str, Any], *, rgb: bool) -> list[str]:
    psnr, ssim, psnr_rgb, ssim_rgb = (row[name] for name in ("psnr", "ssim", "psnr_rgb", "ssim_rgb"))
    more = [_decibels(psnr_rgb), f"{ssim_rgb:.4f}"] if rgb else []
    return [_decibels(psnr), f"{ssim:.4f}", *more]


def _decibels(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"


def _pair(score: dict[str, float]) -> str:
    return f"{score['psnr']:.2f} / {score['ssim']:.4f}"


def _signed(difference: dict[str, float]) -> str:
    psnr, ssim = (round(difference[name], digits) + 0.0 for name, digits in (("psnr", 2), ("ssim", 4)))
    return f"{psnr:+.2f} / {ssim:+.4f}"  # never -0.00


def show_speeds(record: dict[str, Any]) -> None:
    """Print one line a case, then what networks and machine are."""
    columns = ["model", "scale", "engine", "precision", "tile", "input", "ms", "spread", "kpx/s", "memory"]
    rows = [
        [
            speed["model"],
            f"x{speed['scale']}",
            speed["engine"],
            speed["precision"],
            _tile_text(speed),
            f"{speed['width']}x{speed['height']}",
            f"{1000 * speed['seconds']:.1f}",
            f"{100 * speed['spread']:.0f} %",
            f"{speed['pixels_per_second'] / 1000:.1f}",
            ui.bytes_text(speed["peak_bytes"]),
            f"{100 * speed['matrix_product_share']:.0f} %",
        ]
        for speed in record["speeds"]
    ]
    ui.show_table([*columns, "of matrix product"], rows)
    ui.show("")
    for network in record["networks"]:
        paper = network["paper_multiply_adds_720p"]
        counted = network["multiply_adds_720p"]
        published = f"; the paper says about {paper / 1e9:.0f} G" if paper else ""
        ui.show(
            f"{network['model']} x{network['scale']}: {network['parameters']:,} parameters,"
            f" {counted / 1e9:.1f} G multiply-adds for 1280x720{published}"
        )
    machine = record["machine"]
    rates = machine["matrix_product_multiply_adds_per_second"].items()
    products = ", ".join(f"{rate / 1e9:.0f} G multiply-adds/s in {kind}" for kind, rate in rates)
    ui.show(f"{machine['processor']}, {machine['threads']} threads, {machine['device']}: {products}")


def _tile_text(speed: dict[str, Any]) -> str:
    kind = {None: "auto", 0: "off"}.get(speed["tile"], str(speed["tile"]))
    return f"{kind} ({speed['tiles']})" if speed["tiles"] > 1 else kind

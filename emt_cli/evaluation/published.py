"""Figures from papers: mean PSNR in dB and SSIM on luma, by set and scale."""

from __future__ import annotations

from dataclasses import dataclass

SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")

Figures = tuple[float, float] | None


@dataclass(frozen=True)
class Published:
    """What one paper reports."""

    name: str
    source: str
    scores: dict[int, tuple[Figures, ...]]
    """For each scale, (PSNR, SSIM) in the order of SETS; None where the paper has no figure."""

    def score(self, name: str, scale: int) -> Figures:
        """Return PSNR and SSIM on a set, or None."""
        row = self.scores.get(scale)
        return row[SETS.index(name)] if row and name in SETS else None


PUBLISHED = (
    Published(
        "bicubic",
        "Zhang et al. 2018 (RCAN), arXiv 1807.02758, table 2",
        {
            2: ((33.66, 0.9299), (30.24, 0.8688), (29.56, 0.8431), (26.88, 0.8403), (30.80, 0.9339)),
            3: ((30.39, 0.8682), (27.55, 0.7742), (27.21, 0.7385), (24.46, 0.7349), (26.95, 0.8556)),
            4: ((28.42, 0.8104), (26.00, 0.7027), (25.96, 0.6675), (23.14, 0.6577), (24.89, 0.7866)),
        },
    ),
    Published(
        "VDSR",
        "Kim et al. 2016, arXiv 1511.04587, table 3",
        {
            2: ((37.53, 0.9587), (33.03, 0.9124), (31.90, 0.8960), (30.76, 0.9140), None),
            3: ((33.66, 0.9213), (29.77, 0.8314), (28.82, 0.7976), (27.14, 0.8279), None),
            4: ((31.35, 0.8838), (28.01, 0.7674), (27.29, 0.7251), (25.18, 0.7524), None),
        },
    ),
    Published(
        "CARN",
        "Ahn et al. 2018, arXiv 1803.08664; Manga109 as in Liang et al. 2021",
        {
            2: ((37.76, 0.9590), (33.52, 0.9166), (32.09, 0.8978), (31.92, 0.9256), (38.36, 0.9765)),
            3: ((34.29, 0.9255), (30.29, 0.8407), (29.06, 0.8034), (28.06, 0.8493), (33.50, 0.9440)),
            4: ((32.13, 0.8937), (28.60, 0.7806), (27.58, 0.7349), (26.07, 0.7837), (30.47, 0.9084)),
        },
    ),
    Published(
        "IMDN",
        "Hui et al. 2019, arXiv 1909.11856",
        {
            2: ((38.00, 0.9605), (33.63, 0.9177), (32.19, 0.8996), (32.17, 0.9283), (38.88, 0.9774)),
            3: ((34.36, 0.9270), (30.32, 0.8417), (29.09, 0.8046), (28.17, 0.8519), (33.61, 0.9445)),
            4: ((32.21, 0.8948), (28.58, 0.7811), (27.56, 0.7353), (26.04, 0.7838), (30.45, 0.9075)),
        },
    ),
    Published(
        "SwinIR-light",
        "Liang et al. 2021, arXiv 2108.10257, table 3",
        {
            2: ((38.14, 0.9611), (33.86, 0.9206), (32.31, 0.9012), (32.76, 0.9340), (39.12, 0.9783)),
            3: ((34.62, 0.9289), (30.54, 0.8463), (29.20, 0.8082), (28.66, 0.8624), (33.98, 0.9478)),
            4: ((32.44, 0.8976), (28.77, 0.7858), (27.69, 0.7406), (26.47, 0.7980), (30.92, 0.9151)),
        },
    ),
    Published(
        "ELAN-light",
        "Zhang et al. 2022, arXiv 2203.06697",
        {
            2: ((38.17, 0.9611), (33.94, 0.9207), (32.30, 0.9012), (32.76, 0.9340), (39.11, 0.9782)),
            3: ((34.61, 0.9288), (30.55, 0.8463), (29.21, 0.8081), (28.69, 0.8624), (34.00, 0.9478)),
            4: ((32.43, 0.8975), (28.78, 0.7858), (27.69, 0.7406), (26.54, 0.7982), (30.92, 0.9150)),
        },
    ),
    Published(
        "EMT",
        "Zheng et al. 2023, arXiv 2305.11403, table 1",
        {
            2: ((38.29, 0.9615), (34.19, 0.9230), None, None, None),
            3: ((34.79, 0.9303), (30.69, 0.8490), None, None, None),
            4: ((32.64, 0.9003), (28.97, 0.7901), (27.81, 0.7441), (26.98, 0.8118), (31.48, 0.9190)),
        },
    ),
)
OWN = {"bicubic": "bicubic", "emt": "EMT"}
"""Methods this project runs, and the published figures that they should reach."""


def own_figures(method: str, name: str, scale: int) -> Figures:
    """Return what a paper reports for a method this project runs, or None."""
    wanted = OWN.get(method)
    found = (paper.score(name, scale) for paper in PUBLISHED if paper.name == wanted)
    return next(found, None)


def others(methods: set[str], name: str, scale: int) -> list[tuple[Published, tuple[float, float]]]:
    """Return the papers whose method was not run, with their figures on a set."""
    ran = {OWN.get(method) for method in methods}
    scores = ((paper, paper.score(name, scale)) for paper in PUBLISHED if paper.name not in ran)
    return [(paper, score) for paper, score in scores if score is not None]

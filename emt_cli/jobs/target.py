"""The size that is asked for: a scale, or one side."""

from __future__ import annotations

from dataclasses import dataclass

from emt_cli.errors import UsageError


@dataclass(frozen=True)
class Target:
    """The size wanted: a scale, or one side; the other side follows."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    long_side: int | None = None
    chosen: bool = True
    """Whether a person asked for it; a network of others else enlarges by its own scale."""

    def __post_init__(self) -> None:
        sides = (self.scale, self.width, self.height, self.long_side)
        given = [value for value in sides if value is not None]
        if len(given) != 1:
            raise UsageError("give one of --scale, --width, --height and --long-side; the shape is kept")
        if not 0 < given[0] <= 1 << 20:
            raise UsageError(f"{given[0]:g} is no size; give a scale such as 2.7, or a side in pixels")

    @classmethod
    def asked(
        cls, scale: float | None, width: int | None, height: int | None, long_side: int | None
    ) -> Target:
        """Return the size that options ask for: four times where there are none."""
        nothing = scale is width is height is long_side is None
        return cls(4.0 if nothing else scale, width, height, long_side, chosen=not nothing)

    def suited(self, own: int | None) -> Target:
        """Return what is wanted of a network whose own scale counts where nobody asked; None: any EMT."""
        return self if self.chosen else Target(self.scale if own is None else float(own))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture of this size, in whole pixels."""
        if self.width:
            factor = self.width / width
        elif self.height:
            factor = self.height / height
        elif self.long_side:
            factor = self.long_side / max(height, width)
        else:
            factor = self.scale or 1.0
        return max(1, round(height * factor)), max(1, round(width * factor))

    def suffix(self, out_height: int, out_width: int) -> str:
        """Return what a result's name has more than its source's: _x4, or the size of the result."""
        return f"_x{self.scale:g}" if self.scale else f"_{out_width}x{out_height}"

"""Render drawings and text as training pictures: python samples/line_art.py art --count 300 [--held-out].

On Debian: apt install --no-install-recommends openclipart-svg librsvg2-bin fontconfig fonts-dejavu
fonts-liberation2 fonts-lato fonts-roboto-unhinted fonts-open-sans fonts-linuxlibertine fonts-freefont-ttf
fonts-inconsolata fonts-hack fonts-comic-neue fonts-sil-gentium fonts-cantarell fonts-ebgaramond
fonts-wqy-zenhei fonts-crosextra-carlito fonts-dancingscript

The drawings are in the public domain (Open Clip Art Library), the words are those of Debian's licence texts.
Every tenth drawing and font is kept for --held-out. Pictures are 512 to 1024 pixels a side; reduced by
`emt train` they make pairs without a flaw. With --plain they are fields of all colours instead, flat or
shaded: networks trained on photographs alone let such colours drift.
"""

import argparse
import io
import random
import re
import subprocess
import zlib
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DRAWINGS = Path("/usr/share/openclipart/svg")
WORDS = Path("/usr/share/common-licenses")
TONES = (
    "#ffffff",
    "#000000",
    "#f5f1e6",
    "#1e1e2e",
    "#e8e8e8",
    "#0b3d91",
    "#b00020",
    "#2e7d32",
    "#ffd54f",
    "#37474f",
)
CJK, CYRILLIC = (0x4E00, 0x5E00), (0x410, 0x450)
"""Characters that fonts for Chinese and for Russian surely have."""
LINES = 18
"""Most lines of a page of text."""


class Studio:
    """Drawings and fonts, and the random numbers that arrange them."""

    def __init__(self, seed: int, *, held_out: bool) -> None:
        self.random = random.Random(seed)
        self.drawings = [path for path in sorted(DRAWINGS.rglob("*.svg")) if _held_out(path) == held_out]
        everything, chinese, russian = (_fonts(language) for language in ("", ":lang=zh-cn", ":lang=ru"))
        self.fonts = [path for path in everything if _held_out(path) == held_out and path not in chinese]
        self.scripts = {path: CYRILLIC for path in self.fonts if path in russian}
        if not held_out:
            self.scripts |= dict.fromkeys(chinese, CJK)
        self.words = sorted(
            {w for path in WORDS.iterdir() for w in re.findall(r"[\w'.,;()-]+", path.read_text())}
        )
        if not self.drawings or not self.fonts:
            raise SystemExit(f"no drawings below {DRAWINGS}, or no fonts: install the packages named above")

    def picture(self) -> Image.Image:
        """Make one picture of any kind."""
        size = self._size()
        kinds = (self.drawing, self.icons, self.page, self.page, self.chart)
        return self.random.choice(kinds)(size)

    def _size(self) -> tuple[int, int]:
        return self.random.randrange(512, 1025, 8), self.random.randrange(512, 1025, 8)

    def text(self) -> Image.Image:
        """Make one page of text."""
        return self.page(self._size())

    def fields(self) -> Image.Image:
        """Rectangles of any colours, flat or shaded."""
        canvas = Image.new("RGB", (768, 768))
        for left in range(0, 768, 256):
            for top in range(0, 768, 256):
                field = Image.new("RGB", (256, 256), self._any_colour())
                if self.random.random() < 0.4:
                    shade = Image.linear_gradient("L").rotate(90 * self.random.randrange(4))
                    field.paste(self._any_colour(), (0, 0), shade)
                canvas.paste(field, (left, top))
        return canvas

    def _any_colour(self) -> tuple[int, ...]:
        """Draw a colour; half of them saturated, a fifth gray."""
        kind = self.random.random()
        if kind < 0.2:
            return (self.random.randrange(256),) * 3
        levels = [
            self.random.choice((0, 255)) if kind < 0.7 else self.random.randrange(256) for _ in range(3)
        ]
        levels[self.random.randrange(3)] = self.random.randrange(256)
        return tuple(levels)

    def drawing(self, size: tuple[int, int]) -> Image.Image:
        """One drawing, as large as it fits."""
        while True:
            drawing = self._rendered(size)
            canvas = Image.new(
                "RGB", size, self.random.choice(TONES) if self.random.random() < 0.4 else "white"
            )
            if drawing is not None:
                canvas.paste(drawing, (0, 0), drawing)
                if self._is_full(canvas):
                    return canvas

    def icons(self, size: tuple[int, int]) -> Image.Image:
        """Small drawings in rows."""
        canvas = Image.new("RGB", size, self.random.choice(TONES) if self.random.random() < 0.4 else "white")
        side = self.random.choice((96, 128, 192, 256))
        for top in range(0, size[1] - side, side + 16):
            for left in range(0, size[0] - side, side + 16):
                drawing = self._rendered((side, side))
                if drawing is not None:
                    canvas.paste(drawing, (left, top), drawing)
        return canvas

    def page(self, size: tuple[int, int]) -> Image.Image:
        """Lines of text in a few sizes, fonts and colours."""
        ink, paper = self._colours()
        canvas = Image.new("RGB", size, paper)
        draw = ImageDraw.Draw(canvas)
        draw.fontmode = "1" if self.random.random() < 0.15 else "L"  # some programs do not smooth
        left, top = self.random.randrange(8, 40), self.random.randrange(4, 40)
        font = self._font()
        for _ in range(LINES):
            if self.random.random() < 0.3:
                font = self._font()
            if self.random.random() < 0.2:
                ink = self._colours(paper)[0]
            draw.text((left, top), self._line(font), ink, font)
            top += round(font.size * self.random.uniform(1.15, 1.6))
            if self.random.random() < 0.15:
                draw.line((left, top, size[0] - left, top), ink, self.random.choice((1, 2, 4, 8)))
                top += 12
            if top > size[1] - 10:
                break
        return canvas

    def chart(self, size: tuple[int, int]) -> Image.Image:
        """Axes, bars, curves and labels."""
        ink, paper = self._colours()
        canvas = Image.new("RGB", size, paper)
        draw = ImageDraw.Draw(canvas)
        width = self.random.choice((1, 2, 3, 4, 6))
        font = self._font(most=40)
        box = (80, 60, size[0] - 40, size[1] - 80)
        draw.rectangle(box, outline=ink, width=width)
        for place in range(6):
            y = box[1] + (box[3] - box[1]) * place // 6
            draw.line((box[0], y, box[2], y), ink, max(1, width // 2))
            draw.text((8, y), str(self.random.randrange(1000)), ink, font)
        for place in range(self.random.randrange(4, 12)):
            x = box[0] + place * 70
            colour = self._colours(paper)[0]
            if x < box[2] - 50:
                draw.rectangle((x, self.random.randrange(box[1], box[3]), x + 40, box[3]), colour, ink, width)
        for _ in range(3):
            points = [(x, self.random.randrange(box[1], box[3])) for x in range(box[0], box[2], 60)]
            draw.line(points, self._colours(paper)[0], width + 1, joint="curve")
        draw.text((box[0], 8), self._line(font), ink, font)
        draw.text((box[0], box[3] + 16), self._line(font), ink, font)
        return canvas

    def _rendered(self, size: tuple[int, int]) -> Image.Image | None:
        """Render some drawing with its transparency; None for one that cannot be."""
        command = ["rsvg-convert", "-a", "-w", str(size[0]), "-h", str(size[1])]
        path = self.random.choice(self.drawings)
        try:
            done = subprocess.run([*command, str(path)], capture_output=True, timeout=20, check=True)
            return Image.open(io.BytesIO(done.stdout)).convert("RGBA")
        except (subprocess.SubprocessError, OSError):
            return None

    def _is_full(self, canvas: Image.Image) -> bool:
        colours = canvas.resize((64, 64)).getcolors(64 * 64)
        return colours is not None and max(count for count, _ in colours) < 0.7 * 64 * 64

    def _font(self, most: int = 120) -> ImageFont.FreeTypeFont:
        path = self.random.choice(list(dict.fromkeys([*self.fonts, *self.scripts])))
        return ImageFont.truetype(str(path), round(20 * (most / 20) ** self.random.random() ** 1.5))

    def _line(self, font: ImageFont.FreeTypeFont) -> str:
        script = self.scripts.get(Path(str(font.path)))
        if script is not None and (script is CJK or self.random.random() < 0.4):
            letters = [chr(self.random.randrange(*script)) for _ in range(30)]
            return "".join(letter if self.random.random() < 0.85 else " " for letter in letters)
        words = [
            word if self.random.random() < 0.9 else str(self.random.randrange(10**4))
            for word in self.random.choices(self.words, k=12)
        ]
        return " ".join(words)

    def _colours(self, paper: str | None = None) -> tuple[str, str]:
        """Draw ink and paper that can be told apart; mostly black on white."""
        if paper is None and self.random.random() < 0.5:
            return ("black", "white")
        paper = paper or self.random.choice(TONES)
        while True:
            ink = self.random.choice(TONES)
            if abs(_light(ink) - _light(paper)) > 60:
                return ink, paper


def _light(colour: str) -> float:
    red, green, blue = (int(Image.new("RGB", (1, 1), colour).tobytes()[i]) for i in range(3))
    return 0.3 * red + 0.59 * green + 0.11 * blue


def _held_out(path: Path) -> bool:
    return zlib.crc32(path.stem.encode()) % 10 == 0


def _fonts(language: str) -> list[Path]:
    """Return the outline fonts of a language; empty: of any."""
    listed = subprocess.run(["fc-list", language or ":", "file"], capture_output=True, text=True, check=True)
    paths = {Path(line.strip().rstrip(":")) for line in listed.stdout.splitlines()}
    symbols = re.compile("initial|keyboard|math|d050000l|symbol|standardsymbols", re.IGNORECASE)
    return sorted(
        path for path in paths if path.suffix in (".ttf", ".otf", ".ttc") and not symbols.search(path.stem)
    )


def main() -> None:
    """Write so many pictures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--held-out", action="store_true", help="use the drawings and fonts that are kept back"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--plain", action="store_true", help="fields of colour only")
    kinds.add_argument("--pages", action="store_true", help="pages of text only")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(options.seed, held_out=options.held_out)
    for number in range(options.count):
        picture = studio.fields() if options.plain else studio.text() if options.pages else studio.picture()
        picture.save(options.folder / f"art-{number:04d}.png")


if __name__ == "__main__":
    main()

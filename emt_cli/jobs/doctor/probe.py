"""One part of the machine tried out in a process of its own: `python -m emt_cli.jobs.doctor.probe PART`.

A library that is broken may raise, print, or take its process down; `emt doctor` asks from outside.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Facts = dict[str, Any]


def network() -> Facts:
    """Tell devices and threads of torch; compare the bundled network on each engine of the CPU."""
    import numpy as np
    import torch

    from emt_cli.assets.catalog import known_models
    from emt_cli.cores import cpu_threads
    from emt_cli.engine.runner import ENGINES
    from emt_cli.engine.upscaler import Upscaler
    from emt_cli.engine.weights import load_weights
    from emt_cli.errors import EmtError

    devices = [
        f"cuda:{index} {torch.cuda.get_device_name(index)},"
        f" {torch.cuda.get_device_properties(index).total_memory / 1e9:.0f} GB"
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    y, x = np.mgrid[:48, :64]
    picture = np.stack([x * 4, y * 5, np.where(x > y, 220, 30)], axis=2).astype(np.uint8)
    model = known_models()["emt-lite"].files[2]
    emt = load_weights(model)
    expected = Upscaler(emt, engine="torch").upscale(picture, dtype="float32")
    engines: dict[str, Any] = {}
    for name in ENGINES:
        try:
            answer = Upscaler(emt, engine=name).upscale(picture, dtype="float32")
            engines[name] = {"difference": round(float(np.abs(answer - expected).max()) * 255, 4)}
        except EmtError as error:
            engines[name] = {"missing": str(error)}
        except Exception as error:
            engines[name] = {"broken": _words(error)}
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": devices,
        "threads": cpu_threads(),
        "engines": engines,
    }


def pictures() -> Facts:
    """Write each format of pictures and read it back, but for those whose extra is not installed."""
    import cv2
    import numpy as np
    import PIL

    from emt_cli.media.picture.formats import SUFFIXES, missing_extra
    from emt_cli.media.picture.io import Picture, read_picture, write_picture

    y, x = np.mgrid[:16, :24]
    picture = Picture(np.stack([x * 9, y * 9, x + y], axis=2).astype(np.uint8))
    broken = {}
    for format in dict.fromkeys(SUFFIXES.values()):
        if missing_extra(format):
            continue
        stream = io.BytesIO()
        try:
            write_picture(stream, picture, format=format, quality=100)
            back = read_picture(stream.getvalue()).pixels
            if np.abs(back.astype(int) - picture.pixels).max() > 12:
                raise ValueError("comes back as another picture")
        except Exception as error:
            broken[format] = _words(error)
    return {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__, "broken": broken}


def video() -> Facts:
    """Tell the encoders that open in PyAV, and start the ffmpeg that joins streams."""
    import av
    import imageio_ffmpeg

    from emt_cli.media.video.codecs import encoders

    program = imageio_ffmpeg.get_ffmpeg_exe()
    said = subprocess.run(
        [program, "-version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return {"pyav": av.__version__, "encoders": encoders(), "ffmpeg": said.stdout.split()[2]}


PARTS: dict[str, Callable[[], Facts]] = {"network": network, "pictures": pictures, "video": video}


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:300]


if __name__ == "__main__":
    answer = json.dumps(PARTS[sys.argv[1]]())
    print(answer)

"""Files of networks of others: all forms are read, nothing is executed, and none asks for any memory."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from emt_cli.engine.community.network import CommunityNetwork
from emt_cli.engine.models import load_model
from emt_cli.engine.upscaler import Upscaler
from emt_cli.engine.weights import Weights
from emt_cli.errors import ModelError

pytest.importorskip("community_networks", reason="needs spandrel")
Make = Callable[[str], CommunityNetwork]


@pytest.mark.parametrize("form", ["safetensors", "legacy", "wrapped", "half"])
def test_all_forms_of_a_file_are_the_same_network(
    make: Make, form: str, tmp_path: Path, photo: np.ndarray
) -> None:
    network = make("Compact")
    state = {name: value.clone() for name, value in network.descriptor.model.state_dict().items()}
    path = tmp_path / ("file.safetensors" if form == "safetensors" else "file.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "wrapped":
        torch.save({"params_ema": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save({name: value.half() for name, value in state.items()}, path)

    answer = Upscaler(load_model(path), engine="torch").upscale(photo)

    expected = Upscaler(network, engine="torch").upscale(photo)
    assert np.abs(answer.astype(int) - expected).max() <= (1 if form == "half" else 0)


def test_a_header_whose_length_begins_like_a_pickle_is_none(make: Make, tmp_path: Path) -> None:
    state, path = dict(make("Compact").descriptor.model.state_dict()), tmp_path / "file.safetensors"
    for letters in range(0, 256, 8):  # a header is filled up to whole eight bytes
        save_file(state, path, metadata={"name": "x" * letters})
        if path.read_bytes().startswith(b"\x80"):
            break
    else:
        pytest.fail("no header of such a length")

    assert load_model(path).scale == make("Compact").scale


def test_an_emt_stays_an_emt(model: str) -> None:
    assert isinstance(load_model(Path(model)), Weights)


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
    return str(caught.value)


def test_what_no_library_knows_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)

    assert "neither an EMT nor a network that spandrel knows" in refused(path)


def test_tensors_that_do_not_fit_their_network_are_refused(make: Make, tmp_path: Path) -> None:
    state = make("Compact").descriptor.model.state_dict()
    state["body.2.weight"] = torch.zeros(8, 9, 3, 3)
    torch.save(state, tmp_path / "odd.pth")

    assert "do not fit the network" in refused(tmp_path / "odd.pth")


def test_numbers_that_are_not_finite_are_refused(make: Make, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in make("Compact").descriptor.model.state_dict().items()}
    state["body.2.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")

    assert "not finite" in refused(tmp_path / "nan.pth")


def test_a_network_of_four_channels_is_refused(tmp_path: Path) -> None:
    from spandrel.architectures.Compact import Compact

    torch.save(Compact(num_in_ch=4, num_out_ch=4, num_feat=8, num_conv=2).state_dict(), tmp_path / "four.pth")

    assert "of 4 to 4 channels; RGB and gray are taken" in refused(tmp_path / "four.pth")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_asks_for_more_than_tensors_is_refused_unexecuted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool
) -> None:
    torch.save({"conv": Evil()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)

    assert "print, which no weights file needs" in refused(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_torchscript_is_a_program_and_refused(tmp_path: Path) -> None:
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 3, 3)), scripted)
    (tmp_path / "script.pth").write_bytes(scripted.getvalue())

    assert "TorchScript, a program" in refused(tmp_path / "script.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("end", [0.02, 0.5, 0.99])
def test_a_file_cut_off_is_refused(make: Make, tmp_path: Path, zipped: bool, end: float) -> None:
    path = tmp_path / "cut.pth"
    state = make("Compact").descriptor.model.state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * end)])

    assert "damaged" in refused(path)


def test_a_tensor_larger_than_its_file_is_refused(make: Make, tmp_path: Path) -> None:
    state = dict(make("Compact").descriptor.model.state_dict())
    state["body.2.weight"] = torch.zeros(1).expand(1 << 12, 1 << 12, 3, 3)
    torch.save(state, tmp_path / "view.pth")

    assert "claims more numbers than the file holds" in refused(tmp_path / "view.pth")


def test_shapes_that_ask_for_a_huge_network_are_refused_before_it_is_there(
    make: Make, tmp_path: Path
) -> None:
    state = dict(make("ESRGAN x1").descriptor.model.state_dict())
    state["model.0.weight"] = torch.zeros(60_000, 3, 3, 3)
    torch.save(state, tmp_path / "huge.pth")

    assert "ask for a network much larger" in refused(tmp_path / "huge.pth")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))

    assert "compressed archive" in refused(tmp_path / "bomb.pth")


def test_without_spandrel_the_line_that_installs_it_is_told(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"module.{k}": v for k, v in make("Compact").descriptor.model.state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)

    assert 'pip install "emt-cli[community]"' in refused(tmp_path / "net.pth")


def test_torchvision_of_another_build_of_torch_does_not_matter(make: Make) -> None:
    """PyPI's torchvision beside the CPU build of torch: it does not load by itself."""
    alone = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    if alone.returncode == 0:
        pytest.skip("here torchvision is built for this torch")
    assert b"torchvision::nms does not exist" in alone.stderr
    program = f"""
from pathlib import Path
from emt_cli.engine.community.read import read_network
path = Path({str(make("Compact").path)!r})
print(read_network(path.read_bytes(), path).architecture.name)
"""

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert told.stdout.strip() == "RealESRGAN Compact", told.stderr

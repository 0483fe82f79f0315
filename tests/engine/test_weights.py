"""Model files: what is read is what was written, and nothing else gets in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from emt_cli.engine.models import load_model, model_scales
from emt_cli.engine.torch.network import build_network
from emt_cli.engine.weights import load_weights, save_weights
from emt_cli.errors import ModelError
from emt_cli.model.config import EMTConfig
from emt_cli.model.emt import EMT

LITE = EMTConfig(4, 40, 2, 8, 1, 2, windows=((16, 8), (8, 16)), shifts=((8, 4), (4, 8)))
METADATA = {"name": "tiny", "sources": ["Größe – 画像"], "steps": 7, "scores": {"Set5": {"psnr": 30.5}}}


@pytest.fixture
def tiny_file(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), METADATA)
    return path


@pytest.fixture(scope="session")
def paper_state() -> dict[str, Tensor]:
    """A random network of the paper's dim in the released form: a global and a local layer."""
    torch.manual_seed(0)
    state = {"sub_mean.weight": torch.eye(3)[..., None, None], "head.weight": torch.randn(60, 3, 3, 3)}
    state |= {"head.bias": torch.zeros(60), "tail.0.weight": torch.randn(12, 60, 3, 3) / 50}
    state |= {"tail.0.bias": torch.zeros(12)}
    for layer in (0, 1):
        mlp = f"body.0.mlp_list.{layer}"
        state |= {f"{mlp}.fc1.weight": torch.randn(120, 60, 1, 1), f"{mlp}.fc1.bias": torch.zeros(120)}
        state |= {f"{mlp}.fc2.weight": torch.randn(60, 120, 1, 1), f"{mlp}.fc2.bias": torch.zeros(60)}
        state |= {f"{mlp}.fc1.mask": torch.ones(60, 1, 3, 3), f"{mlp}.fc2.mask": torch.ones(120, 1, 3, 3)}
    state |= norm("body.0.sa_list.0.attn.1", 120) | norm("body.0.sa_list.1.norm", 60)
    for name, width in (("attn.0", 120), ("proj.0", 60)):
        state[f"body.0.sa_list.0.{name}.weight"] = torch.randn(width, 60, 1, 1)
        state[f"body.0.sa_list.0.{name}.bias"] = torch.zeros(width)
    state["body.0.sa_list.1.token_mixer.mask"] = torch.ones(60, 1, 3, 3)
    return state


def norm(name: str, width: int) -> dict[str, Tensor]:
    ones, zeros = torch.ones(width), torch.zeros(width)
    values = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
    return {f"{name}.{key}": value for key, value in values.items()}


def checkpoint(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def with_header(path: Path, entry: object, tensors: dict[str, Tensor] | None = None) -> Path:
    """Write a .safetensors whose "emt" entry is this JSON value."""
    data = safetensors.torch.save(tensors or {"x": torch.zeros(1)}, metadata={"emt": json.dumps(entry)})
    path.write_bytes(data)
    return path


def refused(path: Path) -> str:
    """Return the one-line message that loading this file ends with."""
    with pytest.raises(ModelError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 400
    return message


# What is read is what was written


@pytest.mark.parametrize("letters", range(0, 256, 8))
def test_a_model_is_read_whatever_the_length_of_its_header(
    tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT, letters: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), {"name": "x" * letters})

    assert load_model(path).metadata == {"name": "x" * letters}


def test_saved_model_is_read_back_exactly(tiny_file: Path, tiny_config: EMTConfig, tiny_network: EMT) -> None:
    weights = load_weights(tiny_file)

    assert weights.config == tiny_config
    assert weights.metadata == METADATA
    assert weights.tensors.keys() == tiny_network.state_dict().keys()
    for name, tensor in tiny_network.state_dict().items():
        assert np.array_equal(weights.tensors[name], tensor.numpy()), name


def test_equal_models_make_equal_files(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT) -> None:
    files = [tmp_path / name for name in ("one.safetensors", "two.safetensors")]

    for file in files:
        save_weights(file, tiny_config, tiny_network.state_dict(), METADATA)

    assert files[0].read_bytes() == files[1].read_bytes()


def test_failed_save_leaves_the_old_file_and_nothing_else(
    tiny_file: Path, tiny_config: EMTConfig, tiny_network: EMT, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny_file.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_weights(tiny_file, tiny_config, tiny_network.state_dict(), {})

    assert tiny_file.read_bytes() == before
    assert list(tiny_file.parent.iterdir()) == [tiny_file]


def test_model_that_could_not_be_read_back_is_not_written(
    tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT
) -> None:
    broken = {**tiny_network.state_dict(), "head.bias": torch.full((20,), torch.nan)}

    with pytest.raises(ModelError, match=r"head\.bias"):
        save_weights(tmp_path / "broken.safetensors", tiny_config, broken, {})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_as_float32(tmp_path: Path, tiny_file: Path, kind: torch.dtype) -> None:
    data = tiny_file.read_bytes()
    tensors = {
        name: value.to(kind) if value.is_floating_point() else value
        for name, value in safetensors.torch.load(data).items()
    }
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    half = tmp_path / "half.safetensors"
    half.write_bytes(safetensors.torch.save(tensors, metadata=header))

    weights = load_weights(half)

    assert weights.tensors["head.weight"].dtype == np.float32
    assert np.array_equal(weights.tensors["head.weight"], tensors["head.weight"].float().numpy())


# Released checkpoints


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_released_file_is_known_by_its_checksum(shared: Path, tmp_path: Path, scale: int) -> None:
    renamed = tmp_path / "mine.pth"
    renamed.write_bytes((shared / f"weights/EMT_LSR_x{scale}.pth").read_bytes())

    weights = load_weights(renamed)

    assert weights.config == EMTConfig(scale)
    assert weights.metadata["name"] == "emt"
    assert weights.metadata["licence"] == "MIT"


def test_config_of_a_checkpoint_is_read_off_its_shapes(
    tmp_path: Path, paper_state: dict[str, Tensor]
) -> None:
    weights = load_weights(checkpoint(tmp_path / "mine.pth", {"params": paper_state}))

    assert weights.config == EMTConfig(2, 60, blocks=1, layers=2, attention_layers=1)
    np.testing.assert_array_equal(
        weights.tensors["body.1.mlp.fc1.weight"], paper_state["body.0.mlp_list.1.fc1.weight"][..., 0, 0]
    )
    assert build_network(weights)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)


def test_other_widths_need_an_explicit_config(shared: Path) -> None:
    file = shared / "weights/lite/emt_lite_x4_start.pth"
    golden = np.load(shared / "weights/lite/golden_x4_aligned.npz")
    low = torch.from_numpy(golden["lr"]).permute(2, 0, 1)[None].float()

    assert "config" in refused(file) or "windows" in refused(file)
    with torch.inference_mode():
        high = build_network(load_weights(file, config=LITE))(low)[0].permute(1, 2, 0).numpy()

    assert np.abs(high - golden["sr"]).max() < 0.001


def test_file_named_like_a_released_one_must_be_it(tmp_path: Path, paper_state: dict[str, Tensor]) -> None:
    impostor = checkpoint(tmp_path / "EMT_LSR_x4.pth", {"params": paper_state})

    message = refused(impostor)

    assert "c66235c55c92bc753098372cfe6d53c8b259c302adeac48aace9b154ed9f872e" in message
    assert hashlib.sha256(impostor.read_bytes()).hexdigest() in message


def test_bundled_model_answers_like_the_one_it_was_made_of(shared: Path) -> None:
    bundled = Path(__file__).parent.parent.parent / "weights" / "emt-lite-x4.safetensors"
    if load_weights(bundled).metadata["steps"] != 4297:
        pytest.skip("the bundled weights have been trained further")
    golden = np.load(shared / "weights/lite/golden_x4_aligned.npz")
    low = torch.from_numpy(golden["lr"]).permute(2, 0, 1)[None].float()

    with torch.inference_mode():
        high = build_network(load_weights(bundled))(low)[0].permute(1, 2, 0).numpy()

    assert np.abs(high - golden["sr"]).max() < 0.001


def test_scales_of_a_file_are_the_one_in_it(tiny_file: Path) -> None:
    assert model_scales(str(tiny_file)) == (2,)


# What is refused


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def test_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    evil = checkpoint(tmp_path / "evil.pth", {"params": Evil(trace)})

    message = refused(evil)

    assert "system" in message
    assert not trace.exists()


def test_malicious_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps({"params": Evil(trace)}))

    refused(evil)

    assert not trace.exists()


class Greedy:
    """Asks for a terabyte when it is unpickled; torch.load allows it even with weights_only."""

    def __reduce__(self) -> tuple[type[bytearray], tuple[int]]:
        return bytearray, (1 << 40,)


def test_checkpoint_asking_for_memory_is_refused(tmp_path: Path) -> None:
    assert "bytearray" in refused(checkpoint(tmp_path / "greedy.pth", {"params": {"head.weight": Greedy()}}))


def test_tensor_spread_over_one_number_is_refused_by_its_shape(
    tmp_path: Path, paper_state: dict[str, Tensor]
) -> None:
    spread = {**paper_state, "head.bias": torch.zeros(1).expand(1 << 40)}

    assert "head.bias" in refused(checkpoint(tmp_path / "spread.pth", {"params": spread}))


def test_compressed_archive_is_refused(tmp_path: Path, paper_state: dict[str, Tensor]) -> None:
    plain = checkpoint(tmp_path / "plain.pth", {"params": paper_state})
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))

    assert "compressed" in refused(bomb)


@pytest.mark.parametrize("content", [{}, [], {"params": []}, {"params": {"a": "b"}}, {"params": {}}, None])
def test_checkpoint_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    refused(checkpoint(tmp_path / "other.pth", content))


def spoiled(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    state = dict(state)
    if how == "missing":
        del state["body.0.mlp_list.1.fc2.bias"]
    elif how == "extra":
        state["upsampler.weight"] = torch.zeros(3)
    elif how == "shape":
        state["tail.0.bias"] = torch.zeros(13)
    elif how == "nan":
        state["head.weight"] = torch.full((60, 3, 3, 3), torch.nan)
    elif how == "infinite":
        state["head.bias"] = torch.full((60,), 1e300, dtype=torch.float64)
    elif how == "variance":
        state["body.0.sa_list.1.norm.running_var"] = -torch.ones(60)
    elif how == "type":
        state["head.bias"] = torch.zeros(60, dtype=torch.int64)
    elif how == "depth":
        state["body.9999.sa_list.9999.norm.weight"] = torch.ones(60)
    return state


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("missing", "body.1.mlp.fc2.bias is missing"),
        ("extra", "upsampler.weight"),
        ("shape", "tail.bias"),
        ("nan", "head.weight"),
        ("infinite", "head.bias"),
        ("variance", "running_var"),
        ("type", "int64"),
        ("depth", ""),
    ],
)
def test_spoiled_checkpoint_is_refused_naming_the_tensor(
    tmp_path: Path, paper_state: dict[str, Tensor], how: str, named: str
) -> None:
    file = checkpoint(tmp_path / "spoiled.pth", {"params": spoiled(paper_state, how)})

    assert named in refused(file)


@pytest.mark.parametrize(
    "config",
    [
        {"scale": 5},
        {"scale": 2, "dim": 10**9},
        {"scale": 2, "dim": 10**30},
        {"scale": 2, "blocks": 4096, "layers": 4096},
        {"scale": 2, "blocks": 60, "layers": 60},
        {"scale": 2, "mlp_ratio": 4096},
        {"scale": 2, "mlp_ratio": 4096.0},
        {"scale": 2, "mlp_ratio": 1.51},
        {"scale": 2, "mlp_ratio": "2"},
        {"scale": 2, "windows": [[0, 8], [8, 0]]},
        {"scale": 2, "windows": [[-8, 8], [8, -8]]},
        {"scale": 2, "windows": [[4096, 4096], [8, 8]]},
        {"scale": 2, "windows": [[8, 8]] * 1000},
        {"scale": 2, "windows": [[8], [8]]},
        {"scale": 2, "windows": "88"},
        {"scale": 2, "heads": 0},
        {"scale": 2, "dim": 60.0},
        {"scale": True},
        {"scale": "4"},
        {"scale": 2, "activation": "os.system"},
        {"dim": 60},
        {},
        [],
        None,
        7,
    ],
)
def test_absurd_config_is_refused(tmp_path: Path, config: object) -> None:
    refused(with_header(tmp_path / "absurd.safetensors", {"config": config, "metadata": {}}))


@pytest.mark.parametrize(
    "entry", [None, [], "text", {"metadata": {}}, {"config": {"scale": 2}, "metadata": []}]
)
def test_header_of_another_form_is_refused(tmp_path: Path, entry: object) -> None:
    refused(with_header(tmp_path / "other.safetensors", entry))


def test_safetensors_of_another_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    file.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}))

    assert "not an EMT model" in refused(file)


def test_header_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    text = json.dumps({"__metadata__": {"emt": "x" * (4 << 20)}}).encode()
    file = tmp_path / "long.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)

    refused(file)


def test_deeply_nested_header_is_refused(tmp_path: Path) -> None:
    text = b'{"a":' * 100_000
    file = tmp_path / "deep.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)

    refused(file)


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.safetensors"
    with file.open("wb") as stream:
        stream.truncate(100 << 30)

    assert "too large" in refused(file)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04", b"just some text\n" * 100, b"\x80\x02}q\x00."]
)
def test_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "strange.pth"
    file.write_bytes(content)

    refused(file)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "no such" in refused(tmp_path / "absent.pth")
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999])
def test_cut_off_files_are_refused(
    tmp_path: Path, tiny_file: Path, paper_state: dict[str, Tensor], share: float
) -> None:
    whole = checkpoint(tmp_path / "whole.pth", {"params": paper_state})
    for source in (tiny_file, whole):
        data = source.read_bytes()
        cut = tmp_path / f"cut{source.suffix}"
        cut.write_bytes(data[: int(len(data) * share)])

        refused(cut)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40), pth=st.booleans())
def test_damaged_file_is_a_model_or_a_model_error(
    tmp_path: Path, tiny_file: Path, paper_state: dict[str, Tensor], place: float, junk: bytes, pth: bool
) -> None:
    if pth:
        stream = io.BytesIO()
        torch.save({"params": paper_state}, stream)
        data = bytearray(stream.getvalue())
    else:
        data = bytearray(tiny_file.read_bytes())
    # Most of the damage goes where the structure is: the first and the last few kilobytes.
    span = min(len(data), 8000)
    start = int(place * 2 * span)
    start = start if start < span else len(data) - (2 * span - start)
    data[start : start + len(junk)] = junk
    file = tmp_path / "damaged.bin"
    file.write_bytes(bytes(data))

    outcome: Any
    try:
        outcome = load_weights(file)
    except ModelError as error:
        outcome = error

    assert outcome is not None


@pytest.mark.parametrize(
    "change",
    [
        {"windows": [[4096, 4], [3, 4093]]},
        {"windows": [[1021, 8], [1019, 8]]},
        {"dim": 4096, "heads": 1, "mlp_ratio": 4000},
    ],
)
def test_config_that_would_take_any_memory_is_refused(
    tmp_path: Path, tiny_config: EMTConfig, change: dict[str, Any]
) -> None:
    entry = {"config": asdict(tiny_config) | change, "metadata": {}}

    assert "beyond" in refused(with_header(tmp_path / "x.safetensors", entry))


def test_archive_whose_members_share_their_bytes_is_refused(tmp_path: Path) -> None:
    """Each member claims the whole file's bytes: a small file would fill any memory."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a/data.pkl", "a/data/0", "a/data/1"):
            archive.writestr(name, bytes(1000))
        first = archive.infolist()[1]
        for member in archive.infolist():
            member.header_offset, member.file_size, member.compress_size = first.header_offset, 2000, 2000
    (tmp_path / "x.pth").write_bytes(stream.getvalue())

    refused(tmp_path / "x.pth")


def test_sharpness_mixes_faithful_and_sharp_tensors(
    tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT
):
    path = tmp_path / "sharp.safetensors"
    faithful = {name: value.numpy() for name, value in tiny_network.state_dict().items()}
    sharp = {name: value if value.dtype.kind == "i" else value * 1.5 for name, value in faithful.items()}
    save_weights(path, tiny_config, sharp, METADATA, faithful)

    for sharpness, factor in ((0, 1.0), (0.25, 1.125), (1, 1.5), (None, 1.5)):
        loaded = load_weights(path, sharpness=sharpness)

        assert loaded.sharpness == (1 if sharpness is None else sharpness)
        for name, value in faithful.items():
            expected = value if value.dtype.kind == "i" else value * factor
            np.testing.assert_allclose(loaded.tensors[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_mix_of_what_both_sets_keep_in_bf16_is_in_bf16(
    tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT
):
    path, half, full = tmp_path / "mix.safetensors", "body.0.mlp.fc1.weight", "body.0.mlp.fc2.weight"
    faithful = dict(tiny_network.state_dict()) | {half: tiny_network.state_dict()[half].bfloat16().float()}
    sharp = {name: value * 1.5 if value.is_floating_point() else value for name, value in faithful.items()}
    sharp[half] = sharp[half].bfloat16().float()
    save_weights(path, tiny_config, sharp, METADATA, faithful)

    mixed = load_weights(path, sharpness=0.3).tensors

    expected = (faithful[half] + 0.3 * (sharp[half] - faithful[half])).bfloat16().float()
    assert np.array_equal(mixed[half], expected.numpy())
    assert not np.array_equal(mixed[full], torch.from_numpy(mixed[full]).bfloat16().float().numpy())


@pytest.mark.parametrize("name", ["emt-lite-x4", "emt-photo-x4", "emt-art-x4"])
def test_kernels_of_bf16_multiply_the_very_weights_of_a_bundled_file(name: str) -> None:
    tensors = load_weights(Path(__file__).parents[2] / "weights" / f"{name}.safetensors").tensors
    products = ("fc1.weight", "fc2.weight", "proj.weight")
    matrices = [value for key, value in tensors.items() if key.endswith(products)]

    assert matrices
    for matrix in matrices:
        assert np.array_equal(matrix, torch.from_numpy(matrix).bfloat16().float().numpy())


def test_sharpness_unless_told_is_the_files_own(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT):
    path = tmp_path / "sharp.safetensors"
    state = tiny_network.state_dict()
    save_weights(path, tiny_config, state, {"sharpness": 0.7}, state)

    assert load_weights(path).sharpness == 0.7
    assert load_weights(path, sharpness=0.2).sharpness == 0.2


def test_sharpness_of_a_model_of_one_set_is_refused(tiny_file: Path):
    with pytest.raises(ModelError, match=r"tiny\.safetensors: has one set of weights"):
        load_weights(tiny_file, sharpness=0.5)


@pytest.mark.parametrize("sharpness", [-0.1, 1.1, float("nan")])
def test_sharpness_outside_of_0_to_1_is_refused(
    tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT, sharpness: float
):
    path = tmp_path / "sharp.safetensors"
    save_weights(path, tiny_config, tiny_network.state_dict(), METADATA, tiny_network.state_dict())

    with pytest.raises(ModelError, match="a sharpness is a number from 0 to 1"):
        load_weights(path, sharpness=sharpness)


def test_half_a_second_set_of_tensors_is_refused(tmp_path: Path, tiny_config: EMTConfig, tiny_network: EMT):
    path = tmp_path / "half.safetensors"
    state = tiny_network.state_dict()
    save_weights(path, tiny_config, state, METADATA, state)
    with safetensors.safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.pop(next(name for name in tensors if name.startswith("faithful.")))
    safetensors.torch.save_file(tensors, path, header)

    with pytest.raises(ModelError, match="is missing"):
        load_weights(path)

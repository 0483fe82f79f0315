"""Settings of a run: presets, files, single keys, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_cli.errors import InputError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.config import TrainConfig, make_config, settings_of

RECIPES = Path(__file__).parent.parent.parent / "weights" / "recipes"


def test_paper_preset_is_the_papers_recipe():
    config = make_config("emt")

    assert config.network == EMTConfig(4)
    assert (config.optimizer, config.learning_rate, config.steps) == ("adam", 5e-4, 1_000_000)
    assert config.learning_rate * config.final_share == pytest.approx(1e-6)
    assert (config.batch, config.patch) == (8, 64)


def test_flag_beats_file_and_file_beats_preset(tmp_path: Path):
    file = tmp_path / "recipe.toml"
    file.write_text("steps = 10\nbatch = 3\nseed = 5\n[network]\ndim = 20\nheads = 1\n")

    config = make_config("lite", file=file, pairs=["batch=4", "seed=6"], values={"seed": 7})

    assert (config.steps, config.batch, config.seed) == (10, 4, 7)
    assert (config.network.dim, config.network.layers) == (20, make_config("lite").network.layers)


def test_value_may_be_text_without_quotes_or_a_nested_list():
    config = make_config("lite", pairs=["data=my photos/2024", "network.windows=[[8, 4], [4, 8]]", "clip=2"])

    assert config.data == "my photos/2024"
    assert config.network.windows == ((8, 4), (4, 8))
    assert config.clip == 2.0


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("stepz=3", "did you mean steps?"),
        ("network.dims=40", "did you mean network.dim?"),
        ("steps=many", "steps: 'many' is not a whole number"),
        ("steps=1.5", "not a whole number"),
        ("identity_start=1", "true or false"),
        ("steps=0", "at least 1"),
        ("learning_rate=nan", "finite"),
        ("betas=[0.9]", "right length"),
        ("network.dim=61", "multiple of windows x heads"),
        ("optimizer=sgd", "none of adam, muon"),
        ("batch", "write key=value"),
    ],
)
def test_wrong_setting_is_named_with_a_way_out(pair: str, said: str):
    with pytest.raises(UsageError) as error:
        make_config("lite", pairs=[pair])

    assert said in str(error.value)


def test_wrong_key_in_a_file_names_the_file(tmp_path: Path):
    file = tmp_path / "recipe.toml"
    file.write_text("[network]\nlayer = 3\n")

    with pytest.raises(UsageError, match=r"recipe\.toml: unknown key network\.layer; .*network\.layers"):
        make_config("lite", file=file)


@pytest.mark.parametrize(
    "line", ["steps = 0", "steps = 'many'", f"learning_rate = 1{'0' * 400}", "[network]\nscale = 7"]
)
def test_wrong_value_in_a_file_names_the_file(tmp_path: Path, line: str):
    file = tmp_path / "recipe.toml"
    file.write_text(line)

    with pytest.raises(UsageError, match=r"recipe\.toml: .*(steps|int too large|scale)"):
        make_config("lite", file=file, pairs=["seed=1"])


def test_wrong_flag_is_not_put_down_to_the_file(tmp_path: Path):
    file = tmp_path / "recipe.toml"
    file.write_text("steps = 3")

    with pytest.raises(UsageError, match=r"^steps must be at least 1"):
        make_config("lite", file=file, values={"steps": 0})


def test_file_that_is_no_toml_is_an_input_error(tmp_path: Path):
    file = tmp_path / "recipe.toml"
    file.write_text("steps: 3")

    with pytest.raises(InputError, match="no TOML"):
        make_config("lite", file=file)


def test_settings_survive_json():
    config = make_config("lite", pairs=["data=x", "betas=[0.8, 0.9]"])

    values = json.loads(json.dumps(settings_of(config)))

    assert make_config("emt", values=values) == config


def test_defaults_are_valid_for_every_scale():
    for scale in (2, 3, 4):
        assert TrainConfig(network=EMTConfig(scale)).scale == scale


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_recipes_of_the_bundled_models_are_valid(file: Path):
    config = make_config("lite", file=file)

    assert file.stem.endswith(f"x{config.scale}")


@pytest.mark.parametrize(
    "text",
    [
        "steps = " + "[" * 100_000,
        "steps = " + "9" * 10_000,
        "\x00",
        "# " + "x" * 2_000_000,
    ],
    ids=["nested", "digits", "zero", "long"],
)
def test_absurd_file_is_an_input_error(tmp_path: Path, text: str):
    (tmp_path / "recipe.toml").write_text(text)

    with pytest.raises(InputError, match=r"recipe\.toml"):
        make_config("lite", file=tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    "pair",
    [
        "steps=100000000",
        "batch=1000000000",
        "patch=1000000",
        "seed=99999999999999999999",
        "network.dim=6000000",
        "network.blocks=100000",
        "network.windows=[[100000, 100000], [8, 8]]",
        "network.windows=[[1021, 8], [1019, 8]]",
        "network.shifts=[[100000, 0], [0, 0]]",
        "network.mlp_ratio=4000",
    ],
)
def test_sizes_beyond_all_measure_are_usage_errors(pair: str):
    with pytest.raises(UsageError, match=r"at most|beyond"):
        make_config("lite", pairs=[pair])

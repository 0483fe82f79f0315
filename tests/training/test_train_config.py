"""Settings of a run: presets, files, single keys, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_cli.errors import InputError, UsageError
from emt_cli.model.config import EMTConfig
from emt_cli.training.config import TrainConfig
from emt_cli.training.recipe import make_config, settings_of

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

    assert config.data == ("my photos/2024",)
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
        ("losses.pixels=l1", "did you mean losses.pixel?"),
        ("discriminator.wieght=1", "did you mean discriminator.weight?"),
        ("losses.perceptual=vgg16", "none of efficientnet-lite0, vgg19"),
        ("losses.pixel_weight=-1", "losses.pixel_weight must be at least 0"),
        ("losses.pixel_weight=0", "give pixel_weight, frequency_weight or, beside perceptual"),
        ("discriminator.width=0", "discriminator.width must be between 1 and 1024"),
        ("discriminator.betas=[0.9, 1]", "below 1"),
        ("real.blur=[3, 1]", "real.blur: [3.0, 1.0] is no range"),
        ("real.resizes=[0.5, 0.6, 0.1]", "real.resizes: the shares [0.5, 0.6, 0.1] do not come to 1"),
        ("real.quality=[0, 90]", "real.quality must be between 1 and 100"),
        ("photo.noise=nan", "photo.noise: nan is no list of the right length"),
        ("photo.noise=[0, nan]", "photo.noise must be finite"),
        ("clean_share=0.5", "clean_share is for degradation = photo or real"),
        ("val_lr=small", "val_lr has no val"),
        ("data_weights=[-1]", "data_weights must not be negative"),
        ("best=lpips", "none of psnr, ssim, niqe, newest"),
    ],
)
def test_wrong_setting_is_named_with_a_way_out(pair: str, said: str):
    with pytest.raises(UsageError) as error:
        make_config("lite", pairs=[pair])

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("pairs", "judge", "least"),
    [
        (["discriminator.weight=1"], "discriminator", 6),
        (["losses.perceptual=efficientnet-lite0"], "losses.perceptual", 2),
        (["losses.perceptual=vgg19"], "losses.perceptual", 10),
        (["losses.grid_weight=1"], "losses.grid_weight", 2),
    ],
)
def test_patch_too_small_for_what_judges_it_is_refused(pairs: list[str], judge: str, least: int):
    pairs = [*pairs, "network.scale=2"]

    with pytest.raises(UsageError, match=f"too small for {judge}; set patch to {least} or more"):
        make_config("lite", pairs=[*pairs, f"patch={least - 1}"])

    assert make_config("lite", pairs=[*pairs, f"patch={least}"]).patch == least


def test_file_has_a_table_for_each_part(tmp_path: Path):
    file = tmp_path / "recipe.toml"
    file.write_text(
        'data = ["photos", "art"]\ndata_weights = [1, 0.2]\ndegradation = "real"\n'
        '[losses]\nperceptual = "vgg19"\n[discriminator]\nweight = 0.1\nbetas = [0.5, 0.9]\n'
        "[real]\nblur = [1, 2]\n[photo]\nquality = [50, 60]\n"
    )

    config = make_config("lite", file=file)

    assert (config.data, config.data_weights) == (("photos", "art"), (1.0, 0.2))
    assert config.losses.perceptual == "vgg19"
    assert (config.discriminator.weight, config.discriminator.betas) == (0.1, (0.5, 0.9))
    assert (config.real.blur, config.photo.quality) == ((1.0, 2.0), (50, 60))


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

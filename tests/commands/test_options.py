"""Options and settings are one list: what a command takes, a Python program can give under the same name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

import pytest

from emt_cli.commands import batch, options, upscale, video
from emt_cli.jobs.networks import EnlargeSettings
from emt_cli.jobs.picture import task as pictures
from emt_cli.jobs.target import Target
from emt_cli.jobs.video import task as videos


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (upscale.upscale, pictures.Settings),
        (batch.batch, pictures.Settings),
        (video.video, videos.Settings),
    ],
)
def test_a_command_without_options_means_settings_without_arguments(
    command: Callable[..., None], kind: type[EnlargeSettings]
) -> None:
    given = {name: option.default for name, option in inspect.signature(command).parameters.items()}

    settings = options.settings(kind, given)

    assert settings == kind(Target(4, chosen=False))
    assert {field.name for field in dataclasses.fields(kind)} - set(given) == {"target", "memory"}


def test_settings_are_plain_values_that_any_process_can_read() -> None:
    given = {name: option.default for name, option in inspect.signature(upscale.upscale).parameters.items()}
    given |= {"height": 90, "tile": "off", "engine": options.Engine.torch, "format": options.Format.jxl}

    settings = options.settings(pictures.Settings, given)

    assert (settings.target, settings.tile) == (Target(height=90), 0)
    assert (settings.engine, settings.format) == ("torch", "jxl")
    assert (type(settings.engine), type(settings.format)) == (str, str)

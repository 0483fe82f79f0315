"""Pictures to patches: what is made, what is refused, what is drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from emt_cli.errors import InputError
from emt_cli.media.resize import bicubic_downscale
from emt_cli.training.dataset import PictureStore
from emt_cli.training.degradation import PhotoDegradation
from emt_cli.training.prepare import Source, prepare


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])


@pytest.fixture
def pictures(tmp_path: Path, photo: np.ndarray) -> Path:
    folder = tmp_path / "pictures"
    save(folder / "a.png", photo)
    save(folder / "deep" / "er" / "b.png", photo[:71, :90])
    return folder


@pytest.fixture
def store(tmp_path: Path, pictures: Path) -> PictureStore:
    return prepare(Source((pictures,), 2, smallest=16), tmp_path / "store")


def test_stored_pictures_are_the_files_cropped_to_a_multiple_and_reduced(
    store: PictureStore, photo: np.ndarray
):
    assert store.names == ["a.png", "deep/er/b.png"]
    assert np.array_equal(store.hr(1), photo[:70, :90])
    assert np.array_equal(store.lr(1), bicubic_downscale(photo[:70, :90], 2))


def test_all_bad_pictures_are_named_at_once(tmp_path: Path, pictures: Path, photo: np.ndarray):
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:2000])
    (pictures / "letter.jpg").write_text("hello")
    save(pictures / "tiny.png", photo[:20, :20])

    with pytest.raises(InputError) as error:
        prepare(Source((pictures,), 2, smallest=16), tmp_path / "store")

    assert all(name in str(error.value) for name in ("broken.png", "letter.jpg", "tiny.png", "3 of 5"))
    assert not list((tmp_path / "store").iterdir())


def test_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no pictures in it"):
        prepare(Source((tmp_path,), 2), tmp_path / "store")


def test_unchanged_pictures_are_not_decoded_again(tmp_path: Path, pictures: Path, store: PictureStore):
    written = (store.folder / "hr.bin").stat().st_mtime_ns

    again = prepare(Source((pictures,), 2, smallest=12), tmp_path / "store")

    assert again.folder == store.folder
    assert (store.folder / "hr.bin").stat().st_mtime_ns == written


def test_larger_patches_are_checked_against_decoded_pictures(
    tmp_path: Path, pictures: Path, store: PictureStore
):
    with pytest.raises(
        InputError, match=r"1 of 2 .*b\.png: 90x70 is too small for patches of 80x80; .*--patch"
    ):
        prepare(Source((pictures,), 2, smallest=40), tmp_path / "store")


def test_new_picture_is_decoded(tmp_path: Path, pictures: Path, store: PictureStore, photo: np.ndarray):
    save(pictures / "c.png", photo)

    again = prepare(Source((pictures,), 2, smallest=16), tmp_path / "store")

    assert len(again) == 3
    assert len(PictureStore(store.folder, 2)) == 2  # another run may be reading it


def test_pair_of_wrong_size_is_named(tmp_path: Path, pictures: Path, photo: np.ndarray):
    save(tmp_path / "lr" / "a.png", bicubic_downscale(photo, 2))
    save(tmp_path / "lr" / "deep" / "er" / "bx2.png", photo[:30, :30])

    with pytest.raises(InputError, match=r"1 of 2 pictures.*b\.png: 90x71, its LR picture 30x30: not x2"):
        prepare(Source((pictures,), 2, lr=tmp_path / "lr"), tmp_path / "store")


def test_missing_partner_is_named(tmp_path: Path, pictures: Path, photo: np.ndarray):
    save(tmp_path / "lr" / "a.png", bicubic_downscale(photo, 2))

    with pytest.raises(InputError, match=r"no LR picture for b "):
        prepare(Source((pictures,), 2, lr=tmp_path / "lr"), tmp_path / "store")


def test_large_picture_is_halved_by_area(tmp_path: Path, pictures: Path, photo: np.ndarray):
    store = prepare(Source((pictures,), 2, halve_above=100, smallest=16), tmp_path / "store")

    assert np.array_equal(store.hr(0), cv2.resize(photo, (60, 48), interpolation=cv2.INTER_AREA))
    assert store.hr(1).shape == (70, 90, 3)


def test_drawn_patches_belong_together(store: PictureStore):
    patches = store.draw(1, 2, batch=6, side=16)

    for lr, hr in zip(patches.lr, patches.hr, strict=True):
        # Away from the patch's border, reducing HR gives LR; turns change which axis comes first.
        difference = bicubic_downscale(hr, 2).astype(int) - lr
        assert np.abs(difference[3:-3, 3:-3]).max() <= 1


def test_parts_of_a_batch_are_the_batch(store: PictureStore):
    whole = store.draw(1, 2, batch=6, side=16)

    parts = [store.draw(1, 2, batch=6, side=16, part=slice(first, first + 3)) for first in (0, 3)]

    assert np.array_equal(np.concatenate([part.lr for part in parts]), whole.lr)
    assert np.array_equal(np.concatenate([part.hr for part in parts]), whole.hr)


def test_steps_and_seeds_draw_differently(store: PictureStore):
    first, again, step, seed = (
        store.draw(*numbers, batch=4, side=16).lr for numbers in ((1, 2), (1, 2), (1, 3), (2, 2))
    )

    assert np.array_equal(first, again)
    assert not np.array_equal(first, step)
    assert not np.array_equal(first, seed)


def test_degraded_patch_lies_where_the_clean_one_does(photo: np.ndarray):
    wide = np.ascontiguousarray(photo[:96, :96])
    clean = bicubic_downscale(wide, 2)[8:-8, 8:-8].astype(int)

    for seed in range(12):
        damaged = PhotoDegradation(2)(wide, np.random.default_rng(seed)).astype(int)

        errors = {
            (dy, dx): np.abs(np.roll(damaged, (dy, dx), (0, 1)) - clean)[3:-3, 3:-3].mean()
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        }
        assert damaged.shape == clean.shape
        assert min(errors, key=lambda place: errors[place]) == (0, 0)


def test_degradation_follows_from_seed_and_step(store: PictureStore):
    draws = [store.draw(1, step, batch=3, side=8, degrade=PhotoDegradation(2)) for step in (4, 4, 5)]

    assert np.array_equal(draws[0].lr, draws[1].lr)
    assert not np.array_equal(draws[0].lr, draws[2].lr)


@pytest.mark.parametrize("name", ["index.json", "lr.bin", "hr.bin"])
@pytest.mark.parametrize("damage", [b"", b'{"pictures": [["a", 1]]}', b"\xff" * 50])
def test_damaged_store_is_made_anew(
    tmp_path: Path, pictures: Path, store: PictureStore, name: str, damage: bytes
):
    expected = store.hr(0).copy()
    (store.folder / name).unlink()  # the open store keeps its own
    (store.folder / name).write_bytes(damage)

    again = prepare(Source((pictures,), 2, smallest=16), tmp_path / "store")

    assert np.array_equal(again.hr(0), expected)

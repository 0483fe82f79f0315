"""Pictures to patches: what is made, what is refused, what is drawn."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emt_cli.errors import InputError, OutputError
from emt_cli.media.resize import bicubic_downscale
from emt_cli.training.dataset import PictureMix, PictureStore
from emt_cli.training.degradation import PhotoDegradation
from emt_cli.training.prepare import Source, needed_bytes, prepare
from emt_cli.training.teacher import add_answers


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


def test_the_roles_of_the_files_decide_what_is_kept(tmp_path: Path, photo: np.ndarray):
    for name in ("hr", "lr"):
        save(tmp_path / name / "a.png", photo if name == "hr" else bicubic_downscale(photo, 2) // 2)
    hr, lr, cache = tmp_path / "hr", tmp_path / "lr", tmp_path / "store"

    both = prepare(Source((hr, lr), 2), cache)
    pairs = prepare(Source((hr,), 2, lr=lr), cache)
    made = prepare(Source((hr,), 2), cache)

    assert (len(both), len(pairs), len(made)) == (2, 1, 1)
    assert np.array_equal(pairs.lr(0), bicubic_downscale(photo, 2) // 2)
    assert np.array_equal(made.lr(0), bicubic_downscale(photo, 2))


def test_what_a_full_disk_cut_off_is_removed(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source, cache = Source((pictures,), 2), tmp_path / "store"
    needed = needed_bytes(source, cache)
    with monkeypatch.context() as patch:
        patch.setattr("emt_cli.training.prepare._append", full)
        with pytest.raises(OutputError, match=r"No space left on device.*--dry-run"):
            prepare(source, cache)

    assert not list(cache.iterdir())
    folder = prepare(source, cache).folder
    written = sum((folder / name).stat().st_size for name in ("lr.bin", "hr.bin"))
    assert written == pytest.approx(needed, rel=0.05)
    assert needed_bytes(source, cache) == 0


def test_large_picture_is_halved_by_area(tmp_path: Path, pictures: Path, photo: np.ndarray):
    store = prepare(Source((pictures,), 2, halve_above=100, smallest=16), tmp_path / "store")

    assert np.array_equal(store.hr(0), cv2.resize(photo, (60, 48), interpolation=cv2.INTER_AREA))
    assert store.hr(1).shape == (70, 90, 3)


def test_drawn_patches_belong_together(store: PictureStore):
    patches = PictureMix([store]).draw(1, 2, batch=6, side=16)

    for lr, hr in zip(patches.lr, patches.hr, strict=True):
        # Away from the patch's border, reducing HR gives LR; turns change which axis comes first.
        difference = bicubic_downscale(hr, 2).astype(int) - lr
        assert np.abs(difference[3:-3, 3:-3]).max() <= 1


def test_parts_of_a_batch_are_the_batch(store: PictureStore):
    whole = PictureMix([store]).draw(1, 2, batch=6, side=16)

    parts = [
        PictureMix([store]).draw(1, 2, batch=6, side=16, part=slice(first, first + 3)) for first in (0, 3)
    ]

    assert np.array_equal(np.concatenate([part.lr for part in parts]), whole.lr)
    assert np.array_equal(np.concatenate([part.hr for part in parts]), whole.hr)


def test_pictures_go_to_another_process_as_their_place_alone(store: PictureStore):
    sent = pickle.dumps(PictureMix([store]))

    assert len(sent) < store.hr(0).nbytes / 4
    patches = pickle.loads(sent).draw(1, 2, batch=6, side=16)
    assert np.array_equal(patches.hr, PictureMix([store]).draw(1, 2, batch=6, side=16).hr)


def test_steps_and_seeds_draw_differently(store: PictureStore):
    first, again, step, seed = (
        PictureMix([store]).draw(*numbers, batch=4, side=16).lr
        for numbers in ((1, 2), (1, 2), (1, 3), (2, 2))
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
    draws = [
        PictureMix([store]).draw(1, step, batch=3, side=8, degrade=PhotoDegradation(2)) for step in (4, 4, 5)
    ]

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


def other_pictures(tmp_path: Path) -> PictureStore:
    """A store of one picture that is all red."""
    save(tmp_path / "red" / "a.png", np.full((80, 120, 3), (250, 0, 0), np.uint8))
    return prepare(Source((tmp_path / "red",), 2), tmp_path / "store")


def test_folders_are_drawn_from_by_their_weights(tmp_path: Path, store: PictureStore):
    mix = PictureMix([store, other_pictures(tmp_path)], (1, 3))

    patches = mix.draw(1, 2, batch=400, side=8)

    red = (patches.hr == (250, 0, 0)).all(axis=(1, 2, 3))
    assert red.mean() == pytest.approx(0.75, abs=0.06)
    assert (patches.lr[red] == (250, 0, 0)).all()


def test_folders_without_weights_are_drawn_from_by_their_pixels(tmp_path: Path, store: PictureStore):
    red = other_pictures(tmp_path)
    pixels = [int(one.areas.sum()) for one in (store, red)]

    patches = PictureMix([store, red]).draw(1, 2, batch=400, side=8)

    share = (patches.hr == (250, 0, 0)).all(axis=(1, 2, 3)).mean()
    assert share == pytest.approx(pixels[1] / sum(pixels), abs=0.07)


def test_a_second_folder_that_is_never_drawn_from_changes_nothing(tmp_path: Path, store: PictureStore):
    """Nor does it decode the first one anew."""
    alone = PictureMix([store]).draw(1, 2, batch=6, side=16)

    both = PictureMix([store, other_pictures(tmp_path)], (1, 0)).draw(1, 2, batch=6, side=16)

    assert np.array_equal(both.lr, alone.lr)


def test_bad_pictures_are_left_out_when_asked_for(tmp_path: Path, pictures: Path, photo: np.ndarray):
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:2000])
    save(pictures / "tiny.png", photo[:20, :20])
    source = Source((pictures,), 2, smallest=16, skip_bad=True)

    store = prepare(source, tmp_path / "store")

    assert store.names == ["a.png", "deep/er/b.png", "tiny.png"]
    assert [any(name in fault for fault in store.skipped) for name in ("broken", "tiny", "a.png:")] == [
        True,
        True,
        False,
    ]
    patches = PictureMix([store], smallest=16).draw(1, 2, batch=50, side=16)
    assert len(patches.lr) == 50


def test_bad_pictures_left_out_before_are_refused_again(tmp_path: Path, pictures: Path):
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:2000])
    source = Source((pictures,), 2, smallest=16, skip_bad=True)
    prepare(source, tmp_path / "store")

    with pytest.raises(InputError, match=r"1 of 3 pictures.*broken\.png.*--skip-bad leaves them out"):
        prepare(replace(source, skip_bad=False), tmp_path / "store")


def test_bad_validation_pictures_cannot_be_left_out(tmp_path: Path, pictures: Path):
    (pictures / "broken.png").write_text("hello")

    with pytest.raises(
        InputError, match=r"1 of \d validation pictures .*broken\.png.*; remove or replace them$"
    ):
        prepare(Source((pictures,), 2, validates=True), tmp_path / "store")


def test_folder_of_bad_pictures_alone_is_an_error(tmp_path: Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("hello")

    with pytest.raises(InputError, match="1 of 1 pictures cannot be trained on"):
        prepare(Source((tmp_path / "bad",), 2, skip_bad=True), tmp_path / "store")


@pytest.fixture
def answers(tmp_path: Path, store: PictureStore) -> Path:
    """A folder of a teacher's answers, one of them named as `emt batch` names it."""
    save(tmp_path / "answers" / "a.png", 255 - store.hr(0))
    save(tmp_path / "answers" / "deep" / "er" / "b_x2.png", 255 - store.hr(1))
    return tmp_path / "answers"


def test_folder_of_answers_teaches(store: PictureStore, answers: Path):
    taught = add_answers(store, str(answers))

    patches = PictureMix([taught]).draw(1, 2, batch=6, side=16)
    assert patches.teacher is not None
    assert np.array_equal(patches.teacher, 255 - patches.hr)


def test_changed_answers_are_read_anew(store: PictureStore, answers: Path):
    add_answers(store, str(answers))
    save(answers / "a.png", store.hr(0) // 2)

    taught = add_answers(store, str(answers))

    assert np.array_equal(taught.teacher(0), store.hr(0) // 2)


def test_missing_answer_is_named(store: PictureStore, answers: Path):
    (answers / "deep/er/b_x2.png").unlink()

    with pytest.raises(InputError, match=r"answers: no answers for 1 pictures: deep/er/b\.png"):
        add_answers(store, str(answers))


def test_answer_of_another_size_is_named(store: PictureStore, answers: Path):
    save(answers / "a.png", store.lr(0))

    with pytest.raises(InputError, match=r"a\.png: 60x48, and 120x96 is x2 of the LR picture"):
        add_answers(store, str(answers))

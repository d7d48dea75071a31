"""FILE.npz and FILE.py:function: read wherever a data set's name stands, or refused in a line."""

import io
import zipfile

import numpy as np
import pytest

from cnnjax import Data, Dataset, Refused, load_dataset
from cnnjax.core.user_code import paths_from
from cnnjax.testing import check_dataset

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (30, 8, 6), np.uint8)
LABELS = np.arange(30) % 3
ARRAYS = {
    "train_images": IMAGES[:21],
    "train_labels": LABELS[:21],
    "test_images": IMAGES[21:],
    "test_labels": LABELS[21:],
}
FILE = """\
import numpy as np
from cnnjax import Dataset

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (30, 8, 6), np.uint8)
LABELS = np.arange(30) % 3


def part(where):
    return {"images": IMAGES[where], "labels": LABELS[where]}


def both(seed=0, *more, **options):
    return Dataset.from_arrays(part(slice(21)), part(slice(21, None)), name="both")


def one():
    return Dataset.from_arrays(part(slice(None)))


def falls():
    return IMAGES[50]  # line 22


def short():
    return Dataset.from_arrays({"images": IMAGES, "labels": LABELS[1:]})


def leaves():
    raise SystemExit(3)


def nothing():
    pass


def needs(folder, *, size):
    return both()


class Odd:
    pass
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def write(path, without=(), **changes):
    arrays = {key: array for key, array in {**ARRAYS, **changes}.items() if key not in without}
    np.savez(path, allow_pickle=True, **arrays)
    return str(path)


def test_a_file_and_a_function_with_the_same_arrays_are_the_same_set(tmp_path, file):
    held = load_dataset(write(tmp_path / "a.npz"))
    made = load_dataset(f"{file}:both")
    assert held.fingerprint == made.fingerprint
    assert (held.name, held.source) == (f"{tmp_path}/a.npz", "arrays of a.npz")
    assert (made.name, made.source) == ("both", f"{file}:both")
    np.testing.assert_array_equal(held.test.images[..., 0], IMAGES[21:])
    assert len(check_dataset(held)) == 6


def test_paths_start_where_the_study_or_the_run_lies(tmp_path, file):
    write(tmp_path / "a.npz")
    with paths_from(tmp_path):
        assert load_dataset("a.npz").fingerprint == load_dataset("mine.py:both").fingerprint


def test_a_function_of_a_package(monkeypatch, tmp_path):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "sets.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_dataset("own_package.sets:both").test) == 9
    with pytest.raises(Refused, match=r"no data in own_package.sets: 'bot'; did you mean both"):
        load_dataset("own_package.sets:bot")
    with pytest.raises(Refused, match=r"no data module 'own_package.nets'"):
        load_dataset("own_package.nets:both")


def test_further_fields_and_names_of_a_file(tmp_path):
    boxes = rng.random((30, 4))
    fields = {"train_boxes": boxes[:21], "test_boxes": boxes[21:]}
    for names in (["a", "b", "c"], [b"a", b"b", b"c"], [7, 8, 9]):
        path = write(tmp_path / "a.npz", label_names=np.array(names), **fields)
        dataset = load_dataset(path)
        assert [str(n) for n in np.array(names, "U")] == list(dataset.label_names)
        assert list(dataset.fields) == ["images", "labels", "boxes"]
    bare = load_dataset(write(tmp_path / "b.npz", without=("train_labels", "test_labels")))
    assert bare.num_classes == 0


def test_one_part_is_divided_or_refused(tmp_path, file):
    path = write(tmp_path / "a.npz", without=("test_images", "test_labels"))
    for name in (path, f"{file}:one"):
        with pytest.raises(Refused, match=r"has no test part; .*--set data.test_share=0.2"):
            load_dataset(name)
        dataset = load_dataset(Data(name, test_share=0.3))
        assert len(dataset.test) in (6, 9)
    for name in (write(tmp_path / "b.npz"), f"{file}:both"):
        with pytest.raises(Refused, match=r"has a test part \(9 images\); leave it out, or hold"):
            load_dataset(Data(name, test_share=0.3))


@pytest.mark.parametrize(
    ("without", "changes", "message"),
    [
        (["train_images"], {}, r"no train_images \(there is test_images, test_labels, train_lab"),
        (["test_images"], {}, r"no test_images \(there is test_labels, train_images, train_lab"),
        (["test_labels"], {}, r"no test_labels \(there is test_images, train_images, train_lab"),
        (["train_labels"], {}, r"no train_labels \(there is test_images, test_labels, train_i"),
        (list(ARRAYS), {"x_train": IMAGES}, r"no train_images \(there is x_train\); name its"),
        (list(ARRAYS), {}, r"no train_images \(there is nothing\)"),
        ([], {"train_boxes": LABELS[:21]}, r"has no test_boxes"),
        ([], {"classes": LABELS}, r"has classes, which is of no split"),
        ([], {"train_words": np.array([None] * 21)}, r"no test_words|train_words holds Python obj"),
        ([], {"train_images": np.array([None, 1])}, r"train_images holds Python objects \(a pick"),
        ([], {"label_names": np.array([None, 1])}, r"label_names holds Python objects \(a pick"),
        ([], {"label_names": np.array("abc")}, r"label_names is <U3\[\]; give names \[n\]"),
        ([], {"label_names": np.ones(3)}, r"label_names is float64\[3\]; give names"),
        ([], {"train_images": IMAGES[:20]}, r"train has 20 images and labels \[21\]"),
        ([], {"train_images": IMAGES[:21] / 255}, r"train images are float64 from 0 to 1;"),
        ([], {"test_labels": LABELS[21:] + 1}, r"3 labels of the test split are out of range"),
        ([], {"test_images": IMAGES[21:, 1:]}, r"training images are 8x6x1, test images 7x6x1"),
    ],
)
def test_a_file_that_is_no_set_is_refused(tmp_path, without, changes, message):
    path = write(tmp_path / "a.npz", without, **changes)
    with pytest.raises(Refused, match=message) as error:
        load_dataset(path)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def whole(tmp_path):
    write(tmp_path / "whole.npz")
    return bytearray((tmp_path / "whole.npz").read_bytes())


def flipped(tmp_path):
    data = whole(tmp_path)
    data[900] ^= 1
    return data


def one_array(tmp_path):
    out = io.BytesIO()
    np.save(out, IMAGES)
    return out.getvalue()


def other_zip(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("train_images.npy", b"no array")
    return out.getvalue()


def promising_too_much(tmp_path):
    """A header of an array that no memory holds."""
    out = io.BytesIO()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (2**50, 8, 8)}
    )
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("train_images.npy", head.getvalue() + b"12")
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        flipped,
        one_array,
        other_zip,
        promising_too_much,
        lambda path: whole(path)[:900],
        lambda path: b"",
        lambda path: b"\x80\x04N.",  # a pickle
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content(tmp_path))
    with pytest.raises(Refused, match=r"a\.npz cannot be read") as error:
        load_dataset(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bth", "no data in .*mine.py: 'bth'; did you mean both"),
        ("xyzxyz", "no data in .*mine.py: 'xyzxyz'; there is .*both"),
        ("", "give FILE.py:NAME or package.module:NAME"),
        ("IMAGES", "mine.py:IMAGES is of type ndarray; give a function"),
        ("needs", "mine.py:needs requires folder, size; give a function without"),
        ("falls", "mine.py, line 22: IndexError: index 50 is out of bounds"),
        ("short", r"mine.py, line 26: data set arrays: train has 30 images and labels \[29\]"),
        ("leaves", r"mine.py, line 30: it ends the program \(sys.exit\(3\)\)"),
        ("nothing", r"returns what is of type NoneType; it is to return Dataset.from_arrays\("),
        ("Odd", r"returns what is of type Odd; it is to return"),
    ],
)
def test_a_function_that_gives_no_set_is_refused(file, name, message):
    with pytest.raises(Refused, match=message) as error:
        load_dataset(f"{file}:{name}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"no\.npz: there is no file .*give the path of an \.npz"):
        load_dataset(f"{tmp_path}/no.npz")
    with pytest.raises(Refused, match=r"no data file .*no\.py"):
        load_dataset(f"{tmp_path}/no.py:f")
    with pytest.raises(Refused, match=r"there is no file"):
        load_dataset(f"{tmp_path}/.npz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 8}, "data.image_size=8: .* is read as it is; leave it out"),
        ({"train_split": "train[:5]"}, "is read as it is"),
        ({"streaming": "always"}, "is read as it is"),
        ({"test_crops": 10}, "is read as it is"),
        ({"unreadable": "skip"}, "data.unreadable=skip has no effect: .* is read into memory"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, file, settings, message):
    for name in (write(tmp_path / "a.npz"), f"{file}:both"):
        with pytest.raises(Refused, match=message):
            load_dataset(Data(name, **settings))


def test_a_set_is_loaded_anew_where_its_file_was_edited(file):
    first = load_dataset(f"{file}:both")
    file.write_text(FILE.replace("default_rng(0)", "default_rng(1)"))
    second = load_dataset(f"{file}:both")
    assert isinstance(second, Dataset)
    assert first.fingerprint != second.fingerprint

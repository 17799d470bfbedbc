"""Rows of files as training data: the same numbers as in memory, few pieces at a time, and faults that are named."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch

from anydiff.data import ArrayDataset, StoredRows
from anydiff.data.columns import Pieces, open_columns
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError, UnknownNameError
from anydiff.paths import VPLinear
from anydiff.states import ClassCondition, StateSpec, VectorCondition
from anydiff.training.examples import ExampleStream
from anydiff.training.settings import TrainingSettings

ROWS = np.arange(95 * 6, dtype=np.float32).reshape(95, 2, 3)
LABEL = (np.arange(95) % 4).astype(np.int32)
WEIGHT = np.linspace(0, 1, 95)


class Plain(Domain):
    """Arrays of 2 x 3 numbers; an object is the array of half their size."""

    name = "plain"
    spec = StateSpec.single((2, 3))
    conditions = {"label": ClassCondition(4), "weight": VectorCondition(1)}  # noqa: RUF012

    def encode(self, objects):
        return torch.stack([torch.as_tensor(np.asarray(each)).float() * 2 for each in objects])

    def decode(self, states, condition=None):
        return list((states / 2).numpy())

    def read(self, path):
        raise NotImplementedError

    write = draw = read


def write_zarr(path):
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(path)
    for name, values in (("x", ROWS), ("label", LABEL), ("weight", WEIGHT)):
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(10, *values.shape[1:]),
            dtype=values.dtype,
            config={"write_empty_chunks": True},
        )
        array[:] = values


def write_hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(10, 2, 3), compression="gzip")
        file["label"], file["weight"] = LABEL, WEIGHT


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    inner = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(ROWS.ravel()), 3)
    table = pyarrow.table(
        {"x": pyarrow.FixedSizeListArray.from_arrays(inner, 2), "label": LABEL, "weight": WEIGHT, "note": ["a"] * 95}
    )
    parquet.write_table(table, path, row_group_size=10)


WRITERS = {"rows.zarr": write_zarr, "rows.h5": write_hdf5, "rows.parquet": write_parquet}


@pytest.fixture(params=WRITERS)
def stored(request, tmp_path):
    WRITERS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def opened(path, **options):
    return StoredRows(path, Plain(), "x", {"label": "label", "weight": "weight"}, **options)


def test_rows_are_those_of_the_file_whatever_was_read_before(stored):
    data = opened(stored, memory=1e-4)  # less than a piece: each is read again and again
    kept = [row for row in range(95) if row % 10 != 9]
    assert len(data) == 86
    for order in ([5, 80, 5, 0], list(range(86)), [85, 3]):
        states, condition = data.batch(order)
        wanted = [kept[each] for each in order]
        torch.testing.assert_close(states, torch.from_numpy(2 * ROWS[wanted]), rtol=0, atol=0)
        assert condition.given["label"].tolist() == LABEL[wanted].tolist()
        torch.testing.assert_close(condition.given["weight"][:, 0], torch.from_numpy(WEIGHT[wanted]).float())
    assert len(opened(stored, split="test")) == 9
    last = opened(stored, split="test", test_share=0.2, encoded=True)
    torch.testing.assert_close(last.batch([0])[0][0], torch.from_numpy(ROWS[76]), rtol=0, atol=0)


def test_a_training_takes_few_pieces_at_a_time_and_every_example_once(stored, monkeypatch):
    data = opened(stored, memory=0.0012)
    edges, together = data.pieces
    assert edges[0] == 0
    assert edges[-1] == len(data)
    monkeypatch.setattr(StoredRows, "pieces", property(lambda self: (edges, 2)))
    stream = ExampleStream(data, VPLinear(), TrainingSettings(steps=1, batch_size=4, seed=3))
    epochs = [stream.indices(range(86 * epoch, 86 * (epoch + 1))) for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(epoch) == list(range(86))
        owners = np.searchsorted(edges, epoch, side="right") - 1
        begins = {piece: np.flatnonzero(owners == piece) for piece in set(owners)}
        assert all(at.max() - at.min() < 2 * np.diff(edges).max() for at in begins.values()), "pieces follow each other"
        assert any(at.max() - at.min() >= len(at) for at in begins.values()), "two are mixed"
    again = ExampleStream(data, VPLinear(), TrainingSettings(steps=1, batch_size=4, seed=3))
    assert again.indices(range(100, 120)) == stream.indices(range(100, 120))
    assert together == 1, "half of so little memory holds no two pieces"


def test_data_without_pieces_keep_their_order():
    class Rows(ArrayDataset):
        name, domain = "rows", Plain()

    settings = TrainingSettings(steps=1, batch_size=4, seed=3)
    stream = ExampleStream(Rows(ROWS), VPLinear(), settings)
    assert stream.indices(range(6)) == [23, 2, 48, 54, 61, 84]


def test_what_is_kept_is_bounded_and_may_be_asked_by_threads(stored):
    column = open_columns(stored)["x"]
    pieces = Pieces(3 * 240)
    wanted = np.random.default_rng(0).integers(0, 95, (8, 200))
    found = {}

    def ask(number):
        found[number] = [pieces.rows(column, each) for each in np.split(wanted[number], 20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for number, parts in found.items():
        assert np.array_equal(np.concatenate(parts), ROWS[wanted[number]])
    assert pieces._bytes <= 3 * 240
    assert pieces._bytes == sum(each.nbytes for each in pieces._kept.values())


def test_a_folder_is_its_files_one_after_the_other(tmp_path):
    for number, part in enumerate(np.split(ROWS, [40, 70])):
        np.save(tmp_path / f"part-{number}.npy", part)
    data = StoredRows(tmp_path, Plain(), encoded=True, test_share=0.1)
    assert np.array_equal(data.batch([39, 40, 69, 70])[0].numpy(), ROWS[[39, 40, 69, 70]])
    np.save(tmp_path / "part-3.npy", np.zeros((4, 3, 2), np.float32))
    with pytest.raises(FileFormatError, match=r"shape \(2, 3\) in .*, but .* \(3, 2\) .*give all files the same"):
        StoredRows(tmp_path, Plain())


def test_the_hash_is_of_the_content(stored, tmp_path):
    data = opened(stored)
    copy = tmp_path / "elsewhere" / stored.name
    copy.parent.mkdir()
    (shutil.copytree if stored.is_dir() else shutil.copyfile)(stored, copy)
    assert opened(copy).hash == data.hash
    assert len({data.hash, opened(stored, split="test").hash, opened(stored, encoded=True).hash}) == 3
    changed = opened(copy)  # a hash is made when it is asked for
    target = next(each for each in sorted(copy.rglob("*")) if each.name == "0") if copy.is_dir() else copy
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    assert changed.hash != data.hash


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"states": None}, AnydiffError, r"holds the arrays \['label', .*'weight', 'x'\]; say which one"),
        ({"states": "y"}, UnknownNameError, "'y'"),
        ({"given": {"labels": "label"}}, UnknownNameError, "did you mean 'label'"),
        ({"given": {"label": "weight"}}, AnydiffError, "'weight' .* holds float64 .*'label' needs one whole number"),
        ({"given": {"weight": "x"}}, AnydiffError, r"condition 'weight' needs rows of shape \(1,\)"),
        ({"encoded": True, "states": "weight", "given": {}}, AnydiffError, r"rows of shape \(\), but states"),
        ({"memory": 0}, AnydiffError, "memory is 0 megabytes; give a number above 0"),
        ({"split": "validation"}, UnknownNameError, "validation"),
    ],
)
def test_what_does_not_fit_is_one_sentence(stored, options, error, message):
    wanted = {"states": "x", "given": {"label": "label"}, **options}
    with pytest.raises(error, match=message):
        StoredRows(stored, Plain(), **wanted)


def test_files_that_are_no_rows(tmp_path):
    with pytest.raises(AnydiffError, match=r"is none of \.zarr"):
        open_columns(tmp_path / "a.csv")
    with pytest.raises(AnydiffError, match="does not exist; check the path"):
        open_columns(tmp_path / "a.zarr")
    with pytest.raises(AnydiffError, match="holds no file of"):
        open_columns(tmp_path)
    np.save(tmp_path / "a.npy", ROWS.astype(complex))
    with pytest.raises(FileFormatError, match="complex"):
        open_columns(tmp_path / "a.npy")
    (tmp_path / "a.h5").write_bytes(b"no")
    with pytest.raises(FileFormatError, match=r"a\.h5"):
        open_columns(tmp_path / "a.h5")


def test_a_value_that_is_not_finite_is_found_when_its_piece_is_read(tmp_path):
    rows = ROWS.copy()
    rows[33, 1, 2] = np.nan
    np.save(tmp_path / "a.npy", rows)
    data = StoredRows(tmp_path / "a.npy", Plain())
    with pytest.raises(NonFiniteError, match=r"array 'a' of .* 1 of 570 values .* the first at \(33, 1, 2\)"):
        data.batch([0])


def test_a_class_out_of_range_names_its_row(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["label"] = ROWS, np.where(np.arange(95) == 12, 7, LABEL)
    data = StoredRows(tmp_path / "a.h5", Plain(), "x", {"label": "label"})
    with pytest.raises(AnydiffError, match=r"row 12 of array 'label' .* has the class 7, but .* 0 to 3"):
        data.batch([10, 11])


def test_a_chunk_that_is_gone_is_not_read_as_zeros(tmp_path):
    write_zarr(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "x" / "c" / "3" / "0" / "0").unlink()
    with pytest.raises(FileFormatError, match=r"chunk 'c/3/0/0' of array 'x' .* is not stored: .* write_empty_chunks"):
        open_columns(tmp_path / "a.zarr")


def test_numbers_of_other_files_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "other.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(FileFormatError, match="leads to another file"):
        open_columns(tmp_path / "a.h5")


def test_parquet_of_several_lengths_and_without_values(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"x": [[1.0, 2.0], [3.0]]}), tmp_path / "a.parquet")
    with pytest.raises(FileFormatError, match="lists of several lengths"):
        open_columns(tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"x": [1.0, None]}), tmp_path / "b.parquet")
    with pytest.raises(FileFormatError, match="1 rows without a value"):
        open_columns(tmp_path / "b.parquet")
    parquet.write_table(pyarrow.table({"x": ["a", "b"]}), tmp_path / "c.parquet")
    with pytest.raises(FileFormatError, match="no array with rows of numbers"):
        open_columns(tmp_path / "c.parquet")

"""Molecules as states: codec, validity in both definitions, files with their reports, scaffolds, sizes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from rdkit import Chem

from anydiff.data.cache import is_cached
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff.states import Conditioning
from anydiff_molecules import chemistry, files, ledger
from anydiff_molecules.baselines import marginal
from anydiff_molecules.data import QM9, ZINC, MoleculeFile
from anydiff_molecules.domain import Molecules
from anydiff_molecules.official import all_smiles
from anydiff_molecules.sizes import histogram, sampled_mask

TYPES = ("C", "N", "O", "F", "S", "Cl", "Br", "N+", "O-")
SMILES = [
    "c1ccccc1O",
    "CC(=O)N",
    "C#N",
    "c1cc[nH]c1",
    "C[N+](=O)[O-]",
    "Clc1ccncc1",
    "C[NH+](C)C",
    "O=S(=O)(N)c1ccccc1",
]


def domain(size: int = 12) -> Molecules:
    return Molecules(TYPES, size)


def test_decode_gives_the_molecules_back():
    states = domain().encode(SMILES)
    molecules = domain().decode(states)
    assert [chemistry.canonical(m) for m in molecules] == [chemistry.canonical(Chem.MolFromSmiles(s)) for s in SMILES]
    assert torch.equal(domain().encode(molecules), states)


def test_the_states_are_one_hot_symmetric_and_masked():
    spec = domain().spec
    state = domain().encode(["CC(=O)N"])
    leaves = spec.unpack(state)
    assert leaves["nodes"].sum() == 4
    assert leaves["edges"].sum() == 6
    assert torch.equal(leaves["edges"], leaves["edges"].transpose(1, 2))
    assert spec.mask_of(state).sum() == 4
    noisy = state + 0.3 * spec.project(
        torch.randn(state.shape, generator=torch.Generator().manual_seed(0)), spec.mask_of(state)
    )
    assert chemistry.canonical(domain().decode(noisy.clamp(-0.4, 1.4), Conditioning(mask=spec.mask_of(state)))[0])


@pytest.mark.parametrize(
    ("atoms", "bonds", "valid", "valences"),
    [
        ([0, 0], {(0, 1): 3}, True, True),
        ([0, 3, 3], {(0, 1): 2, (0, 2): 1}, False, False),  # F with a double bond
        ([0, 0], {}, True, True),  # two fragments are valid chemistry
        ([0, 1, 2, 2], {(0, 1): 1, (1, 2): 2, (1, 3): 2}, True, False),  # CN(=O)=O: RDKit charges it, GDSS does not
    ],
)
def test_validity_is_that_of_the_whole_molecule(atoms, bonds, valid, valences):
    orders = np.zeros((len(atoms), len(atoms)), dtype=int)
    for (i, j), order in bonds.items():
        orders[i, j] = orders[j, i] = order
    molecule = chemistry.to_molecule(atoms, orders, TYPES)
    assert (chemistry.is_valid(molecule), chemistry.has_valid_valences(molecule)) == (valid, valences)
    assert chemistry.is_valid(chemistry.corrected(molecule))


def test_the_correction_lowers_the_highest_bond_and_keeps_the_largest_fragment():
    orders = np.zeros((4, 4), dtype=int)
    orders[0, 1] = orders[1, 0] = 2  # C=F
    molecule = chemistry.to_molecule([0, 3, 0, 0], orders, TYPES)
    assert chemistry.canonical(chemistry.corrected(molecule)) == "CF"


@pytest.mark.parametrize(
    ("smiles", "sentence"),
    [
        ("C[Si](C)C", "atom type Si is outside the vocabulary"),
        ("CCCCCCCCCCCCC", "more than 12 heavy atoms"),
        ("", "no atoms"),
        ("not a smiles", "no SMILES"),
        ("C->[Fe]", "outside the vocabulary"),
        ("C[CH2]", "it has a radical"),
        (7, "it is a int, none of rdkit.Chem.Mol, SMILES and PyG Data"),
    ],
)
def test_what_cannot_be_held_is_named(smiles, sentence):
    with pytest.raises(AnydiffError, match=sentence) as error:
        domain().encode(["CC", smiles])
    assert str(error.value).startswith("molecule 1 cannot be encoded")


def test_pyg_objects_in_and_out():
    pytest.importorskip("torch_geometric")
    from torch_geometric.utils import from_smiles

    states = domain().encode(SMILES)
    assert torch.equal(domain().encode([from_smiles(text) for text in SMILES]), states)
    assert torch.equal(domain().encode(domain().to_pyg(domain().decode(states))), states)
    bad = chemistry.to_molecule([0, 3], np.array([[0, 2], [2, 0]]), TYPES)
    assert torch.equal(domain().encode(domain().to_pyg([bad])), domain().encode([bad])), "an invalid one, too"
    data = MoleculeFile([from_smiles("C" * n) for n in range(1, 11)] + ["CCO"], size=12)
    assert data.smiles[:2] == ("C", "CC")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": None}, "it has no features x; give those of torch_geometric.utils.from_smiles"),
        ({"edge_attr": None}, "it has no features edge_attr"),
        ({"x": torch.ones(2, 9)}, "its x is not of 9 whole numbers each"),
        ({"x": torch.ones(2, 3, dtype=torch.long)}, "its x is not of 9 whole numbers each"),
        ({"edge_index": torch.tensor([[0, 0], [1, 0]])}, "it is directed"),
        ({"edge_index": torch.tensor([[0, 1], [0, 1]])}, "it has a self-loop"),
        ({"edge_attr": torch.full((2, 3), 17)}, "is of type 17, none of"),
        ({"x": None, "smiles": "C1CC"}, "its smiles 'C1CC' is no SMILES"),
    ],
)
def test_pyg_graphs_that_are_no_molecules_are_named(change, sentence):
    pytest.importorskip("torch_geometric")
    from torch_geometric.utils import from_smiles

    data = from_smiles("CO")
    del data.smiles
    for name, value in change.items():
        data[name] = value
    with pytest.raises(AnydiffError, match=sentence):
        domain().encode([data])


def test_bad_options_are_refused():
    with pytest.raises(AnydiffError, match="each atom type once"):
        Molecules(["C", "C"])
    with pytest.raises(UnknownNameError):
        Molecules(condition="taste")
    for scale in ((0, 0), (1,)):
        with pytest.raises(AnydiffError, match="the deviation positive"):
            Molecules(condition="logp", condition_scale=scale)
    with pytest.raises(AnydiffError, match="no molecule to draw"):
        domain().draw([], "none.png")
    with pytest.raises(AnydiffError, match=r"atom type H is outside the vocabulary \(Chem.RemoveHs"):
        domain().encode([Chem.AddHs(Chem.MolFromSmiles("CO"))])
    with pytest.raises(AnydiffError, match="no element"):
        chemistry.parse_atom_type("Xq+")
    with pytest.raises(AnydiffError, match="not finite"):
        domain().decode(torch.full((1, *domain().spec.shape), torch.nan))
    with pytest.raises(AnydiffError, match="logp is 'high'"):
        Molecules(condition="logp").parse_condition({"logp": "high"}, 2)


def test_conditions_are_standardised_and_read_back():
    own = Molecules(condition="logp", condition_scale=(2.0, 1.5))
    parsed = own.parse_condition({"logp": "3.5, 0.5"}, 3)["logp"]
    assert parsed.flatten().tolist() == [1.0, -1.0, 1.0]
    assert own.describe_condition(Conditioning({"logp": parsed})) == ["logp 3.5", "logp 0.5", "logp 3.5"]


@pytest.mark.parametrize("name", ["out.smi", "out.csv", "out.sdf"])
def test_files_can_be_read_back(tmp_path, name):
    molecules = domain().decode(domain().encode(SMILES))
    domain().write(molecules, tmp_path / name)
    again = domain().read(tmp_path / name)
    assert [chemistry.canonical(m) for m in again] == [chemistry.canonical(m) for m in molecules]


@pytest.mark.parametrize("ending", ["sdf", "smi", "csv"])
def test_samples_are_judged_from_their_file_as_they_are(tmp_path, ending):
    """Invalid molecules stay: a share of valid ones that forgets them would flatter the model."""
    states = marginal(QM9("train"), Conditioning(), 60, 0)
    molecules = Molecules().decode(states)
    flags = [chemistry.is_valid(molecule) for molecule in molecules]
    assert 5 < sum(flags) < 40
    path = tmp_path / f"samples.{ending}"
    Molecules().write(molecules, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Molecules().read(path)
    assert [chemistry.is_valid(molecule) for molecule in again] == flags
    decoded = Molecules().decode(Molecules().encode(again))
    assert [chemistry.text_of(m) for m in decoded] == [chemistry.text_of(m) for m in molecules]
    assert len(files.read(path).molecules) == sum(flags), "as training data the invalid ones are left out"


def test_what_is_no_graph_at_all_is_left_out_with_a_warning(tmp_path):
    path = tmp_path / "samples.smi"
    path.write_text("CC\n\nC1CC\nC=F\n")
    with pytest.warns(
        UserWarning, match=r"1 of 3 entries could not be parsed, first 'C1CC' \(line 3\). 1 entry is empty"
    ):
        molecules = domain().read(path)
    assert [chemistry.is_valid(molecule) for molecule in molecules] == [True, False]


def test_lines_that_do_not_parse_are_counted_and_named_or_refused(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("CCO ethanol\nxyz\nC1CC\n\nCCN\n" + "bad\n" * 6)
    reading = files.read(path)
    assert len(reading.molecules) == 2
    assert reading.places == [1, 5]
    assert reading.report.startswith("8 of 10 entries could not be parsed, first 'xyz' (line 2), 'C1CC' (line 3)")
    assert reading.report.count("line") == 5
    assert reading.report.endswith("1 entry is empty.")
    with pytest.raises(AnydiffError, match="read without strict"):
        files.read(path, strict=True)


def test_a_users_file_is_reported_and_split(tmp_path):
    path = tmp_path / "mine.csv"
    lines = ["C" * n for n in range(1, 13)] + ["CC(=O)[O-].[Na+]", "C[Si]", "C" * 30, "CC", "bad"]
    path.write_text("id,SMILES\n" + "".join(f"{i},{s}\n" for i, s in enumerate(lines)))
    with pytest.warns(UserWarning, match="could not be parsed") as caught:
        train = MoleculeFile(path, "train", size=12)
    with pytest.warns(UserWarning, match="could not be parsed"):
        test = MoleculeFile(path, "test", size=12)
    text = str(caught[0].message)
    for part in (
        "1 of 17 entries could not be parsed",
        "Na+ is outside",
        "Si is outside",
        "more than 12",
        "it is there already",
    ):
        assert part in text, part
    assert (len(train), len(test)) == (11, 1)
    assert not set(train.smiles) & set(test.smiles)
    with pytest.raises(AnydiffError, match=r"at least 10 are needed.*12 molecules were left out: it has more than 2"):
        MoleculeFile(path, size=2)


def test_too_few_molecules_are_one_sentence_and_strict_names_what_is_wrong(tmp_path):
    path = tmp_path / "salts.smi"
    path.write_text("CCO.Cl\nCCO\nnonsense\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            AnydiffError, match=r"leaves 1 molecules.*1 molecule was left out: it has several fragments"
        ):
            MoleculeFile(path)
        with pytest.raises(AnydiffError, match=r"'nonsense' \(line 3\).*Repair them, or read without strict"):
            MoleculeFile(path, strict=True)


def test_data_of_another_vocabulary_are_refused_even_where_shapes_agree(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("\n".join("C" * n for n in range(1, 13)))
    options = f"path: {path}, types: [N, C, O, F, S, Cl, Br, N+, O-], condition: logp, condition_scale: [1.71, 1.45]"
    recipe = load_recipe("molecules/zinc", ["dataset.name=molecules/file", f"dataset.options={{{options}}}"])
    with pytest.raises(AnydiffError, match=r"has types = \('N', 'C'.*but domain 'molecules' says \('C', 'N'"):
        build_dataset(recipe, "train")


def test_files_that_are_none(tmp_path):
    with pytest.raises(AnydiffError, match="no such file"):
        files.read(tmp_path / "absent.smi")
    (tmp_path / "empty.smi").write_text("\n")
    with pytest.raises(FileFormatError, match="no molecule"):
        files.read(tmp_path / "empty.smi")
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="none called 'smiles'"):
        files.read(tmp_path / "columns.csv")
    (tmp_path / "garbage.sdf").write_text("garbage\n")
    with pytest.raises(
        FileFormatError, match=r"holds no molecule.*1 of 1 entries could not be parsed, first entry 1\."
    ):
        files.read(tmp_path / "garbage.sdf")
    (tmp_path / "binary.smi").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="is no text"):
        files.read(tmp_path / "binary.smi")


@pytest.mark.parametrize(("kind", "size", "train"), [(QM9, 9, 60_000), (ZINC, 20, 20_000)])
def test_the_bundled_sets_are_what_the_ledger_says(kind, size, train):
    data, test = kind("train"), kind("test")
    assert len(data) == train
    assert not set(data.smiles) & set(test.smiles)
    states, condition = data.batch(range(64))
    assert int(condition.mask.sum(1).max()) <= size
    names = [chemistry.canonical(molecule) for molecule in data.domain.decode(states, condition)]
    assert names == list(data.smiles[:64])
    with pytest.raises(UnknownNameError):
        kind("validation")
    with pytest.raises(AnydiffError, match="part='full'"):
        kind(path="x")


def test_the_full_set_is_split_without_overlap_even_where_stereochemistry_differs(tmp_path):
    path = tmp_path / "all.smi"
    chains = [head + "C" * n for head in "CNO" for n in range(9)]
    path.write_text("\n".join([*chains, "C[C@H](N)O", "C[C@@H](N)O"] * 2))
    train, test = (QM9(split, part="full", path=path) for split in ("train", "test"))
    assert not set(train.smiles) & set(test.smiles)
    assert len(train) + len(test) == len(chains) + 1
    with pytest.raises(UnknownNameError):
        QM9(part="half")


@pytest.mark.parametrize(
    ("kind", "row", "count", "held"), [(QM9, ledger.QM9, 130_831, 13_074), (ZINC, ledger.ZINC, 249_456, 6_894)]
)
def test_the_containers_hold_the_full_sets(kind, row, count, held):
    """The test split, a tenth; runs where ``anydiff data get`` has fetched the container."""
    if not is_cached(row):
        pytest.skip(f"{row.container.file} is not fetched")
    assert len(all_smiles(row.name.split("/")[1])) == count
    assert len(kind("test", part="full")) == held


def test_sizes_follow_the_histogram_and_the_sample_alone():
    counts = [0, 1, 0, 3]
    mask = sampled_mask(counts, 4, range(4000), 7)
    share = histogram(mask.sum(1), 4)
    assert share == pytest.approx([0, 0.25, 0, 0.75], abs=0.02)
    assert torch.equal(sampled_mask(counts, 4, [5, 17], 7), mask[[5, 17]])
    with pytest.raises(AnydiffError, match="one, not negative, for each of 1 to 5"):
        sampled_mask(counts, 5, [0], 0)
    assert sampled_mask(None, 3, [0, 1], 0).all()


def test_a_picture_shows_invalid_molecules_too(tmp_path):
    bad = chemistry.to_molecule([0, 3], np.array([[0, 2], [2, 0]]), TYPES)
    domain().draw([Chem.MolFromSmiles("c1ccccc1"), bad], tmp_path / "two.png", ["benzene", ""])
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_atoms_that_a_scaffold_does_not_have_are_refused():
    for atoms in ([0, 6], [-1], []):
        with pytest.raises(AnydiffError, match="must name some of the molecule's, 0 to 5"):
            domain().scaffold("c1ccccc1", atoms=atoms)


def test_a_scaffold_names_its_atoms_and_bonds():
    state, fixed = domain().scaffold("c1ccccc1", atoms=[0, 1, 2])
    spec = domain().spec
    leaves = spec.unpack(fixed[None])
    assert leaves["nodes"][0].any(dim=1).nonzero().flatten().tolist() == [0, 1, 2]
    assert leaves["edges"][0, :3, :3].all()
    assert not leaves["edges"][0, 3:].any()
    assert torch.equal(state, domain().encode(["c1ccccc1"])[0])

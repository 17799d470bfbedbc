"""Files of molecules and graphs: damaged ones are one sentence, endings say the format, unequal options are refused."""

from __future__ import annotations

import networkx as nx
import pytest
from rdkit import Chem

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset, codec_differences
from anydiff_molecules.domain import Molecules
from anydiff_molecules.graph_data import Community, GraphFile
from anydiff_molecules.graph_domain import Graphs
from anydiff_molecules.official import all_smiles

DEEP = b"<graphml>" + b"<a>" * 20000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.sdf", b""),
        ("blank.sdf", b"\n\n"),
        ("zeros.sdf", bytes(3000)),
        ("cut.sdf", Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).encode()[:120]),
        ("counts.sdf", b"\n\n\n999999999 -1  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n"),
        ("deep.smi", b"C(" * 30000 + b")" * 30000),
        ("wide.csv", b'smiles\n"' + b"C" * 300000 + b'"\n'),
        ("nul.csv", b"smiles\n\x00\x00\n"),
    ],
)
def test_damaged_files_of_molecules_are_one_sentence(tmp_path, name, content):
    """An empty SDF ended in a raw OSError."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=name):
        Molecules().read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("deep.graphml", DEEP),
        ("entity.graphml", b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 99 + b'">]><graphml>&b;</graphml>'),
        ("huge.g6", b"~~~~~~~~AAAA\n"),
        ("odd.g6", bytes(range(256))),
        ("empty.g6", b""),
    ],
)
def test_damaged_files_of_graphs_are_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=name):
        Graphs().read(tmp_path / name)


def test_a_folder_and_binary_text_are_one_sentence(tmp_path):
    (tmp_path / "binary.smi").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnydiffError, match=r"binary\.smi"):
        all_smiles("zinc", tmp_path / "binary.smi")
    with pytest.raises(AnydiffError, match="no such file"):
        Molecules().read(tmp_path)


@pytest.mark.parametrize(("domain", "object_"), [(Molecules(), Chem.MolFromSmiles("CC")), (Graphs(), nx.path_graph(3))])
@pytest.mark.parametrize("name", ["out.parquet", "out", "out.pdb"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path, domain, object_, name):
    """They held SDF and graph6 under any name."""
    with pytest.raises(AnydiffError, match="are written to a file that ends in"):
        domain.write([object_], tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("one", "two", "key"),
    [
        (Graphs(), Graphs(isolated="drop"), "isolated"),
        (Graphs(), Graphs(degrees=9), "degrees"),
        (Graphs(), Graphs(size=9), "size"),
        (Molecules(), Molecules(types=("N", "C", "O", "F", "N+", "O-", "C-")), "types"),
        (Molecules(condition="logp"), Molecules(), "condition"),
        (Molecules(condition="logp"), Molecules(condition="logp", condition_scale=(1, 2)), "condition_scale"),
    ],
)
def test_each_option_that_changes_the_numbers_is_in_the_codec(one, two, key):
    assert key in codec_differences(one, two)


def test_reading_back_is_the_same_for_data_and_samples(tmp_path):
    """Nodes without edges were dropped from samples and kept in the graphs they are compared with."""
    own = load_recipe("graphs/community-small", ["domain.options.isolated=keep"])
    assert build_dataset(own, "train").domain.isolated == "keep", "the recipe's domain is the data's"
    assert build_dataset(load_recipe("graphs/community-small"), "train").domain.isolated == "drop"
    assert Community(train=2, test=2, isolated="keep").domain.isolated == "keep"
    graph = nx.path_graph(4)
    graph.add_node(4)
    with pytest.warns(UserWarning, match=r"12 have nodes without edges.*domain.options.isolated=keep"):
        GraphFile([graph] * 12)
    assert len(GraphFile([graph] * 12, isolated="keep")) == 11

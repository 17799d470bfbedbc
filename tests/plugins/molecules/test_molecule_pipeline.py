"""The reference model as a user meets it: sizes, conditions, guidance, scaffolds, baselines, command line."""

from __future__ import annotations

import pytest
import torch

from anydiff.cli.main import run
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPCosine
from anydiff.pipeline import load
from anydiff.solvers import compile_plan
from anydiff.states import Conditioning
from anydiff_molecules import chemistry
from anydiff_molecules.baselines import marginal
from anydiff_molecules.cooled import CooledAncestral
from anydiff_molecules.data import QM9
from anydiff_molecules.domain import Molecules


@pytest.fixture(scope="module")
def pipeline():
    return load("molecules/qm9")


def test_most_molecules_are_valid(pipeline):
    molecules = pipeline.sample(64, nfe=25, seed=3)
    assert sum(map(chemistry.is_valid, molecules)) >= 48
    assert {molecule.GetNumAtoms() for molecule in molecules} <= set(range(1, 10))


def test_a_sample_depends_on_seed_and_index_alone(pipeline):
    whole = pipeline.sample_set(6, nfe=5, seed=1)
    part = pipeline.sample_set([4, 1], nfe=5, seed=1, batch_size=1)
    assert torch.equal(part.condition.mask, whole.condition.mask[[4, 1]])
    assert torch.allclose(part.states, whole.states[[4, 1]], atol=1e-4)


def test_sizes_can_be_asked_for(pipeline):
    mask = torch.arange(9) < torch.tensor([[3], [7], [9]])
    molecules = pipeline.sample(3, nfe=5, condition={"mask": mask})
    assert [molecule.GetNumAtoms() for molecule in molecules] == [3, 7, 9]
    with pytest.raises(AnydiffError, match=r"must be \[B, 9\]"):
        pipeline.sample(3, nfe=5, condition={"mask": mask[:, :8]})


def test_guidance_moves_log_p_the_way_that_was_asked(pipeline):
    means = {}
    for wanted in ("-1.5", "2.0"):
        drawn = pipeline.sample(32, nfe=12, condition={"logp": wanted}, guidance=2.0)
        values = [chemistry.property_of("logp", m) for m in drawn if chemistry.is_valid(m)]
        means[wanted] = sum(values) / len(values)
    assert means["2.0"] - means["-1.5"] > 1.0
    with pytest.raises(UnknownNameError):
        pipeline.sample(2, nfe=5, condition={"taste": "sweet"})


def test_a_scaffold_stays_as_it_is(pipeline):
    state, fixed = pipeline.domain.scaffold("C1CO1")
    drawn = pipeline.sample_set(8, nfe=8, known=state, known_mask=fixed)
    assert torch.equal(drawn.states[:, fixed], state[fixed].expand(8, -1))
    ring = chemistry.Chem.MolFromSmiles("C1CO1")
    for molecule in pipeline.domain.decode(drawn.states, drawn.condition):
        assert [molecule.GetAtomWithIdx(i).GetSymbol() for i in range(3)] == ["C", "C", "O"]
        assert all(molecule.GetBondBetweenAtoms(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in ring.GetBonds())


def test_a_scaffold_is_there_whatever_size_is_drawn(pipeline):
    """A sample of 3 nodes cannot hold a ring of 6: its size is raised, or refused where the caller asked for it."""
    state, fixed = pipeline.domain.scaffold("C1CCCCC1")
    small = torch.arange(9) < torch.tensor([[3], [8]])
    pipeline.domain.sample_mask, own = (lambda samples, seed: small), pipeline.domain.sample_mask
    try:
        drawn = pipeline.sample(2, nfe=3, known=state, known_mask=fixed)
    finally:
        pipeline.domain.sample_mask = own
    assert [molecule.GetNumAtoms() for molecule in drawn] == [6, 8]
    with pytest.raises(AnydiffError, match="fixes entries of node 3 of sample 0, but the mask leaves that node out"):
        pipeline.sample(2, nfe=3, known=state, known_mask=fixed, condition={"mask": small})


def test_the_command_line_completes_a_scaffold(tmp_path, capsys):
    out = tmp_path / "out.sdf"
    command = ["sample", "molecules/qm9", "--count", "2", "--nfe", "3", "--out", str(out), "--known"]
    assert run([*command, "C1CO1"]) == 0
    for molecule in Molecules().read(out):
        assert [atom.GetSymbol() for atom in molecule.GetAtoms()][:3] == ["C", "C", "O"]
        assert all(molecule.GetBondBetweenAtoms(i, j) for i, j in ((0, 1), (1, 2), (0, 2)))
    other = [*command[:-3], "--out", str(tmp_path / "other.sdf"), "--known"]
    assert run([*other, "C[Si]C"]) == 2
    assert "atom type Si is outside the vocabulary" in capsys.readouterr().err
    assert not (tmp_path / "other.sdf").exists()


def test_without_less_noise_the_cooled_chain_is_ddpm():
    path = VPCosine()
    one, two = (compile_plan(solver, path, 7) for solver in ("ddpm", CooledAncestral()))
    for left, right in zip(one.instructions, two.instructions, strict=True):
        assert [r for r, _ in getattr(left, "terms", ())] == [r for r, _ in getattr(right, "terms", ())]
        assert [c for _, c in getattr(left, "terms", ())] == pytest.approx([c for _, c in getattr(right, "terms", ())])
    with pytest.raises(AnydiffError, match="0 or more"):
        CooledAncestral(-0.1)


def test_the_marginal_baseline_knows_frequencies_and_nothing_else():
    data = QM9()
    states = marginal(data, Conditioning(), 300, 0)
    spec = data.spec
    mask = spec.mask_of(states)
    assert torch.equal(states, spec.project(states, mask))
    real, known = data.batch(range(2000))
    share = spec.unpack(states)["nodes"].sum((0, 1)) / mask.sum()
    wanted = spec.unpack(real)["nodes"].sum((0, 1)) / known.mask.sum()
    assert torch.allclose(share, wanted, atol=0.04)
    bonds, real_bonds = (spec.unpack(x)["edges"].sum((0, 1, 2)) / len(x) for x in (states, real))
    assert torch.allclose(bonds, real_bonds, rtol=0.15, atol=0.2), "and as many pairs without a bond"
    assert sum(map(chemistry.is_valid, data.domain.decode(states, Conditioning(mask=mask)))) < 150


def test_bad_input_ends_with_a_sentence_and_exit_code(tmp_path, capsys):
    out = tmp_path / "out.smi"
    assert run(["sample", "molecules/qm9", "--count", "2", "--condition", "logp=high", "--out", str(out)]) != 0
    assert "logp is 'high'" in capsys.readouterr().err
    assert not out.exists()

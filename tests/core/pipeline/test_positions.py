"""A model with an order, from training to files: domains, data sets and metrics see states, and the loop draws them."""

import pytest
import torch
from found import WAVES, found

from anydiff.autoregressive import BlockPlan
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.errors import AnydiffError
from anydiff.pipeline import Pipeline, load, train
from anydiff.pipeline.graph import export_graph
from anydiff.pipeline.positions import Positions
from anydiff.pipeline.quantise import refuse
from anydiff.pipeline.stream import StreamRequest, stream
from anydiff.recipes import load_recipe

CHANGES = [
    "network={name: acdit, options: {patch: 2, block: 2, width: 16, blocks: 1, heads: 2}}",
    "objective=block-denoising",
    "parametrization=data",
    "sampling.nfe=16",
    "training.steps=4",
    "training.ema_decay=0.5",
    "training.learning_rate=0.05",
]


@pytest.fixture(autouse=True)
def _waves(tmp_path_factory):
    with found("waves", WAVES, tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training of blocks of waves, as a run folder."""
    with found("waves", WAVES, tmp_path_factory):
        folder = tmp_path_factory.mktemp("blocks") / "run"
        train(load_recipe("waves/diffusion", CHANGES), folder)
    return folder


def test_a_network_with_an_order_is_drawn_by_the_loop(run):
    pipeline = load(run)
    plan = pipeline.plan(nfe=18)
    assert isinstance(plan, BlockPlan)
    assert [plan[group].nfe for group in range(4)] == [5, 5, 4, 4]
    assert plan.nfe == 18
    assert "4 groups, 18 NFE" in str(plan)
    told = []
    waves = pipeline.sample(3, nfe=18, callbacks=[lambda step: told.append((step.index, step.total, step.state.shape))])
    assert [wave.shape for wave in waves] == [(16,)] * 3
    assert told == [(call, 18, (3, 2, 1, 2)) for call in range(1, 19)]
    again = pipeline.sample_set(3, solver=BlockPlan.from_json(plan.to_json())).states
    assert torch.equal(again, pipeline.sample_set(3, nfe=18).states)
    assert again.shape == (3, 1, 16)
    assert pipeline.evaluate(8)["waves/energy"].value > 0


def test_a_sample_is_the_same_in_any_batch_and_calls_and_positions_are_counted(run):
    pipeline = load(run)
    whole = pipeline.sample_set(64).states
    assert torch.allclose(pipeline.sample_set([37]).states[0], whole[37], atol=1e-5)
    for size in (1, 5):
        assert torch.allclose(pipeline.sample_set(64, batch_size=size).states, whole, atol=1e-5)
    counting = CountingDenoiser(pipeline.denoiser).eval()
    pipeline.denoiser = counting
    pipeline.sample_set(6)
    assert (counting.calls, counting.rows, counting.positions) == (16, 96, 192)


def test_known_entries_are_kept_and_whole_blocks_are_shown_clean(run, recwarn):
    pipeline = load(run)
    known, mask = torch.linspace(-1, 1, 16).reshape(1, 16), torch.zeros(1, 16, dtype=torch.bool)
    mask[:, :8] = True
    made = pipeline.sample_set(4, known=known[None], known_mask=mask).states
    assert torch.equal(made[:, :, :8], known[:, :8].expand(4, 1, 8))
    assert not [each for each in recwarn if "exact law" in str(each.message)]
    told = []
    pipeline.sample_set(4, known=known[None], known_mask=mask, callbacks=[lambda step: told.append(step.index)])
    assert told == list(range(1, 9)), "given blocks are not drawn"
    mask[:, 9] = True
    made = pipeline.sample_set(4, known=known[None], known_mask=mask).states
    assert torch.equal(made[:, :, 9], known[:, 9].expand(4, 1))


def test_ensembles_are_streamed_chunk_by_chunk(run, tmp_path):
    pytest.importorskip("zarr")
    import zarr

    pipeline = load(run)
    stream(pipeline, tmp_path / "many.zarr", StreamRequest(6, chunk=4, seed=3))
    group = zarr.open_group(str(tmp_path / "many.zarr"), mode="r")
    (name,) = (name for name, array in group.arrays() if array.ndim > 2)
    wanted = pipeline.sample_set(6, seed=3).states
    assert torch.allclose(torch.as_tensor(group[name][:, 0]).reshape(wanted.shape), wanted, atol=1e-5)


def test_training_is_a_pure_function_of_its_settings(run, tmp_path):
    again = train(load_recipe("waves/diffusion", [*CHANGES, "training.micro_batch_size=3"]), tmp_path / "again")
    first, second = load(run).denoiser.state_dict(), again.denoiser.state_dict()
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
    assert isinstance(again.latent, Positions)


def test_latents_are_cut_into_positions_too(tmp_path):
    train(load_recipe("waves/codes", ["training.steps=2"]), tmp_path / "codes")
    changes = [*CHANGES, f"latent={tmp_path / 'codes'}", "network.options.patch=1"]
    pipeline = train(load_recipe("waves/diffusion", changes), tmp_path / "run")
    assert pipeline.denoiser.spec.shape == (4, 2, 1)
    assert pipeline.sample_set(2, nfe=2).states.shape == (2, 1, 16)
    known, mask = torch.zeros(1, 1, 16), torch.zeros(1, 16, dtype=torch.bool)
    mask[:, :8] = True
    made = pipeline.sample_set(2, nfe=2, known=known, known_mask=mask).states
    assert torch.equal(made[:, :, :8], torch.zeros(2, 1, 8))


def test_what_a_model_with_an_order_cannot_do_is_one_sentence(run):
    pipeline = load(run)
    waves = pipeline.sample(2)
    for call, message in (
        (lambda: pipeline.sample(1, nfe=3), "nfe is 3 for a whole sample of 4 groups"),
        (lambda: pipeline.sample(1, solver="adaptive-ode"), "needs a model that is drawn at once"),
        (lambda: pipeline.encode(waves), "needs a model that is drawn at once"),
        (lambda: pipeline.log_likelihood(waves), "needs a model that is drawn at once"),
        (lambda: pipeline.restore(waves[:1], operator="mask"), "needs a model that is drawn at once"),
        (lambda: pipeline.calibrate(), "a calibration of solvers needs a model that is drawn at once"),
        (lambda: pipeline.optimise(lambda x: x.sum(), 2), "guided optimisation needs a model that is drawn at once"),
        (lambda: refuse(pipeline), "quantisation needs a model that is drawn at once"),
        (lambda: pipeline.sample(1, nfe=4, solver=pipeline.plan()), "nfe is 4, but solver is a BlockPlan"),
        (lambda: pipeline.sample(start=torch.zeros(2, 8, 1, 2)), "begins each block at noise"),
    ):
        with pytest.raises(AnydiffError, match=message):
            call()
    with pytest.raises(AnydiffError, match="block is 3, but must divide the 8"):
        train(load_recipe("waves/diffusion", [*CHANGES, "network.options.block=3"]), run.parent / "none")
    assert not (run.parent / "none").exists()


def test_a_graph_of_a_sampler_that_goes_block_by_block_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Pipeline, "latent", None)  # which would be the reason else
    with pytest.raises(AnydiffError, match=r"draws a sample block by block.*--part network"):
        export_graph(load(run), tmp_path / "sampler.pt2", "torch-export", "sampler")
    assert list(tmp_path.iterdir()) == []

"""Networks of packed integers: which layers are found, what they say, what is refused, what is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anydiff.cli.app import run_application
from anydiff.compression import QuantiseOptions, between_ends, finite_set, integer
from anydiff.compression.quantised import Clock, Quantised, QuantisedLayer
from anydiff.compression.quantisers import min_max
from anydiff.compression.reconstruction import Effort, soften
from anydiff.compression.temporal import found_layers, inputs_of
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import load
from anydiff.pipeline.quantise import calibrated, quantise
from anydiff.states import ClassCondition, Conditioning, StateSpec

NEAREST = QuantiseOptions(rounding="nearest", samples=12)


@pytest.fixture(scope="module")
def calibration(pictures):
    return calibrated(pictures, NEAREST)


@pytest.fixture(scope="module")
def eight(pictures, calibration):
    return quantise(pictures, NEAREST, calibration)


def asked(rows=10):
    return {"condition": {"label": torch.arange(rows) % 10}, "seed": 3}


def test_the_calls_of_the_plan_are_recorded(pictures, calibration):
    """Every time of the plan, all classes, and the rows that guidance hides."""
    assert len(calibration.calls) == pictures.plan().nfe == 4
    assert calibration.times == sorted(calibration.times)
    finite = finite_set(calibration)
    rows = {
        (float(t), int(label), bool(there))
        for t, label, there in zip(
            finite.told, finite.condition.given["label"], finite.condition.presence("label"), strict=True
        )
    }
    assert len(rows) <= len(finite.x) < sum(len(call.x) for call in calibration.calls)
    assert {(label, there) for _, label, there in rows} >= {(label, True) for label in range(10)}
    assert any(not there for _, _, there in rows), "guidance asks without the condition too"


def test_layers_of_the_time_are_found(pictures, calibration):
    kinds = found_layers(pictures.denoiser.network, calibration)
    time = {name for name, kind in kinds.items() if kind == "time"}
    network = pictures.denoiser.network
    films = {name for name, _ in network.named_modules() if name.endswith("film")}
    assert time == films | {"conditioning.entry", "conditioning.exit"}
    kept = between_ends(kinds)
    assert set(kinds) - set(kept) == {"entry", "exit"}, "the first and the last layer stay as they are"


def test_temporal_features_are_bitwise_independent_of_the_state(pictures, calibration):
    network, call = pictures.denoiser.network, calibration.calls[1]
    one = inputs_of(network, call)
    two = inputs_of(network, replace(call, x=torch.randn(call.x.shape)))
    kinds = found_layers(network, calibration)
    for name, kind in kinds.items():
        same = all(map(torch.equal, one[name], two[name]))
        assert same == (kind != "state"), name


def test_layers_of_a_condition_alone_are_told_apart():
    pipeline = load("weather/gee")
    calibration = calibrated(pipeline, QuantiseOptions(samples=2))
    kinds = found_layers(pipeline.denoiser.network, calibration)
    assert {"time", "condition", "state"} == set(kinds.values())


def test_switched_off_the_network_is_the_same_bit_for_bit(pictures, calibration):
    call = calibration.calls[0]
    with torch.no_grad():
        before = call(pictures.denoiser.network)
        import copy

        network = copy.deepcopy(pictures.denoiser.network)
        soften(network, between_ends(found_layers(network, calibration)), 4, Clock())
        assert torch.equal(call(network), before)


def test_sixteen_bits_are_the_float(pictures, calibration):
    made = quantise(pictures, replace(NEAREST, weights=16, activations=16), calibration)
    assert made.denoiser.network.arithmetic == "dequantised"
    # The samples of the calibration: what others need beyond its ranges is cut off.
    condition = {"label": torch.arange(12) % 10}
    one, two = (each.sample_set(12, condition=condition, seed=0).states for each in (pictures, made))
    assert (one - two).abs().max() < 1e-4 * one.abs().max() + 1e-3
    assert (one - two).norm() < 1e-4 * one.norm()


def test_eight_bits_are_near_and_fewer_are_less_near(pictures, calibration, eight):
    reference = pictures.sample_set(10, **asked()).states
    errors = [(eight.sample_set(10, **asked()).states - reference).norm() / reference.norm()]
    for bits in (4, 2):
        made = quantise(pictures, replace(NEAREST, weights=bits), calibration)
        errors.append((made.sample_set(10, **asked()).states - reference).norm() / reference.norm())
    assert errors[0] < 0.1
    assert errors == sorted(errors)


@pytest.mark.skipif(not integer.available(), reason="this machine has no integer operators")
def test_integers_say_what_the_fallback_says(eight, calibration, monkeypatch):
    network, call = eight.denoiser.network, calibration.calls[0]
    assert network.arithmetic == "integer"
    with torch.no_grad():
        by_integers = call(network)
        monkeypatch.setattr(integer, "available", lambda: False)
        assert network.arithmetic == "dequantised"
        by_floats = call(network)
    # A sum that differs in its last digit may round to the next level further on: rare, and a step wide.
    assert (by_integers - by_floats).abs().mean() < 3e-3 * by_floats.abs().mean()


@pytest.mark.skipif(not integer.available(), reason="this machine has no integer operators")
@pytest.mark.parametrize("bits", [8, 5, 2])
@pytest.mark.parametrize("made", [torch.nn.Linear(6, 5), torch.nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False)])
def test_a_layer_by_integers_is_the_layer_by_floats(made, bits):
    layer = QuantisedLayer(made, bits, bits, None)
    layer.set_inputs([min_max(torch.tensor([-1.0, 3.0]), bits)])
    x = torch.randn(
        (7, 6) if isinstance(made, torch.nn.Linear) else (7, 6, 9, 9), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        assert torch.allclose(layer(x), layer._floating(x, *layer._inputs[0]), rtol=1e-4, atol=1e-4)
    assert layer._integer is not None


def test_the_gradient_reaches_the_state(eight, calibration):
    call = calibration.calls[0]
    x = call.x.clone().requires_grad_(True)
    replace(call, x=x)(eight.denoiser.network).square().sum().backward()
    assert x.grad.isfinite().all()
    assert bool(x.grad.any())


def test_rows_of_different_times(eight, calibration):
    """One call of two times says what two calls say."""
    network = eight.denoiser.network
    one, two = (calibration.calls[number].rows(torch.arange(2)) for number in (0, 2))
    with torch.no_grad():
        both = network(
            torch.cat([one.x, two.x]),
            torch.cat([one.told, two.told]),
            Conditioning.joined([one.condition, two.condition]),
        )
        apart = torch.cat([one(network), two(network)])
    assert torch.allclose(both, apart, rtol=1e-2, atol=2e-2 * float(apart.abs().max()))


def test_an_unlisted_time_is_refused(eight, calibration):
    call = calibration.calls[0].rows(torch.arange(2))
    network = eight.denoiser.network
    with pytest.raises(AnydiffError, match=r"was quantised for 4 times, and .* is none of them"):
        replace(call, told=call.told + 0.1)(network)
    assert network.clock.place is None
    with pytest.raises(AnydiffError, match="nfe"):
        eight.sample_set(10, nfe=5, **asked())
    with pytest.raises(AnydiffError, match="solver"):
        eight.sample_set(10, solver="edm", nfe=4, **asked())


def test_inner_times_of_a_solver_are_in_the_table(small):
    pipeline = small("trajectories/maze").with_changes(["sampling.solver=rho-kutta", "sampling.nfe=6"])
    made = quantise(pipeline, replace(NEAREST, samples=3))
    assert len(made.denoiser.network.table) == 5  # the second of two steps begins where the first one looked last
    reference = pipeline.like(pipeline.reference(3), 3)
    assert torch.isfinite(made.like(made.reference(3), 3).states).all()
    assert len(reference) == 3


def test_a_table_of_one_time_is_the_ordinary_range(pictures, calibration):
    """Of one time, scales by time are those of min and max over all that was seen."""
    only = replace(calibration, calls=calibration.calls[:1])
    layer = QuantisedLayer(torch.nn.Linear(3, 2), 8, 8, Clock(), times=1)
    values = inputs_of(pictures.denoiser.network, only.calls[0])["conditioning.exit"][0]
    layer.set_inputs([min_max(values, 8)])
    assert layer.x_scale.tolist() == min_max(values, 8).scale.tolist()


def test_scope_all_has_a_table_everywhere(pictures, calibration):
    made = quantise(pictures, NEAREST, calibration)
    sizes = {each.x_scale.numel() for each in made.denoiser.network.modules() if isinstance(each, QuantisedLayer)}
    assert sizes == {4}
    some = quantise(pictures, replace(NEAREST, scope="tib"), calibration)
    sizes = {each.x_scale.numel() for each in some.denoiser.network.modules() if isinstance(each, QuantisedLayer)}
    assert sizes == {1, 4}


def test_learned_rounding_is_nearer_than_the_nearest(pictures, calibration):
    """Of the calls that it was learned on, the temporal block and all blocks together."""
    call = calibration.calls[1]
    with torch.no_grad():
        reference = call(pictures.denoiser.network)
    errors = {}
    for way in ("nearest", "adaptive"):
        options = replace(
            NEAREST, weights=3, activations=12, rounding=way, rows=48, effort=Effort(iterations=60, batch=16)
        )
        made = quantise(pictures, options, calibration)
        with torch.no_grad():
            errors[way] = float((call(made.denoiser.network) - reference).norm() / reference.norm())
    assert errors["adaptive"] < 0.95 * errors["nearest"], errors


def test_a_file_is_small_and_loads_as_any_other(eight, pictures, tmp_path):
    path, whole = tmp_path / "q8.safetensors", tmp_path / "whole.safetensors"
    eight.save(path)
    pictures.save(whole)
    again = load(path)
    assert isinstance(again.denoiser.network, Quantised)
    assert again.recipe == eight.recipe
    assert torch.equal(again.sample_set(10, **asked()).states, eight.sample_set(10, **asked()).states)
    held = {name: each.dtype for name, each in again.denoiser.network.state_dict().items()}
    assert all(dtype == torch.uint8 for name, dtype in held.items() if name.endswith("packed"))
    assert path.stat().st_size < whole.stat().st_size


def test_the_original_is_not_touched(pictures, calibration, small):
    assert pictures.weights_hash == small("images/fashion").weights_hash
    assert not isinstance(pictures.denoiser.network, Quantised)


def test_what_cannot_be_quantised(eight, pictures, calibration):
    with pytest.raises(AnydiffError, match="is quantised already"):
        quantise(eight, NEAREST)
    with pytest.raises(AnydiffError, match="is an autoencoder"):
        quantise(load("volumes/brain-codes"), NEAREST)
    with pytest.raises(AnydiffError, match="made on another plan"):
        quantise(pictures.with_changes(["sampling.nfe=5"]), NEAREST, calibration)
    for name, value in (("weights", 1), ("activations", 17)):
        with pytest.raises(AnydiffError, match=f"{name} is {value}"):
            QuantiseOptions(**{name: value})
    for name in ("scope", "rounding"):
        with pytest.raises(UnknownNameError):
            QuantiseOptions(**{name: "other"})


def test_options_of_the_network_that_make_no_sense():
    spec = StateSpec.single((2,))
    good = {"network": {"name": "mlp", "options": {"width": 8, "blocks": 1}}, "layers": {}, "times": [0.0]}
    assert Quantised(spec, {"label": ClassCondition(2)}, **good)(torch.zeros(1, 2), torch.zeros(1)).shape == (1, 2)
    for changed, sentence in (
        ({"times": []}, "times is empty"),
        ({"scope": "some"}, "scope is 'some'"),
        ({"weights": 1}, "weights is 1"),
        ({"layers": {"nowhere": "state"}}, "layers names 'nowhere'"),
        ({"layers": {"norm": "state"}}, "layers names 'norm'"),
        ({"network": {"name": "quantised"}}, "must name the network"),
    ):
        with pytest.raises(AnydiffError, match=sentence):
            Quantised(spec, {}, **{**good, **changed})


def test_a_layer_out_of_its_call():
    layer = QuantisedLayer(torch.nn.Linear(3, 2), 8, 8, Clock(), times=2)
    with pytest.raises(AnydiffError, match="outside of a call"):
        layer(torch.zeros(1, 3))


def test_the_command(tmp_path, capfd):
    out = tmp_path / "q8.safetensors"
    command = ["quantise", "trajectories/maze", "--rounding", "nearest", "--samples", "4", "--out", str(out)]
    assert run_application([*command, "--set", "sampling.nfe=3"]) == 0
    assert "for 3 times" in capfd.readouterr().err
    before = out.read_bytes()
    assert run_application(command) == 2
    assert "exists" in capfd.readouterr().err
    assert out.read_bytes() == before
    assert run_application(["sample", str(out), "--cases", "2", "--nfe", "7"]) == 2
    assert "nfe" in capfd.readouterr().err
    assert run_application([*command[:-1], str(tmp_path / "q.safetensors"), "--weights", "1"]) == 2
    assert "weights is 1" in capfd.readouterr().err
    assert run_application(["quantise", str(out), "--out", str(tmp_path / "twice.safetensors")]) == 2
    assert "quantised already" in capfd.readouterr().err
    assert run_application(["cost", str(out), "--no-memory", "--batch", "2", "--seconds", "0.01"]) == 0
    assert "3,002,368" in capfd.readouterr().out

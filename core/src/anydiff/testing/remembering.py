"""Networks with an order: what is remembered is invisible, and no position sees what comes after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.past import Past, Written
from anydiff.errors import AnydiffError
from anydiff.paths import VPLinear
from anydiff.registry import Entry
from anydiff.states import Conditioning, positions_spec
from anydiff.testing.built import build_network
from anydiff.testing.kit import check
from anydiff.testing.networks import awake, network_inputs
from anydiff.testing.subject import Subject, require, skip

ROWS = 3
TOLERANCE = 1e-4


@check("network.remembers", "networks", optional=True)
def remembers(plugin: Subject, entry: Entry) -> None:
    """A network with an order draws each turn from its memory as in one masked pass over all positions.

    A memory that is rewound is as if nothing had been written, rows that are taken out go on by themselves, equal times
    of all positions are one time, and a turn depends on no clean position of its own or of a later turn.
    """
    network, spec = build_network(plugin, entry)
    order = getattr(network, "order", None)
    if order is None:
        skip("it has no order, so it is drawn at once and remembers nothing.")
    x, _, condition = network_inputs(awake(network), spec, ROWS)
    whole, denoiser = positions_spec(spec, order), _denoiser(network)
    require(denoiser.order == order, "the denoiser of the network has another order than the network.")
    generator = torch.Generator().manual_seed(3)
    noised, clean = order.cut.split(x), torch.randn(ROWS, *whole.shape, generator=generator)
    times = torch.linspace(0.2, 0.8, ROWS * order.length, dtype=torch.float64).reshape(ROWS, -1)
    with torch.no_grad():
        beside = Conditioning(condition.given, context=clean)
        masked = denoiser.predict(noised, times, "noise", beside)
        one = denoiser.predict(noised, times[:, 0], "noise", beside)
        each = denoiser.predict(noised, times[:, :1].expand_as(times), "noise", beside)
        require(torch.allclose(one, each, atol=TOLERANCE), "equal times of all positions differ from one time.")
        _no_leak(denoiser, noised, times, beside, masked)
        _cached(denoiser, (noised, clean, times), condition, masked)


def _denoiser(network: nn.Module) -> NetworkDenoiser:
    return NetworkDenoiser(network, VPLinear(), "noise")


def _no_leak(denoiser: NetworkDenoiser, noised: Tensor, times: Tensor, beside: Conditioning, masked: Tensor) -> None:
    """Change the clean positions from each turn on: the turn and those before it stay."""
    assert denoiser.order is not None
    assert beside.context is not None
    for turn, places in enumerate(denoiser.order.groups()):
        changed = beside.context.clone()
        for later in denoiser.order.groups()[turn:]:
            changed[:, later] += 1.0
        again = denoiser.predict(noised, times, "noise", Conditioning(beside.given, context=changed))
        require(
            torch.equal(again[:, places], masked[:, places]),
            f"turn {turn} depends on clean positions of its own turn or later ones; a position must see those of the "
            "turns before alone.",
        )


def _cached(
    denoiser: NetworkDenoiser, states: tuple[Tensor, Tensor, Tensor], condition: Conditioning, masked: Tensor
) -> None:
    """Turn by turn, with a detour that is rewound, and for some rows by themselves."""
    noised, clean, times = states
    assert denoiser.order is not None
    past, some = Past(ROWS), torch.tensor([2, 0])
    for turn, places in enumerate(denoiser.order.groups()):

        def predict(of: Past, rows: Tensor, turn: int = turn, places: Tensor = places) -> Tensor:
            here = (noised[rows][:, places], times[rows][:, places])
            return denoiser.with_past(of, places, turn).predict(*here, "noise", condition.rows(rows))

        everybody = torch.arange(ROWS)
        found = predict(past, everybody)
        require(
            torch.allclose(found, masked[:, places], atol=TOLERANCE),
            f"turn {turn} drawn from the memory differs from the masked pass by "
            f"{float((found - masked[:, places]).abs().max()):.2g}; remember must write what clean positions are in "
            "the masked pass.",
        )
        mark = past.mark()
        past.commit(Written(clean[:, places] + 1.0, places, turn))
        predict(past, everybody)
        try:
            past.rewind(mark)
        except AnydiffError as error:
            require(False, f"the memory cannot be rewound: {error}")
        require(torch.equal(predict(past, everybody), found), f"turn {turn} is another after the memory was rewound.")
        alone = predict(past.of_rows(some), some)
        require(torch.allclose(alone, found[some], atol=TOLERANCE), f"rows taken out differ at turn {turn}.")
        past.commit(Written(clean[:, places], places, turn))

"""What goes around a network (exits, a potential, a parametrisation) and hands on what that says of conditions."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from anydiff.states import Conditioning, Known, Order


class AroundNetwork(nn.Module):
    """A module around one network, whose answers to what samplers ask beside predictions are its own.

    Attributes:
        around: the attribute that holds the network.
    """

    around: ClassVar[str] = "network"

    @property
    def reads_conditions(self) -> tuple[str, ...] | None:
        """The conditions that the network says it reads; None where it does not say, and all count as read."""
        named = getattr(getattr(self, self.around), "reads_conditions", None)
        return None if named is None else tuple(named)

    @property
    def order(self) -> Order | None:
        """In which turns the network draws positions; None where it has no order."""
        return getattr(getattr(self, self.around), "order", None)

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """The condition as the network encodes it; as it is where the network does not."""
        encode = getattr(getattr(self, self.around), "encode_condition", None)
        return condition if encode is None else encode(condition)

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """What the network says it sees clean; None where it does not say."""
        seen = getattr(getattr(self, self.around), "seen_clean", None)
        return None if seen is None else seen(condition)

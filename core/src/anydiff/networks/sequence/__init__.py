"""Networks for sequences and grids of classes (and, later, of vectors): one trunk for all of them."""

from anydiff.networks.sequence.energy import TokenEnergy
from anydiff.networks.sequence.tokens import Tokens
from anydiff.networks.sequence.trunk import BlockOptions, Trunk

__all__ = ["BlockOptions", "TokenEnergy", "Tokens", "Trunk"]

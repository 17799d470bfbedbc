"""A wrapper in thirty lines that is no guidance: a network that does not know of mirrors is made to respect them.

For data whose mirror images along the last axis are as likely as they are. Try `anydiff --plugins-dir examples check
mirror_wrapper`, or `anydiff --plugins-dir examples sample images/fashion --guidance mirror_wrapper`.
"""

from dataclasses import dataclass

import torch

from anydiff import hookimpl
from anydiff.denoisers.wrappers import Wrapper
from anydiff.states import Conditioning


@hookimpl
def register_guidance(register):  # the kind of all that goes around a denoiser
    register("mirror_wrapper", "mean of the predictions of a state and its mirror image", "mirror_wrapper:Mirrored")


@dataclass(frozen=True)
class Mirrored(Wrapper):
    """F(x) <- (F(x) + M F(M x)) / 2 for every kind of prediction F, M the mirror; one call of twice the rows."""

    def predict(self, denoiser, x, t, kind, condition):
        times = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
        both = Conditioning.joined([condition, condition])
        seen, mirrored = denoiser.predict(torch.cat([x, x.flip(-1)]), times, kind, both).chunk(2)
        return (seen + mirrored.flip(-1)) / 2

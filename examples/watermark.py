"""Puts a watermark into samples of real numbers, whatever the domain, and finds it again: a weak pattern of signs.

Try `anydiff --plugins-dir examples sample images/fashion`; then `strength_in(states)` is near 1.
"""

import torch

from anydiff import hookimpl

STRENGTH = 0.02
"""Of the samples' own standard deviation."""


def pattern(like):
    """+1 or -1 per entry, always the same for one shape."""
    generator = torch.Generator().manual_seed(20_241)
    return torch.randint(0, 2, like.shape[1:], generator=generator).to(like) * 2 - 1


@hookimpl
def samples_ready(states):
    if not states.is_floating_point():  # a class (a token of a text) has no neighbour that differs a little
        return states
    return states + STRENGTH * states.std() * pattern(states)


def strength_in(states):
    """How much of the watermark is in the mean of ``states``; 1 is all of it, 0 none."""
    mark = pattern(states)
    return float((states.mean(0) * mark).mean() / (STRENGTH * states.std()))

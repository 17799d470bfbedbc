"""A trained network on another route of its path: other schedules, another order of what is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from anydiff.denoisers.network import NetworkDenoiser
from anydiff.errors import AnydiffError


def rerouted(denoiser: NetworkDenoiser, options: Mapping[str, Any]) -> NetworkDenoiser:
    """The same network on its path with other ``options``, ``{"route": "residual-first"}`` say.

    A network that is told all coefficients of the state, as on ``rddm``, serves every order in which they can be
    travelled; how well, training decides. One that is told the log-SNR alone learnt one coefficient for each, and knows
    no other.

    Raises:
        AnydiffError: the path has no such option, or the network was not told what the option decides.
    """
    path: Any = denoiser.path
    kind = type(path).__name__
    if not path.reroutes:
        raise AnydiffError(
            f"the network was told one number of the time on {path!r}, so it knows the states of this one route "
            f"alone and path={dict(options)} cannot be followed; train it on rddm, or with the path that you want."
        )
    for name, value in options.items():
        if name not in path.reroutes:
            raise AnydiffError(
                f"path changes {name} to {value!r}, but under a network that was trained on {kind} only "
                f"{', '.join(path.reroutes)} can be changed; train it anew, or leave {name} out."
            )
    made = NetworkDenoiser(
        denoiser.network,
        dataclasses.replace(path, **options),
        denoiser.native_kinds,
        denoiser.sigma_data,
        denoiser.spec,
    )
    made.training = denoiser.training
    return made

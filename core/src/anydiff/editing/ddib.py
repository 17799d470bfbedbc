"""DDIB: a sample flows to noise along the source's ODE, and back along the target's.

Su et al., "Dual diffusion implicit bridges for image-to-image translation", ICLR 2023 (arXiv 2203.08382), with the
probability-flow ODE solved adaptively: the latents are exact within the tolerance, whatever the solver of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from anydiff.denoisers.wrappers.present import PresentNodes
from anydiff.editing.method import Edit, EditMethod, Side
from anydiff.errors import AnydiffError
from anydiff.samplers import AdaptiveODE


@dataclass(frozen=True)
class DDIB(EditMethod):
    """The ODE to noise on the source's side and to data on the target's.

    Args:
        rtol: relative tolerance of a step of the ODE.
        atol: absolute tolerance, on a state of unit scale.
    """

    exact = True
    rtol: float = 1e-5
    atol: float = 1e-5

    def edited(self, edit: Edit) -> Tensor:
        """See :meth:`EditMethod.edited`.

        Raises:
            AnydiffError: a solver was named, though the ODE chooses its own steps.
        """
        if edit.travel.solver is not None:
            raise AnydiffError(
                f"solver is {edit.travel.solver!r}, but ddib solves the ODE adaptively; leave it out, or take the "
                "method 'edit-friendly', 'cycle-diffusion' or 'sdedit'."
            )
        ode = AdaptiveODE(rtol=self.rtol, atol=self.atol)

        def asked(side: Side) -> dict[str, Any]:
            present = [PresentNodes(edit.spec)] if edit.spec.has_absent_entries else []
            layers = [*side.guidance, *present]
            return {"guidance": layers, "condition": side.condition, "batch_size": edit.batch_size}

        latents = ode.encode(edit.source.denoiser, edit.clean.double(), **asked(edit.source))
        found = ode.decode(edit.target.denoiser, latents, **asked(edit.target))
        return found.to(edit.clean)

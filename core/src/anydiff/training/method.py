"""The face of a training method: which modules are trained, by which losses, in which order; and the simplest one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.objectives import Beside, Objective
from anydiff.training.examples import Examples
from anydiff.training.optimisers import Optimiser
from anydiff.training.settings import TrainingSettings

NETWORK = "network"
"""The name of the module and of the group of the denoiser's network, whose averaged weights a training leaves."""

Losses = Mapping[str, Mapping[str, Tensor]]
"""Group -> name of a term -> loss of each example [B]; a group's loss is the sum of its terms."""


@dataclass(frozen=True)
class Average:
    """A companion whose weights are the average of those of a trained module, as :class:`anydiff.training.EMA` has it.

    Attributes:
        module: holds the averages, for the method to call; as built as the trained module. It begins as its copy.
        of: the name of the trained module.
        decay: the greatest decay, in [0, 1).
    """

    module: nn.Module
    of: str
    decay: float


class TrainingMethod(ABC):
    """What a training does in a step. A subclass gives :meth:`step`, and what of the others is not as it is here.

    The loop owns everything else: examples, accumulation, devices, clipping (of each group by itself), optimisers,
    averages, checkpoints. A checkpoint holds all modules, averages and optimisers by name, so what a method keeps
    from step to step must be a parameter or a buffer of one of its :meth:`modules`. A method draws no random numbers
    of its own but from the examples' noise and from torch's generator, which is keyed by the step.

    Args:
        denoiser: what is trained, and sampled afterwards.
        objective: what the recipe minimises.
    """

    uses_progress = True
    """Whether a step depends on the share of the steps that is done; then a training cannot be made longer."""

    companions: Mapping[str, NetworkDenoiser] = {}
    """The frozen models that the recipe names; see :mod:`anydiff.training.companions`."""

    def __init__(self, denoiser: NetworkDenoiser, objective: Objective) -> None:
        self.denoiser = denoiser
        self.objective = objective
        objective.prepare(denoiser)

    @abstractmethod
    def step(self, examples: Examples, progress: float, groups: Sequence[str]) -> Losses:
        """The losses that move ``groups``, per example and unreduced.

        Args:
            examples: a batch, on the device.
            progress: the share of the steps that is done, in [0, 1).
            groups: one entry of :meth:`order`. The parameters of other groups are constants while this is called.

        Returns:
            ``{group: {name of a term: loss [B]}}`` for each of ``groups``.
        """

    def modules(self) -> Mapping[str, nn.Module]:
        """The modules that are trained, by name, always the same ones: ``network``, that of the denoiser, and those of
        the objective, which :meth:`groups` puts into the network's group."""
        return {NETWORK: self.denoiser.network, **self._of_objective()}

    def _of_objective(self) -> Mapping[str, nn.Module]:
        return {f"objective/{name}": module for name, module in self.objective.modules().items()}

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """The parameters that one optimiser moves, by group: disjoint, and all that can be trained; one per module,
        those of the objective's modules beside the network's."""
        trainable = {name: [p for p in each.parameters() if p.requires_grad] for name, each in self.modules().items()}
        for name in self._of_objective():
            trainable[NETWORK] = [*trainable.get(NETWORK, ()), *trainable.pop(name, ())]
        return {name: parameters for name, parameters in trainable.items() if parameters}

    def order(self) -> Sequence[Sequence[str]]:
        """Which groups move together, one entry after the other, in a step; by default all of them at once."""
        return [list(self.groups())]

    def optimiser(self, group: str, settings: TrainingSettings) -> Optimiser:
        """What moves ``group``; by default what the recipe says."""
        return settings.group_optimiser()

    def frozen(self) -> Mapping[str, nn.Module]:
        """Companions of the method's own that are never trained, by name. Resumption refuses other weights."""
        return {}

    def averages(self) -> Mapping[str, Average]:
        """Companions that follow a trained module (the target of a consistency loss), by name."""
        return {}

    def loss(self, examples: Examples) -> Tensor:
        """The objective's loss of each example [B], a mean over its noise levels: the sum of its terms."""
        first, *others = self.terms(examples).values()
        return sum(others, start=first)

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        """The terms of the objective's loss by name, each of each example [B], a mean over its noise levels."""
        clean, condition = examples.clean, examples.condition
        levels = len(examples.uniform) // len(clean)
        if levels > 1:
            condition = self.denoiser.encode_condition(condition).repeat(levels)
            clean = clean.repeat_interleave(levels, dim=0)
        noise, uniform = examples.noise, examples.uniform
        beside = Beside(self.companions, examples.coupling)
        terms = self.objective.terms(self.denoiser, clean, noise, uniform, condition, examples.draws, beside)
        if levels == 1:
            return terms
        return {name: loss.reshape(-1, levels).mean(dim=1) for name, loss in terms.items()}


class ObjectiveMethod(TrainingMethod):
    """The simplest method: the objective's loss moves the denoiser's network."""

    uses_progress = False

    def step(self, examples: Examples, progress: float, groups: Sequence[str]) -> Losses:
        """``{"network": terms}``: each term of the objective [B], one called ``loss`` where it has no others."""
        return {NETWORK: self.terms(examples)}


def checked_groups(method: TrainingMethod) -> dict[str, list[nn.Parameter]]:
    """The method's groups, as lists.

    Raises:
        AnydiffError: two groups share a parameter, a trainable parameter is in none, a parameter is of no module that
            is trained, a group is empty or does not move in a step, ``network`` is not the denoiser's, or a module of
            the objective is not trained.
    """
    what = f"the training method {type(method).__name__}"
    modules = method.modules()
    if modules.get(NETWORK) is not method.denoiser.network:
        raise AnydiffError(f"{what} does not train the denoiser's network as modules()['{NETWORK}']; name it so.")
    for own, module in method.objective.modules().items():
        if all(module is not each for each in modules.values()):
            raise AnydiffError(
                f"{what} does not train the module {own!r} of its objective; begin modules() with "
                "{**super().modules(), ...}."
            )
    names = {id(p): f"{module}.{name}" for module, each in modules.items() for name, p in each.named_parameters()}
    groups = {group: list(parameters) for group, parameters in method.groups().items()}
    seen: dict[int, str] = {}
    for group, parameters in groups.items():
        if not parameters:
            raise AnydiffError(f"the group {group!r} of {what} has no parameters; leave it out of groups().")
        for parameter in parameters:
            name = names.get(id(parameter))
            if name is None:
                raise AnydiffError(
                    f"the group {group!r} of {what} has a parameter of shape {tuple(parameter.shape)} that is in none "
                    f"of its modules ({', '.join(modules)}); add its module to modules()."
                )
            if id(parameter) in seen:
                raise AnydiffError(
                    f"the groups {seen[id(parameter)]!r} and {group!r} of {what} overlap: both have the parameter "
                    f"{name!r}; put it into one of them."
                )
            seen[id(parameter)] = group
    trainable = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    missing = [names[id(parameter)] for parameter in trainable if id(parameter) not in seen]
    if missing:
        raise AnydiffError(
            f"the groups of {what} miss {len(missing)} trainable parameter(s), the first of them {missing[0]!r}; put "
            "each into a group, or set its requires_grad to False."
        )
    _check_order(method, what, groups)
    return groups


def _check_order(method: TrainingMethod, what: str, groups: Mapping[str, object]) -> None:
    moved = [group for together in method.order() for group in together]
    for group in moved:
        if group not in groups:
            raise AnydiffError(f"the order of {what} names {group!r}, but its groups are {', '.join(groups)}.")
    for group in groups:
        if group not in moved:
            raise AnydiffError(f"the group {group!r} of {what} is not in its order, so nothing would move it; add it.")


def checked_losses(losses: Losses, groups: Sequence[str], rows: int, what: str) -> Losses:
    """The losses of a step.

    Raises:
        AnydiffError: losses of other groups than were asked for, of no term, or not one per example.
    """
    if set(losses) != set(groups):
        raise AnydiffError(
            f"a step of the training method {what} was asked for the losses of {', '.join(groups)}, but gave those of "
            f"{', '.join(losses) or 'none'}; give one entry for each."
        )
    for group, terms in losses.items():
        if not terms:
            raise AnydiffError(f"a step of the training method {what} gave no loss for the group {group!r}; name one.")
        for term, loss in terms.items():
            if tuple(loss.shape) != (rows,):
                raise AnydiffError(
                    f"the loss {term!r} of the group {group!r} of the training method {what} has shape "
                    f"{tuple(loss.shape)}, but must be ({rows},): one number per example, unreduced."
                )
    return losses

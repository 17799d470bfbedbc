"""Every hook a plugin can implement: the table of contents of what anydiff lets others change.

Registration, called once when the plugins are loaded, each with a ``register`` callable (see :class:`Register`):
    register_domains  register_datasets  register_networks  register_paths  register_solvers  register_operations
    register_samplers  register_guidance  register_operators  register_inverse_methods  register_edits
    register_calibrations  register_objectives  register_training_methods  register_metrics  register_recipes
    register_tasks  register_adapters  register_commands

Events, called for whoever listens; the answer is ignored. ``recipe`` is the resolved ``Recipe``:
    training_started  training_step  checkpoint_saved  sampling_step  evaluation_finished

Transforms, each given what the one before returned (``None`` leaves it as it is):
    transform_batch  wrap_denoiser  samples_ready

A plugin is a module (or an object) whose functions carry :data:`hookimpl` and one of these names. A function may take
any subset of the hook's arguments, by name. Order: implementations marked ``hookimpl(tryfirst=True)`` first, then the
others by plugin name, then those marked ``trylast=True``. Written with pluggy; wrappers are not supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["API_VERSION", "Register", "hookimpl"]  # and every hook below

API_VERSION = "2.3"
"""Version of the hooks below. A plugin may ask for a range in its module: ``ANYDIFF_API = ">=2.0,<3"``."""

hookspec = pluggy.HookspecMarker("anydiff")
hookimpl = pluggy.HookimplMarker("anydiff")

TRANSFORMS = frozenset({"transform_batch", "wrap_denoiser", "samples_ready"})
"""The hooks whose answer replaces their first argument."""


class Register(Protocol):
    """What every registration hook is given."""

    def __call__(self, name: str, help: str, reference: str, **metadata: Any) -> None:
        """Announce one thing without importing it.

        Args:
            name: the plugin's own name, or ``"<plugin>/..."``: the plugin ``images`` may register ``images/fashion``.
            help: one line, shown in lists.
            reference: ``"package.module:attribute"``, imported on first use and not before.
            metadata: facts for lists, as plain data (strings, numbers, booleans, lists, dicts).
        """


# Registration -------------------------------------------------------------------------------------------------------
@hookspec
def register_domains(register: Register) -> None:
    """Announce domains: codecs between native objects and states, each an ``anydiff.domains.domain.Domain``.

    Metadata: ``beside_codec=["colour"]`` names options that leave the meaning of numbers as it is; ``codec`` holds all
    others that the spec does not show. Example::

        register("weather", "fields on a latitude-longitude grid", "anydiff_weather.domain:Weather")
    """


@hookspec
def register_datasets(register: Register) -> None:
    """Announce data sets, built as ``build("datasets", name, split="train", **options)``.

    A data set whose constructor takes ``domain`` gets the recipe's :class:`~anydiff.domains.Domain` by that name (see
    :func:`anydiff.domains.kit.domain_of_data`).

    Metadata: ``ledger="package.module:ROW"`` names the :class:`anydiff.data.LedgerRow` (origin, licence, address,
    sha256) of data that are fetched by ``anydiff data get`` and not before. Example::

        register("weather/era5", "ERA5 at 5.6 degrees", "anydiff_weather.data:Era5")
    """


@hookspec
def register_networks(register: Register) -> None:
    """Announce networks, built as ``build("networks", name, spec=..., conditions=..., **options)``. Example::

    register("weather/sfno", "spherical Fourier operator", "anydiff_weather.networks:SFNO")
    """


@hookspec
def register_paths(register: Register) -> None:
    """Announce paths (how data becomes noise), each an ``anydiff.paths`` path. Example::

    register("weather/blur", "heat dissipation on the sphere", "anydiff_weather.blur:BlurPath")
    """


@hookspec
def register_solvers(register: Register) -> None:
    """Announce solvers. State ``order``, ``kind``, ``calls_per_step``, ``stochastic`` and ``source`` as metadata.

    Example::

        register("mine/leapfrog", "two-step leapfrog", "anydiff_mine:leapfrog",
                 order=2, kind="multistep", calls_per_step=1, stochastic=False, source="doi:10.1137/...")
    """


@hookspec
def register_operations(register: Register) -> None:
    """Announce named operations, ``f(*registers, t=time, **options) -> Tensor``, for what is not linear in the state.

    Row b of the answer depends on row b of the registers alone. A solver names it: ``program.apply("mine/clip", x,
    node=node, limit=3.0)``. Metadata: ``inputs=2`` where the signature does not tell how many registers it takes.

    Example::

        register("mine/clip", "clip what is far out", "anydiff_mine:clip")
    """


@hookspec
def register_samplers(register: Register) -> None:
    """Announce samplers that are no plans (adaptive steps, optimisers, outer loops): ``anydiff.samplers.Sampler``.

    They are chosen by name wherever a solver is. State ``stochastic`` and ``source`` as metadata. Example::

        register("mine/langevin", "annealed Langevin dynamics", "anydiff_mine:AnnealedLangevin",
                 stochastic=True, source="arXiv:1907.05600")
    """


@hookspec
def register_guidance(register: Register) -> None:
    """Announce guidance: functions from denoiser to denoiser, built as ``build("guidance", name, **options)``.

    ``anydiff sample --guidance``, a recipe's ``sampling.guidance`` and a suite's methods choose it by name. Metadata:
    ``neutral={options}`` that leave the sampler as it is; ``posterior=True`` where it samples the posterior of a
    linear-Gaussian problem; ``shapes=[[1, 24]]`` where it is made for states of these shapes alone.

    Example::

        register("mine/rescaled", "classifier-free guidance, rescaled", "anydiff_mine:Rescaled")
    """


@hookspec
def register_operators(register: Register) -> None:
    """Announce operators of measurements, built as ``build("operators", name, shape=spec.shape, **options)``.

    Each is an ``anydiff.inverse.operators.Operator``. State ``linear`` as metadata.

    Example::

        register("mine/footprint", "what a satellite sees", "anydiff_mine:Footprint", linear=True)
    """


@hookspec
def register_inverse_methods(register: Register) -> None:
    """Announce methods for inverse problems, ``anydiff restore --method``: each an ``anydiff.inverse.InverseMethod``.

    Metadata: ``kind`` (guidance, plan, optimiser), ``estimate`` (samples, point), ``takes`` (in words), ``source``,
    ``posterior=True`` where it is exact on linear-Gaussian problems.

    Example::

        register("mine/newton", "Gauss-Newton steps", "anydiff_mine:Newton", kind="optimiser", estimate="point")
    """


@hookspec
def register_edits(register: Register) -> None:
    """Announce methods that edit samples, ``anydiff edit --method``: each an ``anydiff.editing.EditMethod``.

    Metadata: ``takes`` (in words), ``source``, ``exact=True`` where the same on both sides gives them back. Example::

        register("mine/prompt", "attention of the source", "anydiff_mine:Prompt", exact=True, takes="any plan")
    """


@hookspec
def register_calibrations(register: Register) -> None:
    """Announce methods of calibration, ``anydiff calibrate --method``: each an ``anydiff.calibration.Method``.

    Its ``name`` is the registered one. Metadata: ``source``. Example::

        register("mine/orders", "the order of each step", "anydiff_mine:Orders", source="doi:10.1137/...")
    """


@hookspec
def register_objectives(register: Register) -> None:
    """Announce objectives: ``objective(denoiser, clean, noise, uniform, condition) -> loss[B]``.

    Terms of the objective ``sum`` (:class:`anydiff.objectives.Term`) are registered here, too.

    Metadata: ``network="name"`` where it trains a network of this name alone, ``parametrization="data"`` where a
    network must predict that kind, ``path="name"`` where it trains on a path of this name, ``heads={"label": 3}`` where
    a network must have heads of so many classes, ``coupled=True`` where the loss of an example depends on its batch.

    Example::

        register("mine/huber", "Huber loss on the noise", "anydiff_mine:Huber")
    """


@hookspec
def register_training_methods(register: Register) -> None:
    """Announce training methods: which modules are trained, by which losses, in which order, with which companions.

    Each is an ``anydiff.training.TrainingMethod``, built as ``build("training_methods", name, denoiser=...,
    objective=..., **options)``. A recipe chooses it by ``method``.

    Example::

        register("mine/adversarial", "a discriminator tunes the denoiser", "anydiff_mine:Adversarial")
    """


@hookspec
def register_metrics(register: Register) -> None:
    """Announce metrics: an object with ``.card`` and ``compute(samples, reference) -> float``.

    Example::

        register("weather/crps", "fair CRPS over members", "anydiff_weather.metrics:FairCRPS")
    """


@hookspec
def register_recipes(register: Register) -> None:
    """Announce recipes: named, complete experiments, each a function without arguments that returns a ``Recipe``.

    Metadata: ``weights="package:path"`` names bundled weights, a .safetensors file in the package. Example::

        register("weather/nowcast", "two-hour nowcast, 2 M parameters", "anydiff_weather.recipes:nowcast")
    """


@hookspec
def register_tasks(register: Register) -> None:
    """Announce benchmark tasks: ``domain/name@version``, a function without arguments that returns a frozen ``Task``.

    Metadata: ``suite="package:path"`` names the YAML file of a suite, which stands among the tasks; its reference is
    the function that reads it, ``anydiff_benchmarks.engine.suite:load_suite``. Example::

        register("weather/downscale@1", "downscale by four, ten members", "anydiff_weather.tasks:downscale")
    """


@hookspec
def register_adapters(register: Register) -> None:
    """Announce adapters of other libraries' networks, each an :class:`anydiff.adapters.Adapter`, built without options.

    ``packages`` are the import packages of the classes that it knows. Example::

        register("orchard/mine", "networks of the library mine", "anydiff_orchard.mine:Mine", packages=["mine"])
    """


@hookspec
def register_commands(register: Register) -> None:
    """Announce commands of ``anydiff``: a typer app, or a function that typer can turn into a command.

    Example, run as ``anydiff weather fetch``::

        register("weather", "fetch and inspect weather data", "anydiff_weather.cli:app")
    """


# Events -------------------------------------------------------------------------------------------------------------
@hookspec
def training_started(recipe: Any, folder: Path, denoiser: Any, step: int) -> None:
    """Told once before the first step of a training, or of its resumption at ``step`` > 0, the steps already done.

    ``recipe`` and ``folder`` are what is trained, and where; ``denoiser`` is the ``NetworkDenoiser`` in training.

    Example::

        @hookimpl
        def training_started(recipe, folder):
            writer.open(folder / "tensorboard")
    """


@hookspec
def training_step(recipe: Any, folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Told after each optimizer step of ``recipe`` that is logged, in the run's ``folder``.

    ``step`` counts from 1; ``values`` are what was logged: ``loss``, ``learning_rate``, ``samples_per_second``, ...

    Example::

        @hookimpl
        def training_step(step, values):
            writer.add_scalar("loss", values["loss"], step)
    """


@hookspec
def checkpoint_saved(recipe: Any, folder: Path, step: int) -> None:
    """Told after a checkpoint of ``recipe`` is complete in ``folder``, ``step`` optimizer steps done.

    Example::

        @hookimpl
        def checkpoint_saved(folder):
            upload(folder / "model.safetensors")
    """


@hookspec
def sampling_step(step: int, steps: int, time: float, state: Tensor) -> None:
    """Told after each network call of a sampler.

    Args:
        step: network calls made, from 1, for the chunk of samples at work.
        steps: network calls of the whole plan.
        time: the time at which the network was called.
        state: the state it saw, ``[B, *shape]``; valid during the call alone, so copy what you keep.

    Example::

        @hookimpl
        def sampling_step(step, state):
            frames.append(state[0].clone())
    """


@hookspec
def evaluation_finished(recipe: Any, folder: Path | None, values: Mapping[str, float]) -> None:
    """Told after an evaluation of ``recipe``: ``values`` by metric, ``folder`` where there is one.

    Example::

        @hookimpl
        def evaluation_finished(recipe, values):
            print(recipe.name, values)
    """


# Transforms ---------------------------------------------------------------------------------------------------------
@hookspec
def transform_batch(batch: tuple[Tensor, Any], recipe: Any, step: int, positions: Sequence[int]) -> Any:
    """Change a training batch before noise is added.

    Args:
        batch: states ``[B, *shape]`` float32 and what is given beside them (:class:`anydiff.states.Conditioning`).
        recipe: the resolved ``Recipe``.
        step: optimizer steps done.
        positions: the number of each example in the whole training.

    Returns:
        A batch of the same shapes, or ``None``. Use no global random numbers, and key random changes by ``positions``
        alone: then resumption, accumulation and the number of devices change nothing.

    Example::

        @hookimpl
        def transform_batch(batch, positions):
            states, condition = batch
            mirror = torch.tensor([position % 2 == 1 for position in positions])
            return torch.where(mirror.reshape(-1, 1, 1, 1), states.flip(-1), states), condition
    """


@hookspec
def wrap_denoiser(denoiser: Any, recipe: Any) -> Any:
    """Replace the denoiser that a pipeline samples with (caching, quantisation, counting).

    Args:
        denoiser: ``denoiser(x, t, condition) -> E[x0 | x_t]``; the answer has the same face, or is ``None``.
        recipe: the resolved ``Recipe``, or ``None`` when there is none.

    Example::

        @hookimpl
        def wrap_denoiser(denoiser):
            return Counted(denoiser)
    """


@hookspec
def samples_ready(states: Tensor, condition: Any, recipe: Any) -> Any:
    """Look at finished samples, or change them before they are decoded and returned.

    Args:
        states: ``[B, *shape]``; the answer has the same shape, or is ``None`` to leave them as they are.
        condition: what they were asked for with (:class:`anydiff.states.Conditioning`).
        recipe: the resolved ``Recipe``, or ``None`` when there is none.

    Example::

        @hookimpl
        def samples_ready(states):
            return states * watermark
    """

"""Sample sets larger than memory: members and cases streamed into a Zarr group, chunk by chunk, resumable after a kill.

The group is made whole (axes, coordinates, conditions, provenance) before the first sample is drawn; then each chunk of
samples is drawn and written to a file of its own, in order. Since sample k of a seed depends on nothing but (seed, k),
a job that was killed goes on at the first missing chunk and ends with the same bytes as one that was not.

Needs the extra ``scale`` (``pip install 'anydiff[scale]'``). The result opens with
``xarray.open_zarr(path, consolidated=False)``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anydiff.autoregressive import BlockPlan
from anydiff.data.reading import read_json
from anydiff.domains import HasCoordinates, HasLabelArrays, LabelledArray
from anydiff.errors import AnydiffError, FileFormatError, natural_number
from anydiff.files import atomic_folder
from anydiff.locks import Lock
from anydiff.optional import require
from anydiff.pipeline.conditions import Asked, number_of_cases
from anydiff.pipeline.pipeline import Pipeline
from anydiff.plugins.source import transforming_code
from anydiff.recipes.build import build_guidance
from anydiff.solvers.plan import Plan
from anydiff.states import Conditioning
from anydiff.states.conditions import hashed_names

if TYPE_CHECKING:
    import zarr

PROVENANCE = "anydiff"
"""The group's attribute that says what it holds and from which model; compared before a job is resumed."""


@dataclass(frozen=True)
class StreamRequest:
    """What a sample set larger than memory holds.

    Attributes:
        members: how many samples per case.
        condition: as for :meth:`Pipeline.sample`, one row per case; none makes one case.
        cases: how many there are; needed where the condition is text alone (default 1).
        labels: what tells the cases apart (:meth:`~anydiff.domains.NamesCases.labels`); stands beside the samples.
        chunk: samples per chunk, and rows per network call (with fewer members left, fewer).
        seed: whole number.
    """

    members: int
    condition: Asked | None = None
    cases: int | None = None
    labels: Sequence[Any] | None = None
    chunk: int = 256
    seed: int = 0


def stream(
    pipeline: Pipeline,
    path: str | Path,
    request: StreamRequest,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Path:
    """Draw the samples of ``request`` into the Zarr group ``path``; memory holds one chunk.

    Its arrays are those of the domain's :meth:`~anydiff.pipeline.Domain.arrays` with the axes ``member`` and ``case``
    before their own; sample indices are those of :meth:`~anydiff.pipeline.Pipeline.ensemble_set`. The condition stands
    beside them as ``condition_<name> [case, ...]``.

    Args:
        pipeline: what to sample.
        path: a new folder, conventionally ``*.zarr``.
        request: members, cases, chunks and seed.
        resume: go on with what stands at ``path`` (or begin, where nothing does).
        overwrite: replace what stands at ``path``.
        progress: called with (chunks done, chunks in all) at the start and after each chunk.
        options: as for :meth:`Pipeline.sample`: nfe, solver, guidance, temperature, device, ...

    Returns:
        ``path``.

    Raises:
        AnydiffError: ``path`` exists, or was begun with other settings, or another process writes it, or it cannot be
            written; zarr is missing.
    """
    require("zarr", "streaming samples", "anydiff[scale]")
    target = Path(path)
    job = _Job.of(pipeline, request, options)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from error
    with Lock(target.with_name(f".{target.name}.lock"), f"the sample set {str(target)!r}"):
        if target.exists() and overwrite and not resume:
            _remove(target)
        if not target.exists():
            job.create(target)
        elif resume:
            job.check(target)
        else:
            raise AnydiffError(f"{str(target)!r} exists; resume it, overwrite it, or choose another folder.")
        job.run(target, progress or (lambda done, total: None))
    return target


@dataclass
class _Job:
    pipeline: Pipeline
    members: int
    cases: int
    condition: Conditioning
    chunk: int
    seed: int
    labels: dict[str, LabelledArray]
    options: dict[str, Any]

    @classmethod
    def of(cls, pipeline: Pipeline, request: StreamRequest, options: dict[str, Any]) -> _Job:
        """The request with its conditions encoded and its numbers checked."""
        condition = {} if request.condition is None else request.condition
        cases, domain = number_of_cases(condition, request.cases, otherwise=1), pipeline.domain
        members, chunk = natural_number("members", request.members), natural_number("chunk", request.chunk)
        asked = pipeline.conditioning(condition, cases)
        named = domain.label_arrays(request.labels) if request.labels and isinstance(domain, HasLabelArrays) else {}
        return cls(pipeline, members, cases, asked, chunk, request.seed, named, options)

    @property
    def plan(self) -> Plan | BlockPlan:
        names = ("batch_size", "device", "temperature", "callbacks")
        return self.pipeline.plan(**{name: value for name, value in self.options.items() if name not in names})

    @property
    def temperature(self) -> float:
        """The factor on noise, one for all chunks: a chunk alone does not show that its cases are ensembles."""
        settings = self.pipeline.recipe.sampling
        given = self.options.get("temperature")
        return float(settings.temperature_of(given, self.members * self.cases, self.cases))

    @property
    def block(self) -> tuple[int, int]:
        """Members and cases per chunk: whole members where a chunk holds all cases, else part of one."""
        if self.cases <= self.chunk:
            return min(self.chunk // self.cases, self.members), self.cases
        return 1, self.chunk

    def provenance(self) -> dict[str, Any]:
        """Everything the bytes depend on."""
        recipe, plan = self.pipeline.recipe, self.plan
        guidance = self.options.get("guidance")
        layers = build_guidance(recipe.sampling.guidance if guidance is None else guidance)
        digest = hashlib.sha256()
        for name, value in hashed_names(self.condition).items():
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        for name, array in sorted(self.labels.items()):
            digest.update(f"{name}:{array.values.dtype}:{array.values.shape}:{array.attributes};".encode())
            digest.update(array.values.tobytes())
        return {
            "recipe": recipe.name,
            "recipe_hash": recipe.hash,
            "weights_hash": self.pipeline.weights_hash,
            "requires": {role: each.weights_hash for role, each in sorted(self.pipeline.companions.items())},
            "solver": plan.solver,
            "nfe": plan.nfe,
            "plan_hash": hashlib.sha256(plan.to_json().encode()).hexdigest(),
            "guidance": [re.sub(r" at 0x[0-9a-f]+", "", repr(layer)) for layer in layers],
            "temperature": self.temperature,
            "seed": self.seed,
            "members": self.members,
            "cases": self.cases,
            "chunk": self.chunk,
            "condition_hash": digest.hexdigest(),
            "transforms": {hook: transforming_code(hook) for hook in ("wrap_denoiser", "samples_ready")},
            "versions": {name: importlib.metadata.version(name) for name in ("anydiff", "torch", "zarr")},
        }

    def create(self, target: Path) -> None:
        """Make the group beside its place and move it there, so that it is whole or not there."""
        import zarr

        first = self.condition.rows(slice(1))
        domain = self.pipeline.domain
        layout = domain.arrays(torch.zeros(1, *domain.spec.shape), first)
        with atomic_folder(target) as folder:
            group = zarr.create_group(str(folder), attributes={PROVENANCE: self.provenance()})
            for name, array in layout.items():
                self._create_samples(group, name, array)
            axes = {"member": torch.arange(self.members), "case": torch.arange(self.cases)}
            extra = {name: LabelledArray(value.numpy(), (name,)) for name, value in axes.items()}
            for name, value in hashed_names(self.condition).items():
                dimensions = ("case", *(f"condition_{name}_{axis}" for axis in range(value.ndim - 1)))
                extra[f"condition_{name}"] = LabelledArray(value.cpu().numpy(), dimensions)
            extra.update(self.labels)
            places = domain.coordinates() if isinstance(domain, HasCoordinates) else {}
            for name, array in {**extra, **places}.items():
                _create_whole(group, name, array)

    def _create_samples(self, group: zarr.Group, name: str, array: LabelledArray) -> None:
        own = array.values.shape[1:]
        group.create_array(
            name,
            shape=(self.members, self.cases, *own),
            chunks=(*self.block, *own),
            dtype=array.values.dtype,
            fill_value=float("nan") if array.values.dtype.kind == "f" else 0,
            dimension_names=("member", "case", *array.dimensions),
            attributes=dict(array.attributes),
        )

    def check(self, target: Path) -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            FileFormatError: the folder is no such group.
            AnydiffError: it is, but of another job; names the first setting that differs.
        """
        try:
            before = read_json(target / "zarr.json")["attributes"][PROVENANCE]
        except (AnydiffError, KeyError, TypeError) as error:
            raise FileFormatError(
                f"{str(target)!r} is no sample set that can be resumed ({error!r}); choose another folder."
            ) from error
        for name, value in self.provenance().items():
            if before.get(name) != value:
                raise AnydiffError(
                    f"{name} is {value!r}, but {str(target)!r} was begun with {before.get(name)!r}; set it back to "
                    "resume, or choose another folder."
                )

    def run(self, target: Path, progress: Callable[[int, int], None]) -> None:
        """Draw and write the missing chunks in order."""
        import zarr

        for left in target.rglob("*.partial"):  # of a write that was killed; Zarr renames what is complete
            left.unlink()
        group = zarr.open_group(str(target), mode="r+")
        blocks = list(self._blocks())
        done = min(_complete(target / name) for name in self._names(group))
        progress(done, len(blocks))
        # An empty chunk is written too, since a chunk counts as done when its file exists.
        with zarr.config.set({"array.write_empty_chunks": True}):
            arrays = {name: _array(group, name) for name in self._names(group)}
            for number, (members, cases) in enumerate(blocks[done:], start=done + 1):
                values = self._draw(members, cases)
                try:
                    for name, array in values.items():
                        shape = (len(members), len(cases), *array.values.shape[1:])
                        arrays[name][members.start : members.stop, cases.start : cases.stop] = array.values.reshape(
                            shape
                        )
                except OSError as error:
                    raise _cannot_write(target, error) from error
                progress(number, len(blocks))

    def _draw(self, members: range, cases: range) -> dict[str, LabelledArray]:
        indices = [member * self.cases + case for member in members for case in cases]
        condition = self.condition.rows(slice(cases.start, cases.stop))
        own = {"cases": len(cases), "temperature": self.temperature}
        options = {"batch_size": self.chunk, **self.options, **own}
        samples = self.pipeline.sample_set(indices, seed=self.seed, condition=condition, **options)
        return self.pipeline.domain.arrays(samples.states, samples.condition)

    def _blocks(self) -> Iterator[tuple[range, range]]:
        for member in range(0, self.members, self.block[0]):
            for case in range(0, self.cases, self.block[1]):
                yield (
                    range(member, min(member + self.block[0], self.members)),
                    range(case, min(case + self.block[1], self.cases)),
                )

    def _names(self, group: zarr.Group) -> list[str]:
        """The arrays of samples: those with both axes."""
        named = {name: array.metadata.dimension_names or () for name, array in group.arrays()}  # type: ignore[union-attr]
        return sorted(name for name, axes in named.items() if tuple(axes[:2]) == ("member", "case"))


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]


def _complete(folder: Path) -> int:
    """How many chunks of an array are on disk; they were written in order."""
    return sum(1 for file in (folder / "c").rglob("*") if file.is_file())


def _create_whole(group: zarr.Group, name: str, array: LabelledArray) -> None:
    made = group.create_array(
        name,
        shape=array.values.shape,
        chunks=tuple(max(size, 1) for size in array.values.shape),
        dtype=array.values.dtype,
        dimension_names=array.dimensions,
        attributes=dict(array.attributes),
    )
    made[...] = array.values


def _remove(target: Path) -> None:
    """Remove an earlier group; anything else is left alone."""
    if not (target / "zarr.json").is_file():
        raise AnydiffError(f"{str(target)!r} is no Zarr group, so it is not overwritten; choose another folder.")
    shutil.rmtree(target)


def _cannot_write(target: Path, error: OSError) -> AnydiffError:
    reason = error.strerror or str(error)
    return AnydiffError(
        f"cannot write {str(target)!r}: {reason}; free some space or choose a folder you may write to, then resume."
    )

"""Metrics of molecules: validity in two definitions, uniqueness, novelty, distributions of properties and fragments.

Definitions are those of the GDSS evaluation where it has one; each card says whether anything is corrected. Shares are
over all samples unless the card says otherwise, so a model cannot gain by making fewer.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from anydiff.errors import AnydiffError
from anydiff.metrics import Metric, MetricCard, SampleSet, Uncertainty
from anydiff.registry import registry
from anydiff_molecules import chemistry, nspdk


def molecules_of(samples: SampleSet) -> list[Any]:
    """The decoded molecules, valid or not."""
    return samples.derived_rows("molecules", lambda each: each.domain.decode(each.states, each.condition))


class _Share(Metric):
    """A share of molecules, better when higher."""

    name: str
    version: str
    features = ""
    uncertainty: Uncertainty = "samples"

    @property
    def card(self) -> MetricCard:
        """Higher is better; between 0 and 1."""
        return MetricCard(
            self.name, "higher", "1", (0.0, 1.0), 1.0, 1, features=self.features, version=self.version,
            uncertainty=self.uncertainty,
        )  # fmt: skip

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """The share for the decoded samples."""
        self.check(samples, reference)
        return float(self.share(molecules_of(samples)))

    def share(self, molecules: Sequence[Any]) -> float:
        """The share among ``molecules``."""
        raise NotImplementedError


class Validity(_Share):
    """Molecules that pass RDKit's full sanitisation as they are; nothing corrected, no fragment dropped."""

    name = "molecules/validity"
    version = "1: full sanitisation of the whole molecule / all samples; no correction"

    def share(self, molecules: Sequence[Any]) -> float:
        """Valid / all."""
        return sum(map(chemistry.is_valid, molecules)) / len(molecules)


class Valency(_Share):
    """GDSS's validity without correction: valences alone."""

    name = "molecules/valency"
    version = "1: RDKit PROPERTIES sanitisation / all samples (GDSS's validity w/o correction)"

    def share(self, molecules: Sequence[Any]) -> float:
        """Molecules with valid valences / all."""
        return sum(map(chemistry.has_valid_valences, molecules)) / len(molecules)


class Corrected(_Share):
    """Molecules that are valid after GDSS's correction of valences and largest fragment; near 1 for any model."""

    name = "molecules/validity-corrected"
    version = "1: valid after lowering bonds of over-full atoms and keeping the largest fragment / all samples"

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Molecules that the correction makes valid / all."""
        self.check(samples, reference)
        return len(_repaired(samples)) / len(samples)


class Connected(_Share):
    """Valid molecules of one fragment."""

    name = "molecules/connected"
    version = "1: valid and one fragment / all samples; no correction"

    def share(self, molecules: Sequence[Any]) -> float:
        """Valid and connected / all."""
        return sum(chemistry.is_valid(m) and chemistry.is_connected(m) for m in molecules) / len(molecules)


class Uniqueness(_Share):
    """Distinct canonical SMILES among the valid molecules; depends on how many are drawn."""

    name = "molecules/uniqueness"
    uncertainty = "set"
    version = "1: distinct canonical SMILES without stereo / valid; 0 if none is valid"

    def share(self, molecules: Sequence[Any]) -> float:
        """Distinct / valid."""
        names = _names(molecules)
        return len(set(names)) / len(names) if names else 0.0


class Novelty(_Share):
    """Distinct valid molecules that are not in the training set.

    Args:
        dataset: the data set whose training split is meant.
        part: which part of it, where it has parts; None where it has none.
        options: its other options, the ``path`` of ``molecules/file`` say (which has no parts).
    """

    name = "molecules/novelty"
    uncertainty = "set"
    version = "1: distinct valid not in training / distinct valid; 0 if none is valid"

    def __init__(
        self, dataset: str = "molecules/qm9", part: str | None = "bundled", options: Mapping[str, Any] | None = None
    ) -> None:
        self.options = dict(options or {})
        self.dataset, self.part = dataset, None if dataset == "molecules/file" else part
        self.features = f"training split of {dataset}" + (f" ({self.part})" if self.part else "")

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """Canonical SMILES of the training split."""
        part = {"part": self.part} if self.part else {}
        with warnings.catch_warnings():  # what a user's file loses has been said when it was read for training
            warnings.simplefilter("ignore", UserWarning)
            data = registry().build("datasets", self.dataset, **self.options, **part, split="train")
        return frozenset(data.smiles)

    def share(self, molecules: Sequence[Any]) -> float:
        """Novel / distinct."""
        names = set(_names(molecules))
        return len(names - self.known) / len(names) if names else 0.0


class ValidUniqueNovel(Novelty):
    """Distinct valid molecules that are not in the training set, as a share of all samples."""

    name = "molecules/vun"
    uncertainty = "set"
    version = "1: distinct valid not in training / all samples"

    def share(self, molecules: Sequence[Any]) -> float:
        """Valid, unique and novel / all."""
        return len(set(_names(molecules)) - self.known) / len(molecules)


def _names(molecules: Sequence[Any]) -> list[str]:
    return [chemistry.canonical(molecule) for molecule in molecules if chemistry.is_valid(molecule)]


def _repaired(samples: SampleSet) -> list[Any]:
    """The samples as valid molecules, corrected where they are not: none is left out, so none is selected."""
    return _of_repaired(samples, "repaired molecules", lambda molecule: molecule)


def _of_repaired(samples: SampleSet, key: str, function: Callable[[Any], Any]) -> list[Any]:
    """``function`` of every corrected molecule of which something is left; ``key`` names the function."""

    def repaired(each: SampleSet) -> list[Any]:
        return [chemistry.corrected(molecule) for molecule in molecules_of(each)]

    def values(each: SampleSet) -> list[Any]:
        molecules = each.derived_rows("corrected molecules", repaired)
        return [None if molecule is None else function(molecule) for molecule in molecules]

    return [value for value in samples.derived_rows(key, values) if value is not None]


class _Property(Metric):
    """Wasserstein-1 distance between a property's distributions."""

    key: str
    unit: str

    @property
    def card(self) -> MetricCard:
        """Lower is better, in the property's unit."""
        version = "2: W1 to the held-out molecules; invalid samples corrected in canonical order"
        return MetricCard(f"molecules/{self.key}", "lower", self.unit, (0.0, math.inf), 0.0, 2, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Wasserstein-1 distance of the property between both sides, in the unit of the card."""
        self.check(samples, reference)
        values = [_of_repaired(each, self.card.name, self._value) for each in (samples, reference)]
        if not all(values):
            raise AnydiffError(f"{self.card.name} needs a molecule on either side, but none is left after correction.")
        return float(wasserstein_distance(*values))

    def _value(self, molecule: Any) -> float:
        return chemistry.property_of(self.key, molecule)


class LogP(_Property):
    """Distance of the distributions of Wildman-Crippen log P."""

    key, unit = "logp", "1"


class DrugLikeness(_Property):
    """Distance of the distributions of QED (Bickerton et al. 2012)."""

    key, unit = "qed", "1"


class Weight(_Property):
    """Distance of the distributions of molecular weight."""

    key, unit = "weight", "g/mol"


class NSPDKMMD(Metric):
    """Squared MMD with the neighbourhood subgraph pairwise distance kernel, see :mod:`anydiff_molecules.nspdk`."""

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        version = (
            "2: V-statistic; radius and distance up to 4, element, degree and whole bond order, shells and half "
            "features as EDeN takes them, not hashed; samples corrected in canonical order"
        )
        return MetricCard("molecules/nspdk-mmd", "lower", "1", (0.0, 2.0), 0.0, 2, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """|mean of samples' features - mean of the reference's|²: the V-statistic of a kernel with known features."""
        self.check(samples, reference)
        one = _mean_neighbourhoods(_of_repaired(samples, "neighbourhoods", nspdk.molecule_features))
        # Thousands of dictionaries would fill the memory: of the reference only their mean is kept.
        two = reference.derived(
            self.card.name, lambda each: _mean_neighbourhoods(map(nspdk.molecule_features, _repaired(each)))
        )
        return float(sum((one.get(key, 0.0) - two.get(key, 0.0)) ** 2 for key in one.keys() | two.keys()))


def _mean_neighbourhoods(features: Iterable[Mapping[nspdk.Feature, float]]) -> dict[nspdk.Feature, float]:
    found = iter(features)
    first = next(found, None)
    if first is None:
        raise AnydiffError("no molecule is left after correction, so there are no neighbourhoods to count.")
    return nspdk.mean(itertools.chain([first], found))


class FragmentMMD(Metric):
    """Squared MMD with a linear kernel on normalised counts of atom environments up to two bonds wide.

    The same kind of comparison as :class:`NSPDKMMD`, without pairs of neighbourhoods: several times as fast, and it
    weighs what is within two bonds alone. The numbers are not NSPDK's.
    """

    @property
    def card(self) -> MetricCard:
        """Lower is better."""
        version = (
            "2: V-statistic, linear kernel, L2-normalised Morgan counts (radius 2, 2048 bins), samples corrected in "
            "canonical order"
        )
        return MetricCard("molecules/fragment-mmd", "lower", "1", (0.0, 2.0), 0.0, 2, version=version)

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """|mean of samples' features - mean of the reference's|²: what a linear kernel's V-statistic is."""
        self.check(samples, reference)
        means = [each.derived(self.card.name, _mean_environments) for each in (samples, reference)]
        return float((means[0] - means[1]).square().sum())


def _mean_environments(samples: SampleSet) -> torch.Tensor:
    counts = _of_repaired(samples, "atom environments", _environment_counts)
    if not counts:
        raise AnydiffError("no molecule is left after correction, so there are no environments to count.")
    table = np.stack(counts).astype(np.float64)
    return torch.from_numpy(table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-12)).mean(dim=0)


def _environment_counts(molecule: Any) -> Any:
    """Counts ``[2048]`` of a molecule's Morgan environments."""
    return _environments().GetCountFingerprintAsNumPy(molecule)


@functools.cache
def _environments() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


class FCD(Metric):
    """Fréchet ChemNet distance (Preuer et al. 2018), by the package ``fcd-torch`` and its ChemNet weights."""

    @property
    def card(self) -> MetricCard:
        """Lower is better; biased upwards for few molecules."""
        return MetricCard(
            "molecules/fcd", "lower", "1", (0.0, math.inf), 0.0, 100, features="ChemNet of fcd-torch",
            version="1: valid molecules only; compare equal numbers of samples",
        )  # fmt: skip

    def compute(self, samples: SampleSet, reference: SampleSet) -> float:
        """Between canonical SMILES of the valid molecules of both sides."""
        self.check(samples, reference)
        from fcd_torch import FCD as FrechetChemNet

        sides = [_names(molecules_of(each)) for each in (samples, reference)]
        if min(map(len, sides)) < 2:
            raise AnydiffError("molecules/fcd needs at least 2 valid molecules on either side; look at the sampler.")
        return float(FrechetChemNet(device="cpu", n_jobs=1)(*sides))

"""What a domain offers beside the codec: told by having the method, asked for by the core, absent from the base."""

from __future__ import annotations

import pytest

from anydiff.domains import (
    Domain,
    Evaluates,
    FixesEntries,
    FixesParts,
    HasCoordinates,
    HasLabelArrays,
    HasUnits,
    LabelsSamples,
    MatchesCases,
    NamesCases,
    TakesObjects,
    TakesScaffold,
)
from anydiff.domains import protocols as module
from anydiff.registry import registry

METHODS = {
    FixesEntries: "known_entries", FixesParts: "fixes", TakesScaffold: "parse_known", HasCoordinates: "coordinates",
    Evaluates: "evaluate", NamesCases: "labels", LabelsSamples: "labelled", MatchesCases: "match",
    HasLabelArrays: "label_arrays", HasUnits: "in_units", TakesObjects: "encode_given",
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert set(METHODS) == {each for each in vars(module).values() if getattr(each, "_is_protocol", False)} - {
        module.Protocol
    }


@pytest.mark.parametrize(("protocol", "method"), METHODS.items(), ids=lambda value: str(value))
def test_a_protocol_is_its_method_and_some_domain_fulfils_it(protocol: type, method: str) -> None:
    assert not hasattr(Domain, method), "the base has what every domain needs"
    kinds = [registry().load("domains", entry.name) for entry in registry().entries("domains")]
    fulfilled = [kind for kind in kinds if hasattr(kind, method)]
    assert fulfilled
    assert len(fulfilled) < len(kinds)
    assert all(isinstance(object.__new__(kind), protocol) is (kind in fulfilled) for kind in kinds)

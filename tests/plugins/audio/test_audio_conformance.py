"""The audio plugin runs the kit that strangers' plugins do."""

from anydiff.testing import conformance

test_conformance = conformance("audio")

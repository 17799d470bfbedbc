"""The core's own solvers, paths, guidance and networks run the kit that strangers' do."""

from anydiff.testing import conformance

test_conformance = conformance("anydiff")

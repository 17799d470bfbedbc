"""The plugin runs the kit that strangers' plugins do; the networks of diffusers are needed for that."""

import importlib.util

import pytest

from anydiff.testing import conformance

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("diffusers is not installed (anydiff-adapters[diffusers])", allow_module_level=True)

test_conformance = conformance("adapters")

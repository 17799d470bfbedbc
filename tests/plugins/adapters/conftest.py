"""Tests that import other libraries by themselves find them as the plugin does."""

from anydiff_adapters.libraries import leave_broken_torchvision_out

leave_broken_torchvision_out()

"""Low-dimensional descriptions that steer a diffusion: codes of an autoencoder, drawn from a density of their own."""

from anydiff.representation.diffusevae import RefinedDataset, Refinement

__all__ = ["RefinedDataset", "Refinement"]

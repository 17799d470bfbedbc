"""VQ-Diffusion (Gu et al. 2022, arXiv:2111.14822) on codes of Fashion-MNIST: two recipes, the codec and the diffusion.

A codec (van den Oord et al. 2017, arXiv:1711.00937) makes a picture a grid of classes; a categorical diffusion with
masks and replacements draws such grids for a class. All mechanisms are the core's: the autoencoder with a codebook, the
path ``mask-and-replace``, the network ``tokens``.
"""

from __future__ import annotations

from anydiff.recipes import Recipe
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.recipes import feature_metrics

DOMAIN = {
    "name": "images",
    "options": {"channels": 1, "height": 28, "width": 28, "classes": list(FASHION_CLASSES)},
}


def fashion_vq_codes() -> Recipe:
    """The codec of ``images/vq-diffusion``: 28 x 28 pixels as 7 x 7 codes of 128, 343 bits in place of 6,272."""
    recipe = {
        "name": "images/fashion-vq-codes",
        "help": "autoencoder of Fashion-MNIST with a codebook: 7x7 codes of 128, for categorical diffusion",
        "domain": DOMAIN,
        "dataset": "images/fashion-mnist",
        "network": {
            "name": "autoencoder",
            "options": {"factor": 4, "channels": 32, "codebook": 128, "code_size": 8},
        },
        "path": "vp-cosine",
        "parametrization": "data",
        "sigma_data": 0.71,
        "objective": {"name": "reconstruction", "options": {"commitment": 0.25}},
        "training": {
            "steps": 1500,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "schedule": "cosine",
            "ema_decay": 0.99,
            "checkpoint_every": 250,
        },
        # An autoencoder draws nothing: named so that the recipe keeps the hash that models made with it require.
        "sampling": {"solver": "dpm-solver++-2m"},
        "metrics": feature_metrics("fashion-mnist"),
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def fashion_vq_codes_refit() -> Recipe:
    """The same codec with 64 codes: re-built and finetuned (ReFiT; Hu et al. 2022, arXiv:2112.01799).

    The encoder stays as it is, the codebook begins anew by k-means of its outputs, codebook and decoder are trained on.
    """
    changes = {
        "name": "images/fashion-vq-codes-refit",
        "help": "images/fashion-vq-codes with its codebook rebuilt at 64 codes (ReFiT)",
        "start": {
            "source": "images/fashion-vq-codes",
            "partial": True,
            "freeze": ["entry.*", "encoder.*", "down.*", "norm_latent.*", "to_latent.*"],
        },
    }
    recipe = {**fashion_vq_codes().model_dump(mode="json"), **changes}
    recipe["network"]["options"]["codebook"] = 64
    recipe["training"] |= {"steps": 500, "learning_rate": 1e-3}
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def vq_diffusion() -> Recipe:
    """Codes of Fashion-MNIST for a class: a tenth of what is lost is drawn anew, the rest becomes the mask.

    The published model ends at a share of masks of 0.9 and of replacements of 0.1; the released weights are masked
    alone, which is the path ``masked`` (``--set path=masked``).
    """
    recipe = {
        "name": "images/vq-diffusion",
        "help": "Fashion-MNIST, class-conditional, by categorical diffusion of 7x7 codes (VQ-Diffusion)",
        "domain": DOMAIN,
        "latent": "images/fashion-vq-codes",
        "dataset": "images/fashion-mnist",
        "network": {"name": "tokens", "options": {"width": 96, "blocks": 3, "heads": 4, "reads_time": True}},
        "path": {"name": "mask-and-replace", "options": {"masked": 0.9}},
        "parametrization": "logits",
        "objective": {"name": "discrete-bound", "options": {"steps": 100, "auxiliary": 5e-4}},
        "training": {
            "steps": 1500,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.995,
            "condition_dropout": 0.1,
            "checkpoint_every": 250,
        },
        "sampling": {
            "solver": "ancestral",
            "nfe": 16,
            "guidance": [{"name": "classifier-free", "options": {"scale": 2.0}}],
        },
        "metrics": feature_metrics("fashion-mnist"),
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")

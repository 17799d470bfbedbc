"""The image domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"
ANYDIFF_CHECK_OPTIONS = {"images/mmd": {"nfe": 2}, "images/coarse": {"network.options.density": "null"}}


@hookimpl
def register_domains(register: Register) -> None:
    """Pictures of one size."""
    register("images", "8-bit pictures of one size: grey, RGB or RGBA", "anydiff_images.domain:Images")
    register(
        "images/labelled", "the same, each with its label as a part of it", "anydiff_images.mt_diffusion:LabelledImages"
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """Fashion-MNIST, CIFAR-10, a user's own folder, and pairs of degraded and clean pictures."""
    register(
        "images/fashion-mnist",
        "Fashion-MNIST, 28x28 grey, 10 classes; 10,000 + 2,000 images bundled, all by path or container",
        "anydiff_images.data:FashionMNIST",
        ledger="anydiff_images.ledger:FASHION_MNIST",
    )
    register(
        "images/cifar10",
        "CIFAR-10, 32x32 RGB, 10 classes; by path or container",
        "anydiff_images.data:CIFAR10",
        ledger="anydiff_images.ledger:CIFAR10",
    )
    register("images/folder", "your own pictures, a sub-folder per class or none", "anydiff_images.folder:ImageFolder")
    pairs = "anydiff_images.rddm"
    register("images/degraded", "Fashion-MNIST or a folder, each with a degraded copy", f"{pairs}:DegradedImages")
    register("images/pairs", "your own pictures in two folders, clean and degraded", f"{pairs}:ImagePairs")
    register(
        "images/fashion-labelled",
        "Fashion-MNIST whose labels are a part of the pictures",
        "anydiff_images.mt_diffusion:LabelledFashion",
        ledger="anydiff_images.ledger:FASHION_MNIST",
    )
    register(
        "images/few-shot",
        "a few pictures without labels: ten drawings of Fashion-MNIST, or a folder",
        "anydiff_images.few_shot:FewShot",
        ledger="anydiff_images.ledger:FASHION_MNIST",
    )
    register(
        "images/fashion-plain",
        "the bundled Fashion-MNIST without its labels",
        "anydiff_images.diffusevae:PlainFashion",
        ledger="anydiff_images.ledger:FASHION_MNIST",
    )
    register("images/bridge", "two kinds of pictures as the ends of a bridge", "anydiff_images.bridge:ImageBridge")


@hookimpl
def register_metrics(register: Register) -> None:
    """Distances of features, precision and recall, and consistency with the class."""
    inception = "anydiff_images.ledger:INCEPTION"
    metrics = "anydiff_images.metrics"
    register(
        "images/frechet-distance",
        "Fréchet distance of features (classifier of this repository, or Inception where fetched)",
        f"{metrics}:FrechetDistance",
        ledger=inception,
    )
    register("images/kernel-distance", "unbiased kernel distance of features", f"{metrics}:KernelDistance")
    register("images/precision", "share of samples among the reference's features", f"{metrics}:Precision")
    register("images/recall", "share of the reference among the samples' features", f"{metrics}:Recall")
    register("images/class-consistency", "share of samples of the class asked for", f"{metrics}:ClassConsistency")
    agreement = "anydiff_images.mt_diffusion:LabelAgreement"
    register("images/label-agreement", "share of samples whose own label a classifier agrees with", agreement)
    fidelity = "anydiff_images.fidelity"
    register("images/psnr", "peak signal-to-noise ratio against the truth", f"{fidelity}:PSNR", paired=True)
    register("images/ssim", "structural similarity with the truth", f"{fidelity}:SSIM", paired=True)


@hookimpl
def register_objectives(register: Register) -> None:
    """Discrepancies of features of pictures."""
    register(
        "images/mmd", "discrepancy of a classifier's features of samples and data",
        "anydiff_images.discrepancy:ImageMMD", coupled=True,
    )  # fmt: skip


_RECIPES = (
    ("fashion", "Fashion-MNIST, class-conditional, 28x28", "recipes:fashion"),
    ("fashion-restore", "Fashion-MNIST from 4x4 averages at half intensity, in two network calls",
     "recipes:fashion_restore"),
    ("fashion-joint", "Fashion-MNIST, pictures with their labels", "mt_diffusion:fashion_joint"),
    ("fashion-vq-codes", "autoencoder of Fashion-MNIST with a codebook", "vq_diffusion:fashion_vq_codes"),
    ("vq-diffusion", "Fashion-MNIST by diffusion of its codes", "vq_diffusion:vq_diffusion"),
    ("codes", "autoencoder of Fashion-MNIST, 4x7x7 numbers", "acdit:codes"),
    ("fashion-bridge", "sneakers become ankle boots, unpaired", "bridge:fashion_bridge"),
    ("coarse", "codes of Fashion-MNIST: 16 numbers each, and their density", "diffusevae:coarse"),
    ("refined", "Fashion-MNIST: drawn codes, refined by a diffusion", "diffusevae:refined"),
    ("unrefined", "the unconditional twin of images/refined", "diffusevae:unrefined"),
)  # fmt: skip
"""Name, help and place of the recipes with weights, whose file has the recipe's name."""
_UNTRAINED = (
    ("cifar10", "CIFAR-10, class-conditional, 32x32", "recipes:cifar10"),
    ("fashion-mmd", "images/fashion tuned as a sampler of 4 calls", "recipes:fashion_mmd"),
    ("fashion-few-shot", "images/fashion adapted to ten drawings", "few_shot:fashion_few_shot"),
    (
        "fashion-vq-codes-refit",
        "images/fashion-vq-codes with 64 codes, rebuilt (ReFiT)",
        "vq_diffusion:fashion_vq_codes_refit",
    ),
    ("acdit", "Fashion-MNIST, block of latents by block of latents", "acdit:acdit"),
)


@hookimpl
def register_recipes(register: Register) -> None:
    """Fashion-MNIST and CIFAR-10."""
    for name, help_, place in _RECIPES:
        weights = f"anydiff_images:weights/{name}.safetensors"
        quick = {"quick": True} if name == "fashion" else {}
        register(f"images/{name}", help_, f"anydiff_images.{place}", weights=weights, **quick)
    for name, help_, place in _UNTRAINED:
        register(f"images/{name}", help_, f"anydiff_images.{place}")


@hookimpl
def register_tasks(register: Register) -> None:
    """Class-conditional Fashion-MNIST: a part of the samples for a laptop, and as many as there is held-out data."""
    register("images/inpaint@1", "the right half of a picture from its left half", "anydiff_images.tasks:inpaint")
    register("images/fashion@1", "class-conditional Fashion-MNIST, 28x28, 500 samples", "anydiff_images.tasks:fashion")
    register(
        "images/fashion-2k@1",
        "class-conditional Fashion-MNIST, 28x28, 2,000 samples",
        "anydiff_images.tasks:fashion_2k",
    )

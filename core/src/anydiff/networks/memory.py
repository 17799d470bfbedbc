"""How much memory a call of a network takes, told beforehand: nothing is allocated and nothing is computed.

The call is run on tensors that have shapes but no data. Every storage is counted from its creation to the moment the
last reference goes, which is when an allocator gets it back: parameters and buffers, inputs, results and everything in
between. Added is what a convolution keeps for itself while it runs on a CPU: oneDNN works on reordered copies of input
and output, frees that of the input, and only then is the result made from that of the output.

An allocator may keep more from the system than is asked of it: glibc's default one, which reuses freed pieces of its
heap, takes up to twice the estimate. ``MALLOC_MMAP_THRESHOLD_=65536`` in the environment makes it give back what is
freed, and the estimate is then what a process takes (the tests measure it so).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from anydiff.states import UNCONDITIONAL, Conditioning

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one call.

    Attributes:
        parameters: parameters and buffers.
        activations: most that is alive at one moment beside them: inputs, results and what lies between.
    """

    parameters: int
    activations: int

    @property
    def peak(self) -> int:
        """Parameters and activations together."""
        return self.parameters + self.activations


def estimate_memory(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    batch: int = 1,
    condition: Conditioning = UNCONDITIONAL,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
    told: int = 0,
) -> MemoryEstimate:
    """The peak memory of ``network(x, log_snr, condition)`` with ``x [batch, *shape]``.

    Args:
        network: of any size; its parameters are not touched. Made under ``torch.device("meta")`` it takes no memory.
        shape: of one state.
        batch: rows of the call.
        condition: with ``batch`` rows; of class conditions give soft labels, whose values are not looked at.
        training: with a backward pass, gradients of the parameters included.
        dtype: of the state.
        told: how many numbers the network is told of the time (``path.told_size``); 0 for one, the log-SNR.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        weights = {name: _fake(mode, tensor, tensor.requires_grad and training) for name, tensor in tensors.items()}
        inputs = {name: torch.empty(tuple(v.shape), dtype=v.dtype) for name, v in condition.tensors()}
        counted = _Counted(weights.values())
        with counted, torch.set_grad_enabled(training):
            x, log_snr = torch.empty(batch, *shape, dtype=dtype), torch.empty(batch, *[told] * bool(told))
            counted.add([x, log_snr, *inputs.values()])
            result = torch.func.functional_call(network, weights, (x, log_snr, Conditioning.from_tensors(inputs)))
            if training:
                torch.autograd.backward(result.float().square().mean())
    parameters = sum(map(_bytes, _distinct(tensors)))
    return MemoryEstimate(parameters, counted.most)


@torch.no_grad()
def counted_memory(network: nn.Module, x: Tensor, told: Tensor, condition: Conditioning) -> MemoryEstimate:
    """As :func:`estimate_memory`, by making the call: for networks whose work depends on values (sizes of graphs)."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    counted = _Counted(tensors.values())
    with counted:
        counted.add([x, told, *(value for _, value in condition.tensors())])
        network(x, told, condition)
    return MemoryEstimate(sum(map(_bytes, _distinct(tensors))), counted.most)


def _fake(mode: FakeTensorMode, tensor: Tensor, trained: bool) -> Tensor:
    with mode:
        made = torch.empty(tuple(tensor.shape), dtype=tensor.dtype)
    return made.requires_grad_(trained) if made.is_floating_point() else made


def _distinct(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Tensors without those that share another's storage."""
    return list({id(tensor): tensor for tensor in tensors.values()}.values())


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations make, now and at most; those of ``apart`` (and views of them) are not."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in apart}

    def add(self, values: Any) -> None:
        """Count the storages of the tensors in ``values`` that are not counted yet."""
        for tensor in tree_flatten(values)[0]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._known:
                    self._known.add(key)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.add(made)
        if func in _CONVOLUTIONS:
            results = [each for each in tree_flatten(made)[0] if isinstance(each, Tensor)]
            self.most = max(self.most, self.now + max(map(_bytes, [args[0], *results[:1]])))
        return made


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()

"""Batch normalisation after training: fold it into convolutions and take it out again, or compute its statistics."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leanpose.errors import InputError


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of a network for inference, whose batch norms are part of the convolutions before them.

    A norm is folded if all it normalises is one convolution or transposed convolution, or a sum of several, such as
    in the head of LitePose; it becomes `nn.Identity`. The convolutions get a bias. Other norms stay.

    Args:
        network: its forward must be one that `torch.fx` can trace; left as it is.

    Returns:
        A network of the same class in eval mode. Its outputs are those of `network` in eval mode, up to rounding.
    """
    folded = copy.deepcopy(network).eval()
    for name, convs in _foldable(folded).items():
        _fold(folded.get_submodule(name), [folded.get_submodule(conv) for conv in convs])
        folded.set_submodule(name, nn.Identity())
    return folded


def unfold_batch_norm(network: nn.Module, folded: nn.Module) -> None:
    """Give a network the values of its folded form: the inverse of `fold_batch_norm`.

    A norm that was folded into a convolution takes over the bias and does nothing else, its statistics being 0 and 1,
    which nobody has measured (`num_batches_tracked` is 0; see `measure_batch_norm`).

    Args:
        network: changed in place. Its outputs in eval mode become those of `folded`, up to rounding.
        folded: what `fold_batch_norm(network)` returned, with other values.
    """
    values = folded.state_dict()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in values:
                tensor.copy_(values[name])
        for name, convs in _foldable(network).items():
            norm = network.get_submodule(name)
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
            norm.reset_parameters()  # and statistics
            norm.running_var.fill_(1 - norm.eps)
            if network.get_submodule(convs[0]).bias is None:
                norm.bias.copy_(values[f"{convs[0]}.bias"])


def unmeasured_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch norms whose statistics are no measured ones, such as those of a network that was folded."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    return [norm for norm in norms if norm.num_batches_tracked is not None and norm.num_batches_tracked == 0]


def measure_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give all batch norms without measured statistics those of some batches, and weights and biases that undo them.

    So that a network whose norms were folded can be trained on: in eval mode it computes what it did before, up to
    rounding, and in train mode about the same.

    Args:
        network: on the device of the batches; its modes stay.
        batches: (B, 3, H, W) each, as the network takes them.

    Raises:
        InputError: there is no batch.
    """
    moments: dict[nn.Module, list[Tensor]] = {norm: [] for norm in unmeasured_norms(network)}

    def watch(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        var, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        moments[norm].append(len(inputs[0]) * torch.stack([torch.ones_like(mean), mean, var + mean.square()]).cpu())

    modes = [(module, module.training) for module in network.modules()]
    hooks = [norm.register_forward_pre_hook(watch) for norm in moments]
    network.eval()
    try:
        with torch.no_grad():
            for images in batches:
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    if moments and not any(moments.values()):
        raise InputError("Give at least one batch of images to measure the statistics of batch norms on.")
    for norm, sums in moments.items():
        if not sums:
            continue  # of a head that is for training only
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        assert norm.num_batches_tracked is not None
        count, total, squares = torch.stack(sums).double().sum(dim=0)
        mean = total / count
        var = (squares / count - mean.square()).clamp(min=0)
        with torch.no_grad():
            scale = norm.weight.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
            shift = norm.bias.cpu() - scale * norm.running_mean.cpu()
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.weight.copy_(scale * (var + norm.eps).sqrt())
            norm.bias.copy_(shift + scale * mean)
            norm.num_batches_tracked.fill_(len(sums))


def calibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch norms by the means of those of some batches.

    So that a network whose weights were changed, for example cut out of a larger one, can be evaluated. Nothing else
    changes: no weight, no gradient, no momentum, no mode. Layers other than batch norms run in eval mode.

    Args:
        network: on the device of the batches.
        batches: (B, 3, H, W) each, as the network takes them; all count alike, whatever their B.

    Raises:
        InputError: there is no batch; the statistics are then those of a new network.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches, not an exponential one
    num_batches = 0
    try:
        with torch.no_grad():
            for images in batches:
                network(images)
                num_batches += 1
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if not num_batches:
        raise InputError("Give at least one batch of images to compute the statistics of batch norms from.")


def _foldable(network: nn.Module) -> dict[str, list[str]]:
    """Name the batch norms that can be folded, and for each the convolutions whose sum it normalises."""
    modules = dict(network.named_modules())
    graph = fx.Tracer().trace(network)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")

    def summands(node: fx.Node) -> list[str]:
        """Names of the convolutions whose sum a node is, if nothing else uses it or them; else nothing."""
        if len(node.users) > 1:
            return []
        if node.op == "call_module" and calls[node.target] == 1:
            name = str(node.target)
            return [name] if isinstance(modules[name], nn.Conv2d | nn.ConvTranspose2d) else []
        if node.op == "call_function" and node.target is operator.add:
            parts = [summands(part) if isinstance(part, fx.Node) else [] for part in node.args]
            return [name for part in parts for name in part] if all(parts) else []
        return []

    foldable = {}
    for node in graph.nodes:
        norm = modules[node.target] if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or calls[node.target] > 1:
            continue
        names = summands(node.args[0])
        widths = {modules[name].out_channels for name in names}
        if len(set(names)) == len(names) and widths == {norm.num_features}:  # none added to itself, none broadcast
            foldable[str(node.target)] = names
    return foldable


def _fold(norm: nn.Module, convs: list[nn.Module]) -> None:
    """Make the sum of convolutions what it is after a batch norm in eval mode."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if norm.affine:
            shift = shift + norm.bias
        for index, conv in enumerate(convs):
            assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
            if isinstance(conv, nn.ConvTranspose2d):  # (in, out / groups, height, width), groups one after another
                of_groups = scale.view(conv.groups, 1, -1, 1, 1)
                weight = (conv.weight.unflatten(0, (conv.groups, -1)) * of_groups).flatten(0, 1)
            else:  # (out, in / groups, height, width)
                weight = conv.weight * scale[:, None, None, None]
            bias = None if conv.bias is None else conv.bias * scale
            if index == 0:  # the shift comes once into the sum
                bias = shift if bias is None else bias + shift
            dtype = conv.weight.dtype
            conv.weight = nn.Parameter(weight.to(dtype))
            conv.bias = None if bias is None else nn.Parameter(bias.to(dtype))

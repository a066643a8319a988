"""Where in a network a parameter lies: its head, and how far from the images everything else is."""

from __future__ import annotations

from typing import Any

from torch import nn

DEPTHS = 12  # of all that is not the head


def head_parts(network: nn.Module) -> list[str]:
    """Return the names of a network's parts that make the head: those named head or final, and the last of all."""
    parts = [name for name, part in network.named_children() if any(True for _ in part.parameters())]
    return [name for name in parts if name == parts[-1] or "head" in name or name.startswith("final")]


def depths(network: Any) -> dict[str, int]:
    """Return the depth of each parameter, 0 at the images, by its name as `named_parameters` gives it.

    A network that numbers its parameters itself (ViTPose by its blocks: `depth_of`, below `num_depths`) is believed.
    In all others, layers with kernels count in the order in which the network makes them, which is that from the
    images to the head: the first twelfth of them has depth 0, the next one 1, and so on. Norms, biases and factors have
    the depth of the layer before them. The head has depth DEPTHS.
    """
    names = [name for name, _ in network.named_parameters()]
    if hasattr(network, "depth_of"):
        return {name: network.depth_of(name) for name in names}
    head = set(head_parts(network))
    places, layers = {}, 0
    for name, parameter in network.named_parameters():
        if name.partition(".")[0] in head:
            continue
        layers += parameter.ndim > 1
        places[name] = max(0, layers - 1)
    return {name: DEPTHS * places[name] // layers if name in places and layers else DEPTHS for name in names}

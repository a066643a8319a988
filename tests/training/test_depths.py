"""How deep the parameters of every network lie, for learning rates that fall from the head to the images."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from support import one_layer, shapes_only

from leanpose.models import create_model
from leanpose.networks import NETWORKS
from leanpose.training.depths import DEPTHS, depths, head_parts


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_layer_is_at_depth_0_and_the_head_at_the_last(name: str) -> None:
    with shapes_only():
        network = create_model(name)
    found = depths(network)
    parameters = dict(network.named_parameters())
    assert found.keys() == parameters.keys()
    first = [key for key, values in parameters.items() if values.ndim == 4 and values.shape[1] == 3]  # of RGB
    assert [found[key] for key in first] == [0]
    last = getattr(network, "num_depths", DEPTHS + 1) - 1
    head = [key for part in head_parts(network) for key in parameters if key.partition(".")[0] == part]
    assert {found[key] for key in head} == {last}
    assert {*found.values()} == {*range(last + 1)}  # and nothing lies deeper
    keypoints = {key for key, values in parameters.items() if 17 in values.shape and key not in head}
    assert not [key for key in keypoints if key.endswith("bias")]  # heatmaps of the head alone


def test_norms_and_biases_are_as_deep_as_their_layer() -> None:
    with shapes_only():
        found = depths(create_model("rtmpose_s"))
    for key, depth in found.items():
        if key.endswith("bn.bias"):
            assert depth == found[key.replace("bn.bias", "conv.weight")]


def test_a_network_of_one_layer_is_all_head() -> None:
    assert {*depths(one_layer()).values()} == {DEPTHS}

"""The torch side of weights files: save, load, and convert published checkpoints."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from leanpose.errors import InputError, WeightsError, suggest
from leanpose.io.files import write_bytes
from leanpose.io.preflight import check_needs
from leanpose.keypoint_sets import KEYPOINT_SETS
from leanpose.models import create_model
from leanpose.weights.record import Weights

State = Mapping[str, torch.Tensor]

DATA_OF = {"coco": "COCO train2017", "mpii": "MPII Human Pose train", "crowdpose": "CrowdPose train and val"}
KEYPOINT_SET_OF = {17: "coco", 16: "mpii", 14: "crowdpose"}  # by the number of heatmaps

# How the published networks want their images, by the names of the models; a network that is built on one of them is
# none of them. LPN and SimpleBaseline are fed OpenCV's BGR with statistics in RGB order (LPN on MPII: RGB). All but
# ViTPose crop the classic way, and the top-down ones among them move the mirrored heatmap by one pixel. What LPN finds
# on MPII is moved back by one pixel of the image (TEST.BIAS of its configuration).
CHECKPOINTS: dict[tuple[str, ...], dict[str, Any]] = {
    ("lpn50", "lpn101", "lpn152"): {
        "convention": "classic",
        "channel_order": "bgr",
        "flip_shift": True,
        "codec": "beta_soft_argmax",
        "codec_options": {"sigma": 2.0, "beta": 160.0},
        "licence": "MIT (zhang943/lpn-pytorch)",
        "data": "{}",
        "recipe": "published checkpoint; the training script is not public",
    },
    ("simple_baseline_50", "simple_baseline_101", "simple_baseline_152"): {
        "convention": "classic",
        "channel_order": "bgr",
        "flip_shift": True,
        "codec": "heatmap",
        "codec_options": {"sigma": 2.0},
        "licence": "MIT (microsoft/human-pose-estimation.pytorch)",
        "data": "ImageNet, {}",
        "recipe": "published checkpoint",
    },
    ("hrnet_w32", "hrnet_w48"): {
        "convention": "classic",
        "flip_shift": True,
        "codec": "heatmap",
        "codec_options": {"sigma": 2.0},
        "licence": "MIT (leoxiaobin/deep-high-resolution-net.pytorch)",
        "data": "ImageNet, {}",
        "recipe": "published checkpoint",
    },
    ("vitpose_s", "vitpose_b"): {
        "convention": "udp",
        "codec": "udp",
        "codec_options": {"sigma": 2.0},
        "licence": "Apache-2.0 (ViTAE-Transformer/ViTPose)",
        "data": "ImageNet (MAE), {}",
        "recipe": "published checkpoint",
        "note": "trained with one scale for the height of a crop and another for its width; at 256x192 the second is "
        "0.13 % smaller than the one scale that is used here",
    },
    ("litepose_xs", "litepose_s", "litepose_m", "litepose_l"): {
        "convention": "classic",
        "codec": "associative_embedding",
        "licence": "MIT (mit-han-lab/litepose)",
        "data": "{}",
        "recipe": "published checkpoint, started from a supernet",
    },
}
LAST_LAYERS = {  # one output channel per keypoint
    *("final_layer.weight", "final_refined.1.conv.3.weight", "keypoint_head.final_layer.weight"),
}


def save_network(path: str | Path, network: torch.nn.Module, weights: Weights, half: bool = False) -> None:
    """Write a network's state and its record to a .safetensors file, whole or not at all.

    Args:
        half: store matrices and kernels as float16 (vectors, such as normalisation statistics, stay float32).
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: t.half() if t.is_floating_point() and t.ndim > 1 else t for name, t in state.items()}
    write_bytes(path, save(state, weights.to_metadata()))


def read_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a .safetensors file."""
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}; check the path.") from None
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a usable safetensors file ({error}).") from None


def load_network(path: str | Path) -> tuple[torch.nn.Module, Weights]:
    """Build the network that a .safetensors file names and load it, in evaluation mode, float32."""
    state, metadata = read_state(path)
    weights = Weights.from_metadata(metadata, Path(path).name)
    network = create_model(weights.model, len(weights.keypoint_set), **weights.model_options)
    load_state(network, state, Path(path).name)
    return network.eval(), weights


def load_state(network: torch.nn.Module, state: State, where: str) -> None:
    """Load a state dict strictly; a leading "module." of the names is dropped.

    Args:
        where: name of the file, for messages.

    Raises:
        WeightsError: a tensor is missing, left over, or of another shape.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    wanted = network.state_dict()
    faults = (
        [f"lacks {name}" for name in wanted if name not in state]
        + [f"has {name} too many" for name in state if name not in wanted]
        + [
            f"has {name} of shape {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state and state[name].shape != wanted[name].shape
        ]
    )
    if faults:
        more = f" ({len(faults)} such differences)" if len(faults) > 1 else ""
        raise WeightsError(f"{where} does not fit the network: it {faults[0]}{more}; choose the model it was made by.")
    network.load_state_dict(state)


def convert(
    checkpoint: str, *, model: str, out: str, input_size: tuple[int, int] = (256, 192), keypoint_set: str = ""
) -> Weights:
    """Turn a published checkpoint (.pth) into a leanpose .safetensors file.

    The file is read without running any code that it may hold.

    Args:
        checkpoint: file of the official repository, a state dict with or without "module." before the names.
        model: name of the network, for example "lpn50".
        out: .safetensors file to write.
        input_size: height and width that the weights were trained for.
        keypoint_set: "coco", "mpii" ...; empty: found from the number of heatmaps.
    """
    published = {name: settings for names, settings in CHECKPOINTS.items() for name in names}
    if model not in published:
        raise WeightsError(f"No published checkpoints of '{model}' are known.{suggest(model, published)}")
    if Path(out).suffix != ".safetensors":
        raise InputError(f"The output must end in .safetensors, not {Path(out).name}.")
    state = _read_pickle(checkpoint)
    check_needs(places=(out,), megabytes=sum(tensor.nbytes for tensor in state.values()) / 1e6)
    last = [tensor for name, tensor in state.items() if name.removeprefix("module.") in LAST_LAYERS]
    num_keypoints = len(last[0]) if last else 17
    named = keypoint_set or KEYPOINT_SET_OF.get(num_keypoints, "coco")
    if named not in KEYPOINT_SETS:
        raise InputError(f"There is no keypoint set '{named}'.{suggest(named, KEYPOINT_SETS)}")
    if len(KEYPOINT_SETS[named]) != num_keypoints:
        raise WeightsError(f"{Path(checkpoint).name} finds {num_keypoints} keypoints, which the set '{named}' has not.")
    settings = published[model] | {"data": published[model]["data"].format(DATA_OF.get(named, named))}
    if model.startswith("lpn") and named == "mpii":
        settings |= {"channel_order": "rgb", "bias": 1.0}
    weights = Weights(
        name=f"{model}.{named}_{input_size[0]}x{input_size[1]}_published",
        model=model,
        input_size=input_size,
        keypoint_set=KEYPOINT_SETS[named],
        **settings,
    )
    network = create_model(model, num_keypoints)
    load_state(network, state, Path(checkpoint).name)
    save_network(out, network, weights)
    return weights


def _read_pickle(path: str) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version of the pickle
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}; check the path.") from None
    except Exception as error:  # what is no pickle, or half of one, raises errors of many kinds
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise WeightsError(
                f"{path} holds more than tensors, perhaps code, and was not loaded; ask its author for a plain state "
                "dict."
            ) from None
        raise WeightsError(f"{path} is not a usable checkpoint: damaged, or not written by torch.save.") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    entries = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in entries):
        raise WeightsError(f"{path} holds no state dict: a mapping from names to tensors.")
    return content

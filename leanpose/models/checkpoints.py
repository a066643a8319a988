"""The torch side of weights files: save, load, and convert published checkpoints."""

from __future__ import annotations

import dataclasses
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
from leanpose.keypoint_sets import KEYPOINT_SETS, KeypointSet, mapping
from leanpose.models import create_model
from leanpose.models.onnx_layers import read_onnx_layers
from leanpose.networks import NETWORKS
from leanpose.weights.catalogue import read_record
from leanpose.weights.record import METADATA_KEY, Weights

State = Mapping[str, torch.Tensor]

DATA_OF = {"coco": "COCO train2017", "mpii": "MPII Human Pose train", "crowdpose": "CrowdPose train and val"}
KEYPOINT_SET_OF = {26: "halpe26", 17: "coco", 16: "mpii", 14: "crowdpose"}  # by the number of keypoints

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
    ("rtmpose_t", "rtmpose_s", "rtmpose_m", "rtmpose_l"): {
        "convention": "classic",
        "codec": "simcc",
        "licence": "Apache-2.0 (open-mmlab/mmpose)",
        "data": "{}, perhaps further sets",
        "recipe": "published checkpoint",
    },
}
LAST_LAYERS = {  # one output channel per keypoint
    *("final_layer.weight", "final_refined.1.conv.3.weight", "keypoint_head.final_layer.weight"),
    "head.final_layer.weight",
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
    """Build the network that a file names and load it, in evaluation mode, float32.

    Args:
        path: .safetensors, or .onnx in float32 with a record of its own or in the table of public weights, whose norms
            are put back as `leanpose.models.batch_norm.unfold_batch_norm` says.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        weights = read_record(path)
        if weights.model not in NETWORKS:
            raise WeightsError(f"{path.name} is of the network {weights.model}, which is none of ours: only run it.")
        weights = dataclasses.replace(weights, model_options=_with_size(weights))
        network = create_model(weights.model, len(weights.keypoint_set), **weights.model_options).eval()
        read_onnx_layers(network, path, weights.input_size)
        return network, weights
    state, metadata = read_state(path)
    weights = Weights.from_metadata(metadata, path.name)
    network = create_model(weights.model, len(weights.keypoint_set), **weights.model_options)
    load_state(network, state, path.name)
    return network.eval(), weights


def _with_size(weights: Weights) -> dict[str, Any]:
    """Return the options of a record's network, with its input size if it is made for one that is not the default."""
    with torch.device("meta"):
        made_for = getattr(create_model(weights.model, **weights.model_options), "input_size", weights.input_size)
    size = {} if made_for == tuple(weights.input_size) else {"input_size": list(weights.input_size)}
    return dict(weights.model_options) | size


def load_start(network: torch.nn.Module, path: Path, record: Weights) -> None:
    """Load the weights of a file into a network that may find other keypoints than they do.

    What belongs to one keypoint, such as a row of the last layer, is taken from the keypoint of the same name in the
    file, and stays as it is in the network where there is none. Of another network of the same family (sfm for
    sfm_persons) everything but the heads is taken.

    Args:
        path: as of `load_network`; of .safetensors, tensors without a record will do.
        record: of the network.

    Raises:
        WeightsError: the file cannot be read, or is of another network.
    """
    if path.suffix == ".onnx":
        source, theirs = load_network(path)
        state = source.state_dict()
    else:
        state, metadata = read_state(path)
        theirs = Weights.from_metadata(metadata, path.name) if METADATA_KEY in metadata else record
    if theirs.model != record.model and _family(theirs.model) == _family(record.model):
        own = network.state_dict()
        state = {name: tensor for name, tensor in state.items() if not _is_head(name)}
        state |= {name: tensor for name, tensor in own.items() if _is_head(name)}
    if theirs.keypoint_set.keypoints != record.keypoint_set.keypoints:
        state = _rows_by_name(network, state, theirs.keypoint_set, record, path.name)
    load_state(network, state, path.name)


def _family(model: str) -> str:
    return NETWORKS[model].module if model in NETWORKS else model


def _is_head(name: str) -> bool:
    return "head" in name.partition(".")[0]


def _rows_by_name(
    network: torch.nn.Module, state: State, theirs: KeypointSet, record: Weights, where: str
) -> dict[str, torch.Tensor]:
    """Return a state dict of other keypoints with the rows that a network has, or the columns, taken by name.

    Which these are is seen in the shapes of a network with one keypoint more. Several rows of one keypoint (LitePose:
    heatmap and tag) stand behind those of all keypoints before.
    """
    ours = record.keypoint_set
    try:
        with torch.device("meta"):
            grown = create_model(record.model, len(ours) + 1, **record.model_options).state_dict()
    except InputError:
        raise WeightsError(
            f"{where} finds other keypoints than those of {ours.name}, so {record.model} cannot start from it."
        ) from None
    places = torch.as_tensor(mapping(theirs, ours))
    known = (places >= 0).nonzero()[:, 0]
    moved = dict(state)
    for name, own in network.state_dict().items():
        axes = [axis for axis, sides in enumerate(zip(own.shape, grown[name].shape, strict=True)) if len({*sides}) > 1]
        if len(axes) != 1 or name not in state:
            continue
        (axis,) = axes
        rows = grown[name].shape[axis] - own.shape[axis]  # of one keypoint
        if state[name].shape[axis] != rows * len(theirs):
            continue  # another network, which load_state refuses
        first_own, first = (torch.arange(rows)[:, None] * len(keypoints) for keypoints in (ours, theirs))
        taken = state[name].index_select(axis, (first + places[known]).flatten()).to(own.dtype)
        moved[name] = own.clone().index_copy_(axis, (first_own + known).flatten(), taken)
    return moved


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
    checkpoint: str, *, out: str, model: str = "", input_size: tuple[int, int] = (256, 192), keypoint_set: str = ""
) -> Weights:
    """Turn a published checkpoint (.pth) or public weights of RTMPose (.onnx) into a leanpose .safetensors file.

    A .pth file is read without running any code that it may hold. An .onnx file says itself what it is, and needs
    nothing but --out.

    Args:
        checkpoint: file of the official repository, a state dict with or without "module." before the names; or .onnx.
        out: .safetensors file to write.
        model: name of the network, for example "lpn50".
        input_size: height and width that the weights were trained for.
        keypoint_set: "coco", "mpii" ...; empty: found from the number of keypoints.
    """
    if Path(out).suffix != ".safetensors":
        raise InputError(f"The output must end in .safetensors, not {Path(out).name}.")
    if Path(checkpoint).suffix == ".onnx":
        if model or keypoint_set:
            raise InputError("An .onnx file says which network and keypoints it has: leave the options out.")
        check_needs(files=(checkpoint,), places=(out,))
        network, weights = load_network(checkpoint)
        weights = dataclasses.replace(weights, name=_published_name(weights))
    else:
        network, weights = _load_published(checkpoint, model, out, input_size, keypoint_set)
    save_network(out, network, weights)
    return weights


def _published_name(weights: Weights) -> str:
    return "{}.{}_{}x{}_published".format(weights.model, weights.keypoint_set.name, *weights.input_size)


def _load_published(
    checkpoint: str, model: str, out: str, input_size: tuple[int, int], keypoint_set: str
) -> tuple[torch.nn.Module, Weights]:
    """Return the network of a .pth file and its record."""
    published = {name: settings for names, settings in CHECKPOINTS.items() for name in names}
    if not model:
        raise InputError("Give --model with the name of the network, for example --model lpn50.")
    if model not in published:
        raise WeightsError(f"No published checkpoints of '{model}' are known.{suggest(model, published)}")
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
    if settings["codec"] == "simcc" and input_size == (384, 288):
        settings |= {"codec_options": {"sigma": [6.0, 6.93]}}
    weights = Weights(name="", model=model, input_size=input_size, keypoint_set=KEYPOINT_SETS[named], **settings)
    weights = dataclasses.replace(weights, name=_published_name(weights), model_options=_with_size(weights))
    network = create_model(model, num_keypoints, **weights.model_options)
    load_state(network, state, Path(checkpoint).name)
    return network, weights


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

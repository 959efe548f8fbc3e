"""Grad-CAM: class activation maps of any layer, from gradients. Needs PyTorch.

A map is the sum of the layer's channels, each weighted by the mean gradient of the logit over the channel: Selvaraju et al.,
"Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017. Values are those before its ReLU.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ig65m.engines.pytorch import exact, find_device
from ig65m.errors import UsageError, VideoError
from ig65m.explain.class_maps import ClipMap, VideoMaps, class_number
from ig65m.models.layer_names import find_layer
from ig65m.models.network import Network, network_of
from ig65m.tasks.extractor import OnClip
from ig65m.tasks.options import Options, resolve
from ig65m.tasks.scoring import class_scores
from ig65m.types import Failure
from ig65m.video.clips import Source, read_clips
from ig65m.video.network_input import normalised


def grad_cam(model: Network, x: Tensor, layer: str, number: int | None) -> tuple[Tensor, Tensor, int]:
    """Return the map (T', H', W') of one normalised clip (1, 3, T, H, W) in a layer, its logits (classes,), and the class.

    `number` None is the class with the highest logit. Raises UsageError if there is no such layer.
    """
    find_layer(model.spec, layer)
    seen: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor) -> Tensor:
        seen.append(output)
        return output.clone()  # a ReLU that follows may work in place

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model(x.requires_grad_())[0]
    finally:
        hook.remove()
    number = int(logits.argmax()) if number is None else number
    [gradient] = torch.autograd.grad(logits[number], seen[0])
    weights = gradient.mean((2, 3, 4), keepdim=True)
    return (weights * seen[0]).sum(1)[0].detach(), logits.detach(), number


def grad_cam_maps(
    source: Source, options: Options, layer: str, *, label: str | None = None, on_clip: OnClip | None = None
) -> VideoMaps:
    """Return the maps of a video in a layer; `label` None is the best label of each clip.

    Raises UsageError if the network has no such label or layer, or if another engine than PyTorch in float32 is asked for; and
    as `resolve`.
    """
    if options.engine not in (None, "pytorch") or options.precision not in (None, "fp32"):
        raise UsageError("Grad-CAM needs gradients: it runs in PyTorch in fp32 only; leave --engine and --precision out")
    resolved = resolve(replace(options, engine="pytorch"), logits=True, maps=False)
    if resolved.choice.threads is not None:
        torch.set_num_threads(resolved.choice.threads)
    if resolved.on_engine is not None:
        resolved.on_engine(f"pytorch {torch.__version__}, fp32, {resolved.choice.device}")
    card, device = resolved.weights.card, find_device(resolved.choice.device)
    find_layer(card.spec, layer)
    number = None if label is None else class_number(card, label)
    model = network_of(resolved.weights).to(device)
    maps: list[ClipMap] = []
    error: Failure | None = None
    clips = read_clips(
        source,
        resolved.sampling,
        resolved.preprocessing,
        image_fps=resolved.image_fps,
        limits=resolved.limits,
        in_process=resolved.in_process,
    )
    try:
        for clip in clips:
            with exact(device):
                values, logits, found = grad_cam(
                    model, normalised(clip.pixels[None], resolved.preprocessing).to(device), layer, number
                )
            score = float(class_scores(logits.cpu().numpy(), multi_label=card.spec.multi_label)[found])
            assert clip.shape is not None, "clips of videos have the shape of their frames"
            maps.append(ClipMap(clip.span, card.label(found), score, values.cpu().numpy().astype(np.float32), clip.shape))
            if on_clip is not None:
                on_clip(source, clip.span)
    except VideoError as failure:
        error = Failure.of("decode", failure)
    return VideoMaps(tuple(maps), error, card, resolved.preprocessing, resolved.sampling, layer)

import subprocess
import sys
from typing import Any

import pytest
import torch

from changedet.errors import ModelError
from changedet.network.siamese import SiameseSMP

PAIRS: list[tuple[str, str, dict[str, Any]]] = [
    ("tu-resnet10t", "unetplusplus", {"encoder_depth": 3}),
    ("resnet18", "linknet", {"encoder_depth": 3}),
    ("resnet18", "fpn", {"encoder_depth": 4, "fusion": "concat"}),
    ("resnet18", "pspnet", {"encoder_depth": 3, "fusion": "concat"}),
    ("resnet18", "unet", {"encoder_depth": 3, "fusion": "learned"}),
    ("resnet18", "unetplusplus", {"encoder_depth": 3, "fusion": "learned_directional"}),
    ("vgg11_bn", "unet", {"encoder_depth": 3}),
    ("mobilenet_v2", "manet", {"encoder_depth": 3}),
    ("efficientnet-b0", "unet", {"encoder_depth": 3}),
    # Its first level is empty and it leaves out the stem.
    ("tu-convnext_atto", "unet", {"encoder_depth": 3, "fusion": "concat"}),
]


@pytest.mark.parametrize(("encoder", "decoder", "options"), PAIRS)
def test_encoders_and_decoders_train_whole(encoder: str, decoder: str, options: dict[str, Any]) -> None:
    network = SiameseSMP(encoder, decoder, 2, **options)
    logits = network(torch.randn(2, 2, 64, 64), torch.randn(2, 2, 64, 64))
    logits.square().sum().backward()
    assert logits.shape == (2, 1, 64, 64)
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    again = SiameseSMP(encoder, decoder, 2, **options)
    assert again.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "stride"), [({}, 16), ({"encoder_depth": 3}, 8), ({"encoder_depth": 3, "stem_pool": False}, 4)]
)
def test_stride(options: dict[str, Any], stride: int) -> None:
    network = SiameseSMP("tu-resnet10t", "unet", 2, **options)
    assert network.stride == stride
    assert network.training
    assert 64 // network.features(torch.zeros(1, 2, 64, 64))[-1].shape[-1] == stride


def test_deeper_stages_are_gone() -> None:
    """ResNet-18 up to its third stage has 2.78 million parameters, of 11.7."""
    network = SiameseSMP("resnet18", "unet", 3, encoder_depth=4)
    assert not hasattr(network.encoder, "layer4")
    assert sum(parameter.numel() for parameter in network.encoder.parameters()) == 2_782_784


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["absdiff", "diff"])
def test_fusion_is_the_difference_at_every_level(fusion: Any) -> None:
    network = SiameseSMP("resnet18", "unet", 2, encoder_depth=3, fusion=fusion).eval()
    f1, f2 = (network.features(torch.randn(1, 2, 32, 32)) for _ in range(2))
    zero = [torch.zeros_like(level) for level in f1]
    difference = [b - a if fusion == "diff" else (b - a).abs() for a, b in zip(f1, f2, strict=True)]
    torch.testing.assert_close(network.compare(f1, f2), network.compare(zero, difference))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder_name": "dpt"}, "dpt.*nested"),
        ({"decoder_name": "unet3"}, "decoder 'unet3'.*expected: one of .*unet,"),
        ({"encoder_name": "resnet17"}, "cannot build 'unet' on 'resnet17'"),
        ({"decoder_channels": (8, 8)}, "cannot build"),
        ({"fusion": "sum"}, "fusion 'sum'.*absdiff, diff, concat, learned, learned_directional"),
        ({"decoder_name": "linknet", "stem_pool": False}, "stem_pool=False"),
        ({"encoder_name": "mobilenet_v2", "stem_pool": False}, "stem_pool=False"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){message}"):
        SiameseSMP(**arguments)


def test_importing_the_module_leaves_smp_alone() -> None:
    code = "import sys, changedet.network.siamese; sys.exit('segmentation_models_pytorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import torch
from torchvision.models import efficientnet_b4

from changedet.network.tinycd import TinyCD, _efficientnet_b4_start, _Mix
from changedet.network.work import count_multiply_adds
from tests.network.published import parameters


def test_parameters_are_the_published_ones() -> None:
    """0.29 million; of its work no more is said here than that the others do several times as much, as the abstract."""
    with torch.device("meta"):
        network = TinyCD(3, directional=True)
        assert parameters(network) == parameters(TinyCD(3)) == 285_128
    assert 1.2e9 < count_multiply_adds(network, 3) < 1.5e9


def test_the_encoder_is_the_start_of_an_efficientnet_b4() -> None:
    with torch.device("meta"):
        ours, theirs = _efficientnet_b4_start(3), efficientnet_b4().features[:4]
    shapes = [{name: tensor.shape for name, tensor in part.state_dict().items()} for part in (ours, theirs)]
    assert shapes[0] == shapes[1]


@torch.no_grad()
def test_a_channel_of_the_mixture_sees_its_own_channel_of_both_dates() -> None:
    mix = _Mix(3)
    first, second = torch.randn(2, 1, 3, 8, 8)
    mixed = mix(first, second)
    for date in (0, 1):
        changed = [first.clone(), second.clone()]
        changed[date][:, 1] += torch.randn(8, 8)
        differs = (mix(*changed) != mixed).flatten(2).any(dim=2)
        assert differs.tolist() == [[False, True, False]]

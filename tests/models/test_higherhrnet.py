"""HigherHRNet against the published files, and the points a re-implementation gets wrong."""

import pytest
import torch
from torch import nn

from common.basics.errors import UserError
from models.arch.higherhrnet import HigherHRNet
from models.arch.hrnet import HRNet
from tests.models.published_names import names_of, parameter_count, published_names

# Parameter counts of the published networks (HigherHRNet's own model file, run); each has 1810 state_dict entries.
PUBLISHED = {"higherhrnet_w32_512": (32, 28_645_331), "higherhrnet_w48_640": (48, 63_827_139)}
TINY = {"width": 4, "stem": 8, "planes": 4, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1}


@pytest.fixture(scope="module")
def networks():
    with torch.device("meta"):  # shapes only: no memory, no initialisation
        return {name: HigherHRNet(width) for name, (width, _) in PUBLISHED.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(networks, name):
    assert parameter_count(networks[name]) == PUBLISHED[name][1]
    assert len(networks[name].state_dict()) == 1810


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_order_are_the_published_ones(networks, name):
    assert names_of(networks[name]) == published_names(name)


def test_heads_come_before_the_deconvolution(networks):
    tops = list(dict.fromkeys(key.split(".")[0] for key in networks["higherhrnet_w32_512"].state_dict()))
    assert tops[-3:] == ["stage4", "final_layers", "deconv_layers"]


def test_the_backbone_is_hrnets_own(networks):
    with torch.device("meta"):
        backbone = names_of(HRNet(32))[:-2]  # without its head's weight and bias
    assert names_of(networks["higherhrnet_w32_512"])[: len(backbone)] == backbone


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_deconvolution_doubles_features_and_first_output(networks, name):
    width, network = PUBLISHED[name][0], networks[name]
    doubling, norm, relu = network.deconv_layers[0][0]
    assert isinstance(doubling, nn.ConvTranspose2d)
    assert (doubling.in_channels, doubling.out_channels) == (width + 34, width)
    assert (doubling.kernel_size, doubling.stride, doubling.padding, doubling.output_padding) == (
        (4, 4), (2, 2), (1, 1), (0, 0),
    )  # fmt: skip
    assert doubling.bias is None and isinstance(norm, nn.BatchNorm2d) and isinstance(relu, nn.ReLU)
    assert len(network.deconv_layers[0]) == 1 + 4
    assert [layer.out_channels for layer in network.final_layers] == [34, 17]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 302
    assert sum(layer.bias is not None for layer in convolutions) == 2


def test_features_go_first_into_the_deconvolution_then_heatmaps_then_tags():
    torch.manual_seed(0)
    network = HigherHRNet(joints=3, **TINY).eval()
    seen = []
    network.deconv_layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        first, second = network(image)
        features = network.features(image)
    assert torch.equal(seen[0], torch.cat([features, first], dim=1))
    assert first.shape[1] == 6 and second.shape[1] == 3


def test_the_second_output_reads_the_first():
    torch.manual_seed(0)
    network = HigherHRNet(joints=3, **TINY).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, second = network(image)
        network.final_layers[0].bias[5] += 1  # a tag's
        other_first, other_second = network(image)
    assert torch.equal(first[:, :5], other_first[:, :5])
    assert torch.allclose(first[:, 5] + 1, other_first[:, 5])
    assert not torch.allclose(second, other_second)


@pytest.mark.parametrize(("joints", "height", "width"), [(17, 64, 96), (14, 96, 64), (1, 32, 32)])
def test_outputs_are_a_quarter_and_a_half_of_the_input(joints, height, width):
    network = HigherHRNet(joints=joints, **TINY).eval()
    with torch.no_grad():
        first, second = network(torch.zeros(2, 3, height, width))
    assert first.shape == (2, 2 * joints, height // 4, width // 4)
    assert second.shape == (2, joints, height // 2, width // 2)


def test_sides_that_do_not_fit_are_refused_by_name():
    with pytest.raises(UserError, match="HigherHRNet takes sides that are multiples of 32, not 500x512"):
        HigherHRNet(**TINY)(torch.zeros(1, 3, 500, 512))


def test_every_parameter_matters():
    torch.manual_seed(0)
    network = HigherHRNet(**TINY).eval()
    sum(output.square().mean() for output in network(torch.randn(2, 3, 64, 64))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []

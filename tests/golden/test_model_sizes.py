"""Published parameters and MACs of the built-in networks, counted by torch itself and not by autoprune."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from autoprune.config.schema import BuiltinModel
from autoprune.models import registry

# name, args, classes, (channels, size), parameters, MACs of convolutions and linear layers.
# LeNets: 266,610 and 431,080 (Han et al. 2015). VGG-16: 14.72 M, 313.2 M (Li et al. 2017). ResNets, option A: 0.27 M /
# 40.55 M, 0.46 M / 68.9 M, 0.85 M / 125.5 M, 1.73 M / 252.9 M (He et al. 2016; Li et al. 2017). MobileNetV1: 568.74 M,
# 325.40 M, 149.50 M, 41.03 M. MobileNetV2: 3,504,872 and 300.77 M (torchvision's table: 0.30 GMACs).
CASES = [
    ("lenet300_100", {}, 10, (1, 28), 266_610, 266_200),
    ("lenet5", {}, 10, (1, 28), 431_080, 2_293_000),
    ("vgg16_bn", {}, 10, (3, 32), 14_724_042, 313_201_664),
    ("vgg19_bn", {}, 10, (3, 32), 20_035_018, 398_136_320),
    ("resnet20", {"shortcut": "A"}, 10, (3, 32), 269_722, 40_551_040),
    ("resnet20", {}, 10, (3, 32), 272_474, 40_813_184),
    ("resnet32", {"shortcut": "A"}, 10, (3, 32), 464_154, 68_862_592),
    ("resnet56", {"shortcut": "A"}, 10, (3, 32), 853_018, 125_485_696),
    ("resnet110", {"shortcut": "A"}, 10, (3, 32), 1_727_962, 252_887_680),
    ("mobilenet_v1", {}, 1000, (3, 224), 4_231_976, 568_740_352),
    ("mobilenet_v1", {"width": 0.75}, 1000, (3, 224), 2_585_560, 325_400_448),
    ("mobilenet_v1", {"width": 0.5}, 1000, (3, 224), 1_331_592, 149_497_088),
    ("mobilenet_v1", {"width": 0.25}, 1000, (3, 224), 470_072, 41_030_272),
    ("mobilenet_v2", {}, 1000, (3, 224), 3_504_872, 300_774_272),
]


@pytest.mark.parametrize(("name", "args", "classes", "image", "parameters", "macs"), CASES)
def test_parameters_and_macs_are_the_published_ones(name, args, classes, image, parameters, macs):
    channels, size = image
    with torch.device("meta"):
        model = registry.build(BuiltinModel(name=name, args=args), num_classes=classes, in_channels=channels).eval()
        with FlopCounterMode(display=False) as counter:
            logits = model(torch.zeros(1, channels, size, size))
    assert logits.shape == (1, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs

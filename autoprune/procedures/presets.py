"""Procedures of papers by name, with what each paper did, what is approximated here, and the source it rests on."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.errors import ConfigError, did_you_mean
from autoprune.procedures.phases import Finetune, Layers, Length, Preset, Rounds, Scoring, Sparsify, ZeroedTraining

__all__ = ["PRESETS", "preset"]

_COUPLED = "Channels that a residual sum couples leave together, ranked by the mean over the layers that make them."
_CONSTANT = {"schedule": "constant", "warmup": 0.0}

LI2016 = Preset(
    name="li2016",
    paper="Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017",
    steps="L1 norm of each filter; in one shot the same share of every layer, or the paper's own networks by --table; "
    "then a quarter of the base model's epochs at a constant rate of 0.001.",
    deviations="The paper chose each layer's share by hand from its sensitivity: those shares are the tables; other "
    "networks lose equal shares. Filters are scored with all original inputs (its 'independent' way). 40 epochs after "
    f"160, as Liu et al. 2019 repeat it. {_COUPLED}",
    phases=(
        Rounds(Scoring("l1"), "uniform"),
        Finetune(Length(epochs=40), {"lr": 1e-3, **_CONSTANT}),
    ),
    trained_for=160,
)

SLIMMING = Preset(
    name="slimming",
    paper="Liu, Li, Shen, Huang, Yan, Zhang: Learning Efficient Convolutional Networks through Network Slimming, "
    "ICCV 2017",
    steps="Training from the base model's initial weights, BatchNorm's scales at 0.5 and pulled to zero by "
    "lambda = 0.0001; one ranking of |scale| over all layers down to the budget; the whole training again.",
    deviations="Lambda is the paper's for VGG on CIFAR (ResNets: 0.00001). One pass; each group keeps at least "
    "its floor, where the paper's percentile can empty a layer. A base model from a checkpoint, whose initial weights "
    "are unknown, is trained on instead. Rates, schedule and epochs are the base model's.",
    phases=(
        Sparsify(Length(epochs=160), strength=1e-4, gamma=0.5),
        Rounds(Scoring("bn_scale"), "global"),
        Finetune(Length(epochs=160)),
    ),
    trained_for=160,
)

MOLCHANOV2016 = Preset(
    name="molchanov2016",
    paper="Molchanov, Tyree, Karras, Aila, Kautz: Pruning Convolutional Neural Networks for Resource Efficient "
    "Inference, ICLR 2017",
    steps="One channel at a time over all layers: the least mean |Taylor term|, rescaled in each layer by its l2 norm, "
    "less 0.001 for each million MACs saved; 30 updates of 32 images at 0.0001 after each; 5 epochs at the end.",
    deviations="The charge for FLOPs is per channel at the widths as they are (the paper's unit is not known). Scores "
    "come from as many images as the updates see (960), drawn anew each round, in evaluation mode. Lengths stand for "
    "themselves unless --epochs is given.",
    phases=(
        Rounds(
            Scoring("taylor", normaliser="l2", penalty=1e-3, images=960),
            "global",
            step=1,
            between=Finetune(Length(updates=30), {"lr": 1e-4, "batch_size": 32, "weight_decay": 1e-4, **_CONSTANT}),
        ),
        Finetune(Length(epochs=5), {"lr": 1e-4, "batch_size": 32, "weight_decay": 1e-4, **_CONSTANT}),
    ),
)

JACOBGIL = Preset(
    name="jacobgil",
    paper="Gildenblat: github.com/jacobgil/pytorch-pruning, 2017, after Molchanov et al.",
    steps="Rounds of 512 in 4,224 channels: |mean of the Taylor terms| over the training images, rescaled in each "
    "layer by its l2 norm, the least of all layers; 10 epochs at 0.001 after each round, 15 at the end.",
    deviations="512 of 4,224 is kept as a share of the network's channels (12 %). Signs cancel over the images, as in "
    "the code; each group keeps at least its floor, which the code does not see to. Up to 5,000 training images are "
    "read for the scores instead of all.",
    phases=(
        Rounds(
            Scoring("taylor", {"reduce": "abs_of_sum"}, normaliser="l2", images=5000),
            "global",
            step_share=512 / 4224,
            between=Finetune(Length(epochs=10), {"lr": 1e-3, **_CONSTANT}),
        ),
        Finetune(Length(epochs=15), {"lr": 1e-3, **_CONSTANT}),
    ),
)

APOZ2016 = Preset(
    name="apoz2016",
    paper="Hu, Peng, Tai, Tang: Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep "
    "Architectures, 2016",
    steps="Rounds: channels leave whose share of zeros behind the ReLU exceeds their layer's mean by more than one "
    "standard deviation (the furthest first, until the budget is met); training from the weights that are left.",
    deviations="All layers are trimmed in every round, where the paper began with the layers of the highest mean. The "
    "budget ends the rounds, not the accuracy. Lengths of training are ours: a tenth of the base model's epochs "
    "between rounds and a quarter at the end, at 0.001.",
    phases=(
        Rounds(
            Scoring("apoz", normaliser="standard", images=10000),
            "threshold",
            between=Finetune(Length(epochs=16), {"lr": 1e-3, **_CONSTANT}),
        ),
        Finetune(Length(epochs=40), {"lr": 1e-3, **_CONSTANT}),
    ),
    trained_for=160,
)

FPGM2019 = Preset(
    name="fpgm2019",
    paper="He, Liu, Wang, Hu, Yang: Filter Pruning via Geometric Median for Deep Convolutional Neural Networks "
    "Acceleration, CVPR 2019",
    steps="Training on from the base model; before it and after each epoch the same share of each layer's filters is "
    "chosen anew, those nearest to the others, set to zero and held there; cut at the end, no fine-tuning.",
    deviations="Held at zero between two choices, as the released code masks gradients, BatchNorm's constants too, "
    "so that the cut changes nothing. The rate of pretrained models (0.01) falls tenfold at 30, 60 and 80 % of the "
    f"epochs, where the code's falls fivefold. {_COUPLED}",
    phases=(
        ZeroedTraining(
            Length(epochs=200),
            Scoring("fpgm"),
            "hard",
            {"lr": 0.01, "schedule": "milestones", "milestones": (0.3, 0.6, 0.8), "warmup": 0.0, "nesterov": True},
        ),
    ),
    trained_for=200,
)

THINET2017 = Preset(
    name="thinet2017",
    paper="Luo, Wu, Lin: ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression, ICCV 2017",
    steps="Layer by layer from the input: greedily the channels that the next layer misses least, cut, one factor for "
    "each channel left fitted by least squares; an epoch at 0.001 before the next layer, ten at the end.",
    deviations="The lengths of training are ours. Every group loses an equal share within the budget, also residual "
    "streams and the last layers, which the paper left alone. All outputs of a place take part, not one drawn at "
    "random; 500 training images at ten places each. Factors are pulled a little towards 1 (ridge 0.01).",
    phases=(
        Layers(
            Scoring("thinet", images=500),
            refit="channel",
            target="current",
            images=500,
            between=Finetune(Length(epochs=1), {"lr": 1e-3, "weight_decay": 5e-4, **_CONSTANT}),
        ),
        Finetune(Length(epochs=10), {"lr": 1e-3, "weight_decay": 5e-4, **_CONSTANT}),
    ),
)

HE2017 = Preset(
    name="he2017",
    paper="He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017",
    steps="Layer by layer from the input: the channels that the LASSO takes up first to explain the next layer's "
    "outputs, cut, all weights of the readers refitted by least squares to the original network's outputs; at the end "
    "10 epochs at 0.00001 without weight decay.",
    deviations="Every group loses an equal share within the budget, not the paper's shares by layer. The LASSO "
    "explains the outputs of the network as it stands, the refit aims at the original's. 500 training images at ten "
    "places each, where the paper took 5,000. The number of epochs is ours. Residual branches aim at the original "
    "sum where the model can be traced.",
    phases=(
        Layers(Scoring("lasso", images=500), refit="full", target="original", images=500),
        Finetune(Length(epochs=10), {"lr": 1e-5, "weight_decay": 0.0, **_CONSTANT}),
    ),
)

_ALL = (LI2016, SLIMMING, MOLCHANOV2016, JACOBGIL, APOZ2016, FPGM2019, THINET2017, HE2017)
PRESETS: Mapping[str, Preset] = {each.name: each for each in _ALL}


def preset(name: str) -> Preset:
    """The procedure of that name. Raises ConfigError for an unknown one."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}.", did_you_mean(name, PRESETS))
    return PRESETS[name]

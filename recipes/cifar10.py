"""SEDONA search on CIFAR-10 with the paper's settings, ResNet-50 at width 16.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021.
Command: python -m sedona_tf.search --recipe recipes/cifar10.py
    [--recipe.backbone.name=vgg19|resnet101|resnet152]
Time: days on 2 cores, meant for an accelerator; not run by us. `:smoke` takes minutes and runs on
    synthetic images of the same shape.
Expect: in the paper, plans whose decoupled networks reach lower test error than backpropagation.
"""

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    return recipe.with_variant(
        config,
        variant,
        **recipe.SYNTHETIC,
        data__limit=1_024,
    )

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
    if variant == "smoke":
        config.search.pretraining_steps = 4
        config.search.steps = 3
        config.search.snapshots = 3
        config.data.source = "synthetic"
        config.backbone.name = "resnet18"
        config.search.inner_steps = 2
        config.search.batch_size = 8
        config.search.validation_batch_size = 16
    elif variant:
        raise recipe.unknown_variant(variant, "smoke")
    return config

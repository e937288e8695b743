"""SEDONA search on scikit-learn's digits: the quickest way to see the whole thing work.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021. The settings are ours: ResNet-18 at width 4, 8x8 images.
Command: python -m sedona_tf.search --recipe recipes/digits.py
Time: 2 to 4 minutes on 2 cores; `:smoke` runs a few steps only.
Expect: a plan, a report whose outer loss falls; with 1,797 images the cuts are an illustration.
"""

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    config.name = "digits"
    config.data.source = "digits"
    config.data.pad = 1
    config.data.flip = False
    config.data.dry_run.images = 1_438
    config.data.dry_run.shape = (8, 8, 1)
    config.backbone.name = "resnet18"
    config.backbone.width = 4
    config.search.space.depth = (1, 2)
    config.search.inner_steps = 2
    config.search.pretraining_steps = 300
    config.search.steps = 150
    config.search.batch_size = 64
    config.search.validation_batch_size = 128
    config.search.snapshots = 10
    config.search.checkpoint_every = 50
    config.train.epochs = 30
    config.train.batch_size = 64
    config.train.checkpoint_every = 100
    return recipe.with_variant(config, variant)

r"""SEDONA search on Fashion-MNIST (20,000 images) for VGG-11 at width 16.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021. The settings are the paper's but for the budget.
Data: Debian's package dataset-fashion-mnist, which puts IDX files where `data_dir` says.
Command: python -m sedona_tf.search --recipe recipes/fashion_mnist.py
    python -m sedona_tf.train --recipe recipes/fashion_mnist.py --blocks 2 \
        --plan saved_plans/fashion_mnist_vgg11.json
Time: search 43 minutes on one core beside other work; training 3 to 6 on two. `:smoke` runs a few
    steps.
Expect: cut probabilities from 0.47 after unit 1 down to 0.11 after unit 7; ours is
    saved_plans/fashion_mnist_vgg11.json.
"""

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    config.name = "fashion_mnist"
    config.data.source = "idx"
    config.data.data_dir = "/usr/share/datasets/fashion-mnist"
    config.data.limit = 20_000
    config.data.image_size = 32
    config.data.pad = 2
    config.data.dry_run.images = 60_000
    config.data.dry_run.shape = (28, 28, 1)
    config.backbone.name = "vgg11"
    config.search.inner_steps = 3
    config.search.pretraining_steps = 800
    config.search.steps = 400
    config.search.batch_size = 32
    config.search.validation_batch_size = 128
    config.search.snapshots = 20
    config.search.checkpoint_every = 25
    config.train.epochs = 8
    return recipe.with_variant(
        config,
        variant,
        data__limit=2_000,
        search__batch_size=8,
        search__validation_batch_size=16,
    )

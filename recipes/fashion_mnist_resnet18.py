r"""SEDONA search on Fashion-MNIST (20,000 images at 16x16) for ResNet-18 at width 8.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021. Small enough that two cores compare all methods over several seeds.
Data: Debian's package dataset-fashion-mnist, which puts IDX files where `data_dir` says.
Command: python -m sedona_tf.search --recipe recipes/fashion_mnist_resnet18.py
    python benchmarks/compare_methods.py
Time: search 40 minutes on one core beside other work; training about 10 minutes on one core.
Expect: p from 0.32 to 0.48, highest after unit 4; ours is saved_plans/fashion_mnist_resnet18.json.
    Test error 11.0 % at K = 2, 12.1 % at K = 4.
"""

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    config.name = "fashion_mnist_resnet18"
    config.data.source = "idx"
    config.data.data_dir = "/usr/share/datasets/fashion-mnist"
    config.data.limit = 20_000
    config.data.image_size = 16
    config.data.pad = 2
    config.data.dry_run.images = 60_000
    config.data.dry_run.shape = (28, 28, 1)
    config.backbone.name = "resnet18"
    config.backbone.width = 8
    config.search.pretraining_steps = 1_500
    config.search.steps = 330
    config.search.batch_size = 64
    config.search.validation_batch_size = 256
    config.search.checkpoint_every = 100
    config.train.epochs = 30
    return recipe.with_variant(
        config,
        variant,
        data__limit=2_000,
        search__batch_size=8,
        search__validation_batch_size=16,
    )

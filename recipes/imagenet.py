r"""SEDONA's blocks on ImageNet at 224x224, with cuts found on CIFAR-10: ResNet-50 at width 64.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021. Length and schedule of the training are ours.
Data: NOT TRAINABLE YET. `imagenet2012` of tensorflow-datasets has 155 GiB and data are held in
    memory, so training refuses it; there is no streaming source and no crop of random size. The
    recipe serves --dry_run, which shows that networks and published cuts fit, and what they cost.
Command: python -m sedona_tf.train --recipe recipes/imagenet.py --blocks 4 --dry_run \
        --plan saved_plans/published/resnet50_k4.json
    [--recipe.backbone.name=resnet101|resnet152, with the plan of that name]
Time: a training has not been run by us; --dry_run takes a minute or two on 2 cores. `:smoke` takes
    minutes and runs on synthetic images of 64x64.
Expect: the table of --dry_run. The paper reports errors below those of backpropagation.
"""

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    config.name = "imagenet"
    config.data.source = "imagenet2012"
    config.data.image_size = 224
    config.data.dry_run.images = 1_281_167
    config.data.dry_run.shape = (224, 224, 3)
    config.data.dry_run.classes = 1_000
    config.data.pad = 28
    config.backbone.width = 64
    config.backbone.stem = "imagenet"
    config.train.epochs = 90
    config.train.batch_size = 256
    config.train.validation_fraction = 0.01
    return recipe.with_variant(
        config,
        variant,
        **recipe.SYNTHETIC,
        data__image_size=64,
        data__limit=256,
        data__dry_run__classes=10,
        backbone__width=16,
        train__batch_size=16,
        train__validation_fraction=0.1,
    )

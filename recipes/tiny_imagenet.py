r"""SEDONA's blocks on Tiny ImageNet, with cuts found on CIFAR-10: ResNet-50 at width 16.

Paper: Pyeon et al., "SEDONA: Search for Decoupled Neural Networks toward Greedy Block-wise
    Learning", ICLR 2021. Length, schedule and width of the training are ours.
Data: 200 classes, 100,000 + 10,000 images of 64x64, 1.2 GiB in memory. tensorflow-datasets has no
    such name. Unpack cs231n.stanford.edu/tiny-imagenet-200.zip and convert it once; the labelled
    validation images become the test split:
    python recipes/tiny_imagenet.py tiny-imagenet-200 ~/tensorflow_datasets
    python -m sedona_tf.train --recipe recipes/tiny_imagenet.py \
        --recipe.data.data_dir=$HOME/tensorflow_datasets ...
Command: python -m sedona_tf.train --recipe recipes/tiny_imagenet.py --blocks 4 \
        --plan saved_plans/published/resnet50_k4.json
    [--recipe.backbone.name=vgg19|resnet101|resnet152, with the plan of that name]
Time: not run by us, meant for an accelerator; --dry_run takes a minute and prints an estimate.
    `:smoke` takes minutes and runs on synthetic images.
Expect: unknown to us. The paper reports test errors below those of backpropagation.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sedona_tf import recipe


def get_config(variant: str = ""):
    config = recipe.paper()
    config.name = "tiny_imagenet"
    config.data.source = "tiny_imagenet"
    config.data.dry_run.images = 100_000
    config.data.dry_run.shape = (64, 64, 3)
    config.data.dry_run.classes = 200
    config.data.pad = 8
    return recipe.with_variant(
        config,
        variant,
        **recipe.SYNTHETIC,
        data__image_size=64,
        data__limit=256,
        data__dry_run__classes=10,
        train__batch_size=16,
    )


def prepare(folder: Path, data_dir: Path) -> None:
    """Converts the unpacked archive into a data set that tensorflow-datasets reads by name.

    Args:
        folder: `tiny-imagenet-200`, with wnids.txt, train/ and val/.
        data_dir: where prepared data sets lie; the recipe's `data.data_dir`.
    """
    import tensorflow_datasets as tfds

    class TinyImagenet(tfds.core.GeneratorBasedBuilder):
        """Tiny ImageNet."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = folder

        def _info(self):
            names = (folder / "wnids.txt").read_text().split()
            features = {
                "image": tfds.features.Image(shape=(64, 64, 3)),
                "label": tfds.features.ClassLabel(names=names),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, manager):
            return {"train": self._training(), "test": self._validation()}

        def _generate_examples(self):
            raise NotImplementedError

        def _training(self):
            for path in sorted((folder / "train").glob("*/images/*.JPEG")):
                yield path.name, {"image": path, "label": path.parts[-3]}

        def _validation(self):
            for line in (folder / "val/val_annotations.txt").read_text().splitlines():
                name, label = line.split()[:2]
                yield name, {"image": folder / "val/images" / name, "label": label}

    TinyImagenet(data_dir=data_dir).download_and_prepare()


if __name__ == "__main__":
    prepare(*(Path(argument).expanduser() for argument in sys.argv[1:3]))

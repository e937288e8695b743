"""A block: consecutive units between cuts, with the classifier that gives them their loss."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, Kind, build_auxiliary
from sedona_tf.backbones import Backbone
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.plans import Decoupling

__all__ = ["Block", "build_blocks"]


@dataclasses.dataclass
class Block:
    """Units trained together, on nothing but their own classifier's loss.

    Attributes:
        units: consecutive units of the backbone.
        classifier: auxiliary net, or the backbone's head.
        kind: the auxiliary net's, with its loss; None for the head.
        device: where all of it lives.

    Example:
        >>> from sedona_tf import decouple, plans
        >>> conv = keras.layers.Conv2D
        >>> layers = [keras.Input((8, 8, 1)), conv(2, 3), conv(2, 3), keras.layers.Flatten()]
        >>> backbone = Backbone.from_keras(keras.Sequential([*layers, keras.layers.Dense(10)]))
        >>> first, last = decouple(backbone, plans.baseline("dgl", backbone, 2)).blocks
        >>> [unit.name for unit in first.units], first.classifier.name, last.classifier.name
        (['unit_1'], 'aux_1', 'head')
    """

    units: list[keras.Model]
    classifier: keras.Model
    kind: Kind | None
    device: str

    @property
    def parts(self) -> list[keras.Model]:
        """Units and classifier."""
        return [*self.units, self.classifier]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the block's optimizer updates."""
        return [variable for part in self.parts for variable in part.trainable_variables]

    @property
    def variables(self) -> list[keras.Variable]:
        """All of its variables, moving statistics and seeds included."""
        return [variable for part in self.parts for variable in part.variables]

    @property
    def in_half_precision(self) -> bool:
        """Whether a layer of it computes in float16, whose gradients can vanish unscaled."""
        return any(
            layer.compute_dtype == "float16"
            for part in self.parts
            for layer in part._flatten_layers()
        )

    def features(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """The last unit's output; `inputs` is the images or the block below's features."""
        for unit in self.units:
            inputs = unit(inputs, training=training)
        return inputs

    def logits(self, outputs) -> tf.Tensor:
        """Class logits `(batch, num_classes)` among the classifier's outputs."""
        return outputs if self.kind is None else self.kind.logits(outputs)

    @property
    def has_own_loss(self) -> bool:
        """Whether the kind's own local loss takes the place of the one given to `compile`.

        It is one number of a whole batch, so it knows no weights of samples or classes.
        """
        return self.kind is not None and self.kind.has_own_loss

    def own_loss(self, outputs, labels: tf.Tensor) -> tf.Tensor | None:
        """The kind's own local loss; None where it is the loss given to `compile`."""
        if self.kind is None or not self.has_own_loss:
            return None
        return self.kind.loss(outputs, labels, 0.0)


def build_blocks(backbone: Backbone, decoupling: Decoupling, devices: list[str]) -> list[Block]:
    """Cuts a backbone, whose units the blocks share, and builds the auxiliary nets.

    Args:
        backbone: the network.
        decoupling: where to cut; must be the backbone's.
        devices: K names, see `assign_devices`.
    """
    blocks = []
    for index, (first, last) in enumerate(decoupling.blocks()):
        if last == decoupling.num_units:
            classifier, kind = backbone.head, None
        else:
            candidate = Candidate.from_dict(decoupling.auxiliary[index])
            with process_settings(precision=backbone.dtype_policy.name):
                classifier = build_auxiliary(candidate, backbone, last - 1, f"aux_{last}")
            kind = candidate.resolved_kind
        blocks.append(Block(backbone.units[first - 1 : last], classifier, kind, devices[index]))
    return blocks

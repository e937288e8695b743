"""What a network's parts cost on the devices at hand, and what to expect of cutting it."""

import sedona_tf.keras_backend  # noqa: F401 (before anything imports Keras)
from sedona_tf.profiling.cache import CostCache
from sedona_tf.profiling.measure import measure_costs

__all__ = ["CostCache", "measure_costs"]

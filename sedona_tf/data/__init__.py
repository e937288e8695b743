"""Data: sources held in memory, the bilevel split, and batches that resume exactly."""

from sedona_tf.data.pipeline import SearchData, TrainingData
from sedona_tf.data.preprocessing import Normalization, augment
from sedona_tf.data.record import DataRecord
from sedona_tf.data.sources import Source, load, load_section
from sedona_tf.data.split import bilevel_split, stratified_subset

__all__ = [
    "DataRecord",
    "Normalization",
    "SearchData",
    "Source",
    "TrainingData",
    "augment",
    "bilevel_split",
    "load",
    "load_section",
    "stratified_subset",
]

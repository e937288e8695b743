"""Recipes: the settings of a run, as `ml_collections` configs. The recipes lie in `recipes/`."""

from sedona_tf.recipe.checks import check_search, check_train, check_tune, require_files
from sedona_tf.recipe.fields import SYNTHETIC, paper, with_variant

__all__ = [
    "SYNTHETIC",
    "check_search",
    "check_train",
    "check_tune",
    "paper",
    "require_files",
    "with_variant",
]

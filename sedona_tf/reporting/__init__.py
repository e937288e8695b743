"""Tables and plots of what a search found and of what training made of it."""

from sedona_tf.reporting.curves import training_curves
from sedona_tf.reporting.evaluation_table import evaluation_table
from sedona_tf.reporting.plots import search_report
from sedona_tf.reporting.table import decoupling_table

__all__ = ["decoupling_table", "evaluation_table", "search_report", "training_curves"]

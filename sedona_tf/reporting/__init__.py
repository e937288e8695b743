"""Tables and plots of what a search found."""

from sedona_tf.reporting.plots import search_report
from sedona_tf.reporting.table import decoupling_table

__all__ = ["decoupling_table", "search_report"]

from .curves import training_curves as training_curves
from .page import render_page as render_page
from .plots import search_report as search_report
from .table import decoupling_table as decoupling_table

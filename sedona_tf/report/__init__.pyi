from .figures import search_report as search_report
from .figures import training_curves as training_curves
from .page import render_page as render_page
from .tables import decoupling_table as decoupling_table

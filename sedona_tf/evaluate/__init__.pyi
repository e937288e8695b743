from .ensemble import Ensemble as Ensemble
from .ensemble import evaluate_exits as evaluate_exits
from .exits import Evaluation as Evaluation

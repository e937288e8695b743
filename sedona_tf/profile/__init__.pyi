from .cache import CostCache as CostCache
from .costs import Costs as Costs
from .costs import PartCost as PartCost
from .measure import measure_costs as measure_costs

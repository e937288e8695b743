from .connection import connect as connect
from .watchdog import Watchdog as Watchdog
from .watchdog import guarded as guarded

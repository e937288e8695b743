"""Hosts that share a training: their addresses, and who may reach TensorFlow's port on them.

Nothing in here imports TensorFlow.
"""

from sedona_tf.hosts.addresses import Silence, parse_addresses, probe, require_distinct, silent
from sedona_tf.hosts.fence import ANY, fence, own_address
from sedona_tf.hosts.proxy import bypass_proxy
from sedona_tf.hosts.tether import Tether

__all__ = [
    "ANY",
    "Silence",
    "Tether",
    "bypass_proxy",
    "fence",
    "own_address",
    "parse_addresses",
    "probe",
    "require_distinct",
    "silent",
]

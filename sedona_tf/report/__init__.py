"""Makes one HTML page of a search, of a training or of both."""

from sedona_tf import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)

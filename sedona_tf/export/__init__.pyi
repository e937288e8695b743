from .publish import publish as publish

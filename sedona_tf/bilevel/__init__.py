"""The bilevel problem: inner steps on the weights, an outer step on the architecture."""

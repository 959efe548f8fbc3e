"""Videos in, labels or features out: what `ig65m classify` and `ig65m extract` do."""

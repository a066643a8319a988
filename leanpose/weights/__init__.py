"""Files of weights: the record inside each, and the names that stand for them."""

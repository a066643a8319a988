"""From a recipe to weights. Needs torch."""

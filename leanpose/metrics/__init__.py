"""Official figures from ground truth and results."""

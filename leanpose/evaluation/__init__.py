"""What a model is worth: accuracy on an annotated set, and time."""

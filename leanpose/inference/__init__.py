"""From an image to `Poses`; never imports torch unless a network in torch is asked for."""

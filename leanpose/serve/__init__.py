"""Skeletons in the browser and over HTTP: `leanpose serve`, with the extra "serve"."""

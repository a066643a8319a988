"""leanpose serve: a page and a service that find persons in images."""

"""The server: a page and an interface over HTTP, for photos and live frames."""

"""Drawings for people, with Pillow: host-free, for the nodes and for the WebUI's tab."""

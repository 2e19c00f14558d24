"""The storefront: the front page at `/`, and the API's documentation page, both complete without the network."""

from doorbuster.surfaces.storefront.front_page import Check, Health, render_front_page

__all__ = ["Check", "Health", "render_front_page"]

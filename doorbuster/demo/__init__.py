"""The demo shop, Tarn & Timber: a small catalogue with its artwork and deals, loaded on the first `doorbuster up`.

The brands are invented and the drawings were made for this project. The catalogue's image links point to
`MEDIA_PATH`, where the shop serves the folder `MEDIA`.
"""

from __future__ import annotations

from pathlib import Path

SHOP_NAME = "Tarn & Timber"
TAGLINE = "Good things for out there and back home"
CURRENCY = "USD"
CATALOG = Path(__file__).parent / "catalog.csv"
MEDIA = Path(__file__).parent / "media"
MEDIA_PATH = "/api/v1/catalog/media/"

"""Who somebody is, where their things go, what they earned."""

"""Where people meet the shop: the command line, and later the storefront and the console."""

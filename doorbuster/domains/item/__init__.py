"""What is sold, what it costs, how many there are."""

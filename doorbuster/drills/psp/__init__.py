"""The drill `psp`: a payment provider fails under load and comes back; nobody pays twice, and payment goes on."""

"""What makes people come: time deals, and later coupons, campaigns, experiments, the waiting room."""

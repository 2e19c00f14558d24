"""`make bench`: what this shop does on this machine, as ratios of limits measured in the same run."""

"""Sample many tool-using trajectories, prune them at a mark, finish the best, vote."""

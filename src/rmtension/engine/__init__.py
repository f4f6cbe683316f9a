"""What runs a model: packing, training, statistics, ablation, scores."""

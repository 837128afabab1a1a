"""Inferscale: a Kubernetes operator that serves many LLMs at the lowest cost that keeps every objective."""

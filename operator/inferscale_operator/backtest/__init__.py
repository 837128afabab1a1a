"""What policies would have done with the load of the past: the history in Prometheus, in the digital twin."""

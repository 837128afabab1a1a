"""The main job at work on a local cluster: `make demo`."""

"""Into Inferscale and out of it: planning files, custom resources, Deployments that run already."""

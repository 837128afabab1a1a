"""The Grafana dashboard of the Helm chart."""

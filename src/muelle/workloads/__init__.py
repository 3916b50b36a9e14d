"""Workloads: what people run, from the source to a place that serves."""

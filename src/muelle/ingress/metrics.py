"""What the proxy counts, as Prometheus wants to have it: read from the proxy when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muelle.ingress.proxy import Proxy


class IngressMetrics(Collector):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def collect(self) -> Iterator[Metric]:
        counters = self._proxy.counters
        answers = CounterMetricFamily("muelle_ingress_answers", "Answers to requests", labels=["status"])
        for digit, number in enumerate(counters.answers):
            if number:
                answers.add_metric([f"{digit}xx"], number)
        yield answers
        pages = CounterMetricFamily("muelle_ingress_pages", "Pages of our own shown instead", labels=["reason"])
        for reason, number in counters.pages.items():
            pages.add_metric([str(reason)], number)
        yield pages
        for name, what, number in (
            ("requests", "Requests understood", counters.requests),
            ("refused", "Requests that were no proper HTTP", counters.refused),
            ("turned_away", "Connections that there was no room for", counters.turned_away),
            ("retried", "Requests sent again on another connection", counters.retried),
            ("broken_off", "Answers that their workload did not end", counters.broken_off),
            ("abandoned", "Requests whose client did not wait", counters.abandoned),
            ("tunnels", "WebSockets and other upgrades", counters.tunnels),
        ):
            yield CounterMetricFamily(f"muelle_ingress_{name}", what, value=number)
        yield GaugeMetricFamily("muelle_ingress_connections", "Connections of clients", value=counters.connections)

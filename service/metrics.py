"""What Prometheus may ask of this process, counted a batch at a time."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from projections.job import JobStatus
from service.batch import Outcome
from service.event_log import EventLog
from service.executor import Executor
from service.feed import Feed
from service.lease import Candidate
from service.writing import Head

BATCH_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
COMMIT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class ClusterCollector(Collector):
    """Asks the executor, whenever it is asked itself, how it stands with its clusters."""

    def __init__(self, executor: Executor) -> None:
        """Take whom to ask."""
        self._executor = executor

    def collect(self) -> Iterator[Metric]:
        """Yield a gauge and two counters with a line for each cluster."""
        heard = GaugeMetricFamily(
            "epochlog_cluster_heard_seconds",
            "Seconds since a followed cluster last said anything.",
            labels=["cluster"],
        )
        malformed = CounterMetricFamily(
            "epochlog_cluster_malformed_objects",
            "Objects of a cluster that could not be understood.",
            labels=["cluster"],
        )
        restarts = CounterMetricFamily(
            "epochlog_cluster_watch_restarts",
            "How often a list or watch of a cluster had to be begun anew.",
            labels=["cluster"],
        )
        for cluster, contact in self._executor.contacts().items():
            if contact.heard_seconds_ago is not None:
                heard.add_metric([cluster], contact.heard_seconds_ago)
            malformed.add_metric([cluster], contact.malformed)
            restarts.add_metric([cluster], contact.restarts)
        yield from (heard, malformed, restarts)


class Metrics:
    """The counters and gauges of one service, in a registry of their own."""

    def __init__(self, log: EventLog, feed: Feed, candidate: Candidate, executor: Executor) -> None:
        """Take what the gauges look at when they are asked."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._events = self._counter("events_appended", "Events appended by this process.", "type")
        self._callbacks = self._counter(
            "callbacks", "Callbacks by answer: applied, set_aside, duplicate or an error.", "answer"
        )
        self._dropped = self._counter(
            "subscribers_dropped", "Subscribers sent away, by close code.", "code"
        )
        self._batch_events = self._histogram("batch_events", "Events a commit.", BATCH_EVENTS)
        self._commit_seconds = self._histogram(
            "commit_seconds", "Seconds a commit took, from its first read on.", COMMIT_SECONDS
        )
        self._position = self._gauge("log_position", "Where the log ends.")
        self._jobs = self._gauge("jobs", "Jobs by status.", "status")
        self._gauge("queue_length", "Commands that wait to be written.").set_function(
            lambda: log.queued
        )
        self._gauge("subscribers", "Who follows the feeds now.").set_function(
            lambda: feed.subscribers
        )
        self._gauge("feed_lag", "Positions not yet offered to subscribers.").set_function(
            lambda: feed.lag
        )
        self._gauge("leader", "1 where this process supervises, else 0.").set_function(
            lambda: candidate.leads
        )
        self._term = self._gauge("lease_term", "How often the right to supervise was taken.")
        self._orphans = self._gauge(
            "cluster_orphans", "What was left behind in a cluster, by its kind.", "cluster", "kind"
        )
        self._sweeps = Counter(
            "epochlog_cluster_sweeps",
            "How often was looked for what was left behind.",
            registry=self.registry,
        )
        self.registry.register(ClusterCollector(executor))

    def committed(self, answers: Sequence[Outcome | Exception], seconds: float) -> None:
        """Count a commit."""
        events: Counts[str] = Counts()
        callbacks: Counts[str] = Counts()
        for answer in answers:
            if isinstance(answer, Outcome):
                events.update([record.type for record in answer.records])
                for one in answer.recorded:
                    applied = "applied" if one.rule is None else "set_aside"
                    callbacks["duplicate" if one.duplicate else applied] += 1
        for type_name, count in events.items():
            self._events.labels(type_name).inc(count)
        for told, count in callbacks.items():
            self._callbacks.labels(told).inc(count)
        if events:
            self._batch_events.observe(events.total())
            self._commit_seconds.observe(seconds)

    def refused(self, code: str) -> None:
        """Count a callback that was answered with an error."""
        self._callbacks.labels(code).inc()

    def dropped(self, code: int) -> None:
        """Count a subscriber that was sent away."""
        self._dropped.labels(str(code)).inc()

    def swept(self, orphans: Mapping[tuple[str, str], int]) -> None:
        """Show what was left behind, by cluster and kind."""
        self._sweeps.inc()
        self.sweeps_no_more()
        for (cluster, kind), count in orphans.items():
            self._orphans.labels(cluster, kind).set(count)

    def sweeps_no_more(self) -> None:
        """Show nothing of what was left behind."""
        self._orphans.clear()

    def text(self, head: Head | None) -> str:
        """Return everything, in Prometheus' text format; of the log where it could be read."""
        if head is None:
            self._jobs.clear()
        else:
            self._position.set(head.position)
            self._term.set(head.term)
            for status in JobStatus:
                self._jobs.labels(status.value).set(head.counts.get(status.value, 0))
        return generate_latest(self.registry).decode()

    def _counter(self, name: str, sense: str, label: str) -> Counter:
        return Counter(f"epochlog_{name}", sense, [label], registry=self.registry)

    def _gauge(self, name: str, sense: str, *labels: str) -> Gauge:
        return Gauge(f"epochlog_{name}", sense, labels, registry=self.registry)

    def _histogram(self, name: str, sense: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"epochlog_{name}", sense, buckets=buckets, registry=self.registry)

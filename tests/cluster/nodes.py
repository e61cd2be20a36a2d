"""What happens to nodes, and with them to the pods that are there."""

from __future__ import annotations

from tests.cluster import containers
from tests.cluster.deletion import delete_pod
from tests.cluster.objects import is_deleting, is_over, name_of, namespace_of, uid_of
from tests.cluster.steps import Steps

NODE_SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
TAINTED = "Taint manager: deleting due to NoExecute taint"


class NodeSteps(Steps):
    """The steps, with those that come over a whole node."""

    def lose_node(self, node: str) -> None:
        """The node is silent: its pods stay Running and turn not ready."""
        self.lost_nodes.add(node)
        for pod in self.pods_on(node):
            if not is_over(pod):
                unready = self._write(pod, containers.node_not_ready(self.now))
                self.recorder.by_controller(
                    unready, "Warning", "NodeNotReady", "Node is not ready", "node-controller"
                )
        self.settle()

    def taint_node(self, node: str) -> None:
        """The tolerations of the lost node's pods are over: they are deleted, and never go."""
        for pod in self.pods_on(node):
            if is_over(pod) or is_deleting(pod):
                continue
            said = f"Marking for deletion Pod {namespace_of(pod)}/{name_of(pod)}"
            self.recorder.by_controller(
                pod, "Normal", "TaintManagerEviction", said, "taint-eviction-controller"
            )
            write = containers.disrupted("DeletionByTaintManager", TAINTED, self.now)
            delete_pod(self.store, self._write(pod, write))
        self.settle()

    def return_node(self, node: str) -> None:
        """The node is back; what runs there is ready again, what was deleted begins to stop."""
        self.lost_nodes.discard(node)
        for pod in self.pods_on(node):
            if not is_over(pod) and not is_deleting(pod):
                self._write(pod, containers.node_ready(self.now))
            else:
                self._pods[uid_of(pod)] = None
        self.settle()

    def remove_node(self, node: str) -> None:
        """The Node object is deleted: PodGC gives its pods up, at once."""
        self.nodes.remove(node)
        for pod in self.pods_on(node):
            delete_pod(self.store, self._write(pod, containers.given_up(self.now)), 0)
        self.settle()

    def shut_down_node(self, node: str) -> None:
        """The node shuts down in good order and ends its pods."""
        for pod in self.pods_on(node):
            if not is_over(pod):
                self.evict(pod, reason="Terminated", message=NODE_SHUTDOWN)

"""Lives that nobody wrote down: whatever may happen next to a pod happens, by chance."""

from __future__ import annotations

import random

from tests.cluster.objects import JOBS, PODS, Object, is_deleting, is_over, is_running, is_true
from tests.scenarios.row import runs
from tests.scenarios.world import World

PAUSES = (1.0, 3.0, 10.0, 40.0, 200.0)


def lives(world: World, chance: random.Random) -> list[str]:
    """Let a dozen things happen at most, then let time pass; what happened."""
    world.submit()
    if chance.random() < 0.8:
        runs(world)
        world.then()
    happened = []
    for _ in range(chance.randint(3, 12)):
        step = chance.choice(_possible(world, chance))
        happened.append(step)
        _happen(world, step, chance)
    world.later(60)
    world.later(400)
    return happened


def _possible(world: World, chance: random.Random) -> list[str]:
    steps = ["later", "later", "later"]
    if (pod := _pod(world)) is not None:
        steps += _possible_for_a_pod(world, pod)
    job = world.cluster.store.find(JOBS, world.cluster.namespace, world.name)
    if job is not None and not is_deleting(job) and chance.random() < 0.5:
        steps += ["delete_job"]
        if not is_true(job, "Failed") and not is_true(job, "Complete"):
            steps += ["resume"] * 3 if job["spec"].get("suspend") else ["suspend"]
            steps += ["scale 1"] * 3 if job["spec"]["parallelism"] == 0 else ["scale 0"]
            steps += ["expire_deadline", "allow_failures 1"]
    if world.state.executor is not None and chance.random() < 0.3:
        steps += ["cancel"]
    return steps


def _pod(world: World) -> Object | None:
    pods = [one for one in world.tape.writes if one.resource is PODS]
    if not pods:
        return None
    name = pods[-1].object["metadata"]["name"]
    return world.cluster.store.find(PODS, world.cluster.namespace, name)


def _possible_for_a_pod(world: World, pod: Object) -> list[str]:
    node = pod["spec"].get("nodeName")
    lost, deleting = node in world.cluster.lost_nodes, is_deleting(pod)
    if is_over(pod):
        return []
    steps = [] if deleting else ["delete_pod"]
    if node is None:
        return steps if deleting else [*steps, "unschedulable", "schedule"]
    if lost:
        return [*steps, "return_node", *([] if deleting else ["taint_node"])]
    if not is_running(pod):
        waits = ["start"] * 4 + ["pull_fails", "config_error", "admission_error"]
        return steps if deleting else steps + waits
    ends = ["exit 0", "exit 1", "exit 143", "out_of_memory", "evict", "lose_node", "not_located"]
    says = ["heartbeat", "heartbeat", "done", "terminated"]
    return steps + ends + says + ([] if deleting else ["drain", "preempt", "threaten"])


def _happen(world: World, step: str, chance: random.Random) -> None:
    pod = _pod(world)
    match step.split():
        case ["later"]:
            world.later(chance.choice(PAUSES))
        case [("exit" | "scale" | "allow_failures") as step, number]:
            getattr(world, step)(int(number))
        case [("heartbeat" | "done" | "terminated" | "cancel") as said]:
            world.then()  # who came first may name the winner
            world.gave_up("terminated") if said == "terminated" else getattr(world, said)()
            world.then()
        case [("drain" | "preempt") as step]:
            getattr(world, step)(code=chance.choice((None, 143)))
        case ["delete_job"]:
            world.delete_job(chance.choice(("Background", "Foreground")))
        case [step] if step.endswith("_node") and pod is not None:
            getattr(world, step)(pod["spec"]["nodeName"])
        case _:
            getattr(world, step)()

"""The clusters in which trainings run: named in one small file, or one by the variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from service.errors import FieldError, InvalidRequestError, SettingsError
from service.settings import DEFAULT_TEMPLATE, KUBE_NAME, ExecutorKind, Settings
from service.yaml_file import read_yaml

VARIABLE = "EPOCHLOG_CLUSTERS"
A_FILE = "a YAML file with a list `clusters`"
A_NAME = "1 to 63 small letters, digits and hyphens, with no hyphen at either end"
THE_ONLY_ONE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where Jobs are made: an API server and a namespace there."""

    name: str
    context: str | None = None
    """A context of the kubeconfig. None with `in_cluster` unset: the kubeconfig's current one, or
    where there is no kubeconfig the cluster that the service itself runs in."""
    in_cluster: bool = False
    namespace: str = "default"
    job_template: Path = DEFAULT_TEMPLATE
    queue: str | None = None
    """The Kueue LocalQueue that admits the Jobs, where there is one."""

    @property
    def place(self) -> str:
        """Return what tells it from every other place where attempts run."""
        return f"kubernetes:{self.name}/{self.namespace}"


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of this service, the first of which takes the jobs that name none."""

    all: tuple[Cluster, ...] = ()

    def __iter__(self) -> Iterator[Cluster]:
        """Go through them in their order."""
        return iter(self.all)

    def cluster_for(self, name: str | None) -> Cluster:
        """Return the cluster that a job names, or the first; InvalidRequestError without one."""
        for cluster in self.all:
            if name in {None, cluster.name}:
                return cluster
        names = ", ".join(cluster.name for cluster in self.all)
        wanted = f"needs the name of a cluster ({names})" if names else "needs to be absent"
        why = "" if names else ", as this service starts no trainings on Kubernetes"
        fault = FieldError("cluster", f"{wanted}{why}")
        raise InvalidRequestError(f"{fault.field} {fault.message}.", errors=[fault])


def clusters_of(settings: Settings) -> Clusters:
    """Return the clusters that the settings ask for; none with another executor.

    Raises SettingsError, which names every fault of the file.
    """
    if settings.executor is not ExecutorKind.KUBERNETES:
        return Clusters()
    if settings.clusters is None:
        only = Cluster(
            name=THE_ONLY_ONE,
            context=settings.kube_context,
            namespace=settings.kube_namespace,
            job_template=settings.job_template,
        )
        return Clusters((only,))
    file = _read(settings.clusters)
    folder = settings.clusters.parent
    found = tuple(
        Cluster(
            name=entry.name,
            context=entry.context,
            in_cluster=entry.in_cluster,
            namespace=entry.namespace or settings.kube_namespace,
            job_template=(
                folder / entry.job_template if entry.job_template else settings.job_template
            ),
            queue=entry.queue,
        )
        for entry in file.clusters
    )
    _refuse_twins(found)
    return Clusters(found)


class _Entry(BaseModel):
    """One cluster as the file describes it; a field's description is what it needs."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=KUBE_NAME, description=A_NAME)]
    context: Annotated[
        str | None,
        Field(min_length=1, max_length=500, description="the name of a context in the kubeconfig"),
    ] = None
    in_cluster: Annotated[bool, Field(description="true or false")] = False
    namespace: Annotated[str | None, Field(pattern=KUBE_NAME, description=A_NAME)] = None
    job_template: Annotated[
        str | None, Field(min_length=1, description="the path of a YAML file, from this one's")
    ] = None
    queue: Annotated[str | None, Field(pattern=KUBE_NAME, description=A_NAME)] = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.in_cluster and self.context is not None:
            raise ValueError("needs either context or in_cluster")
        return self


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    clusters: Annotated[
        list[_Entry], Field(min_length=1, max_length=100, description="a list of 1 to 100 clusters")
    ]


def _read(path: Path) -> _File:
    content = read_yaml(path, variable=VARIABLE, wanted=A_FILE)
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        wrong = dict.fromkeys(_what_is_wrong(one) for one in error.errors(include_input=False))
    raise SettingsError(f"{VARIABLE} needs {A_FILE}, and in {path}: " + "; ".join(wrong) + ".")


def _what_is_wrong(error: ErrorDetails) -> str:
    steps = error["loc"]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    place = place.removeprefix(".") or "the document"
    name = steps[-1] if steps else None
    known = {**_File.model_fields, **_Entry.model_fields}
    match error["type"]:
        case "extra_forbidden":
            names = _Entry.model_fields if len(steps) > 1 else _File.model_fields
            return f"{place} is not known (there are {', '.join(names)})"
        case "value_error":
            return f"{place} {error['ctx']['error']}"
        case "missing":
            return f"{place} is missing: it needs {known[str(name)].description}"
        case _ if isinstance(name, str) and name in known:
            return f"{place} needs {known[name].description}"
        case _:
            return f"{place} needs to be a mapping of names to values"


def _refuse_twins(clusters: tuple[Cluster, ...]) -> None:
    """Refuse one name for two clusters, and two names for one namespace of a cluster."""
    names: dict[str, int] = {}
    ways: dict[tuple[str | None, bool, str], int] = {}
    twins = []
    for number, cluster in enumerate(clusters):
        first = names.setdefault(cluster.name, number)
        if first != number:
            twins.append(f"clusters[{number}].name is that of clusters[{first}] too")
        way = (cluster.context, cluster.in_cluster, cluster.namespace)
        first = ways.setdefault(way, number)
        if first != number:
            twins.append(f"clusters[{number}] is the same namespace as clusters[{first}]")
    if twins:
        raise SettingsError(
            f"{VARIABLE} needs {A_FILE} that all differ, and there " + "; ".join(twins) + "."
        )

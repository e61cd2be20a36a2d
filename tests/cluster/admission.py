"""What stands between an accepted request and its object: quota, webhooks, PodSecurity."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.cluster.objects import JOBS, PODS, Object, Resource
from tests.cluster.refusals import Refusal, forbidden

RESTRICTED = "restricted:latest"
QUOTA = "exceeded quota: training, requested: {used}=1, used: {used}=4, limited: {used}=4"


@dataclass(slots=True)
class Rule:
    """One standing refusal of creations."""

    resource: Resource
    times: int | None
    status: int
    reason: str
    message: str  # {name} stands for the object's name

    def refusal(self, name: str) -> Refusal:
        message = self.message.replace("{name}", name)
        if self.reason == "Forbidden" and "admission webhook" not in message:
            return forbidden(self.resource, name, message)
        return Refusal(self.status, self.reason, message)


@dataclass(slots=True)
class Admission:
    """The plug-ins that may refuse or remark on an object."""

    rules: list[Rule] = field(default_factory=list)
    # Whether the namespace enforces the PodSecurity level `restricted`.
    pod_security: bool = False

    def quota(
        self,
        message: str = QUOTA,
        *,
        resource: Resource = PODS,
        times: int | None = None,
    ) -> Rule:
        """Refuse creations by a ResourceQuota, of Pods or (`resource=JOBS`) of Jobs."""
        used = "pods" if resource is PODS else f"count/{resource.qualified}"
        return self.refuse(resource, 403, "Forbidden", message.replace("{used}", used), times=times)

    def webhook(
        self,
        said: str,
        *,
        name: str = "policy.example.com",
        status: int = 400,
        resource: Resource = JOBS,
        times: int | None = None,
    ) -> Rule:
        """Let a validating webhook deny creations in its own words."""
        reason = {400: "", 403: "Forbidden", 500: "InternalError"}.get(status, "")
        message = f'admission webhook "{name}" denied the request: {said}'
        return self.refuse(resource, status, reason, message, times=times)

    def webhook_down(
        self,
        *,
        name: str = "policy.example.com",
        resource: Resource = JOBS,
        times: int | None = None,
    ) -> Rule:
        """Let a webhook that must answer be away: 500, and nothing is created."""
        message = (
            f'Internal error occurred: failed calling webhook "{name}": failed to call webhook: '
            f'Post "https://policy.policy.svc:443/validate?timeout=10s": context deadline exceeded'
        )
        return self.refuse(resource, 500, "InternalError", message, times=times)

    def refuse(
        self,
        resource: Resource,
        status: int,
        reason: str,
        message: str,
        *,
        times: int | None = None,
    ) -> Rule:
        """Refuse creations of that kind with this answer until `allow()`, or so many times."""
        rule = Rule(resource, times, status, reason, message)
        self.rules.append(rule)
        return rule

    def allow(self) -> None:
        """Take every refusal away."""
        self.rules.clear()
        self.pod_security = False

    def check(self, resource: Resource, name: str, body: Object) -> None:
        """Refuse the creation where a rule does."""
        for rule in self.rules:
            if rule.resource is resource and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                raise rule.refusal(name)
        if self.pod_security and resource is PODS:
            why = violations(body["spec"])
            if why:
                raise forbidden(PODS, name, f'violates PodSecurity "{RESTRICTED}": {why}')

    def warning(self, resource: Resource, body: Object) -> str | None:
        """What the server remarks on a Job whose pods it will refuse."""
        if not self.pod_security or resource is not JOBS:
            return None
        why = violations(body["spec"]["template"]["spec"])
        return f'would violate PodSecurity "{RESTRICTED}": {why}' if why else None


def violations(spec: Object) -> str:
    """Why a pod may not run under `restricted`, in the words of the plug-in; "" if it may."""
    found: list[str] = []
    pod = spec.get("securityContext") or {}
    for container in spec["containers"]:
        own = container.get("securityContext") or {}
        named = f'container "{container["name"]}" must set'
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(
                f"allowPrivilegeEscalation != false ({named} "
                "securityContext.allowPrivilegeEscalation=false)"
            )
        if "ALL" not in (own.get("capabilities") or {}).get("drop", []):
            found.append(
                f'unrestricted capabilities ({named} securityContext.capabilities.drop=["ALL"])'
            )
        either = f'pod or container "{container["name"]}" must set'
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            found.append(f"runAsNonRoot != true ({either} securityContext.runAsNonRoot=true)")
        profile = own.get("seccompProfile") or pod.get("seccompProfile") or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(
                f"seccompProfile ({either} securityContext.seccompProfile.type to "
                '"RuntimeDefault" or "Localhost")'
            )
    return ", ".join(found)

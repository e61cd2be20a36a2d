"""Who may do what: bearer tokens, Roles, and the sentence of a 403."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.objects import Object, Resource, copied
from tests.cluster.refusals import Refusal, details, unauthorized

ADMIN = "kubernetes-admin"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for, in the words of the authorizer."""

    verb: str
    group: str
    resource: str  # with its subresource: pods/log
    namespace: str = ""
    name: str = ""


@dataclass(slots=True)
class User:
    """A holder of a token; without rules, one who may do everything."""

    name: str
    namespace: str = ""
    rules: list[Object] | None = None

    def may(self, wish: Wish) -> bool:
        if self.rules is None:
            return True
        if wish.namespace != self.namespace:
            return False
        return any(_allows(rule, wish) for rule in self.rules)


@dataclass(slots=True)
class Access:
    """The tokens that are known, and whose they are."""

    users: dict[str, User] = field(default_factory=dict)

    def add(
        self, token: str, name: str, namespace: str, rules: Iterable[dict[str, Any]] | None
    ) -> User:
        """Let this token in, with these rules of a Role; None for an administrator."""
        kept = None if rules is None else [copied(rule) for rule in rules]
        self.users[token] = User(name, namespace, kept)
        return self.users[token]

    def user(self, authorization: str | None) -> User:
        """Whose header this is, or 401."""
        token = (authorization or "").removeprefix("Bearer ")
        if token not in self.users:
            raise unauthorized()
        return self.users[token]

    def take_away(self, token: str, verb: str, resource: str) -> None:
        """Remove one verb from one resource of the user's Role, as an operator would by hand."""
        user = self.users[token]
        rules: list[Object] = []
        for rule in user.rules or []:
            if resource not in rule["resources"]:
                rules.append(rule)
                continue
            others = [name for name in rule["resources"] if name != resource]
            if others:
                rules.append({**rule, "resources": others})
            verbs = [name for name in rule["verbs"] if name != verb]
            rules.append({**rule, "resources": [resource], "verbs": verbs})
        user.rules = rules


def refuse_unless_allowed(user: User, wish: Wish, resource: Resource) -> None:
    if user.may(wish):
        return
    where = f'in the namespace "{wish.namespace}"' if wish.namespace else "at the cluster scope"
    named = f' "{wish.name}"' if wish.name else ""
    message = (
        f'{resource.qualified}{named} is forbidden: User "{user.name}" cannot {wish.verb} '
        f'resource "{wish.resource}" in API group "{wish.group}" {where}'
    )
    raise Refusal(403, "Forbidden", message, details(resource, wish.name))


def review(user: User, attributes: Object) -> bool:
    """Whether the user may do what a SelfSubjectAccessReview asks about."""
    resource = attributes.get("resource", "")
    if attributes.get("subresource"):
        resource += "/" + attributes["subresource"]
    return user.may(
        Wish(
            verb=attributes.get("verb", ""),
            group=attributes.get("group", ""),
            resource=resource,
            namespace=attributes.get("namespace", ""),
            name=attributes.get("name", ""),
        )
    )


def _allows(rule: Object, wish: Wish) -> bool:
    names = rule.get("resourceNames") or []
    return (
        _listed(rule.get("apiGroups", []), wish.group)
        and _listed(rule.get("resources", []), wish.resource)
        and _listed(rule.get("verbs", []), wish.verb)
        and (not names or wish.name in names)
    )


def _listed(listed: list[str], wanted: str) -> bool:
    return "*" in listed or wanted in listed

"""One owner of the domain: a data set takes the recipe's, and makes one of its own where it is built without."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from anydiff.domains.domain import Domain
from anydiff.errors import AnydiffError

D = TypeVar("D", bound=Domain)


def domain_of_data(
    kind: type[D], given: Domain | Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None, **told: Any
) -> D:
    """The domain of a data set whose constructor takes ``domain``.

    It is ``given`` itself where that is a domain of this kind and the data set is told nothing else. An option that the
    data set is told replaces the domain's; building a recipe's data then compares both, and refuses a contradiction.

    Args:
        kind: the class of the domain; where ``told`` may hold something, its attributes have the
            names of its options.
        given: the recipe's domain, options of one, or None. A domain of another kind is left aside, so that the
            comparison with the recipe's can say what does not fit.
        defaults: options of a domain that the data set makes by itself.
        told: options of the data set that are the domain's too; None where it was told nothing.

    Raises:
        AnydiffError: ``given`` is neither a domain nor options, or the options make no domain.
    """
    own = {name: value for name, value in told.items() if value is not None}
    if isinstance(given, kind):
        return (
            kind(**{name: getattr(given, name) for name in inspect.signature(kind).parameters} | own) if own else given
        )
    if given is not None and not isinstance(given, (Domain, Mapping)):
        raise AnydiffError(
            f"domain is {given!r}, but must be a domain; leave it out of dataset.options to take the recipe's."
        )
    options = given if isinstance(given, Mapping) else {}
    return kind(**{**(defaults or {}), **options, **own})

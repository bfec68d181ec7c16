"""Tables whose keys a plugin defines: filled into its options model, or refused in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo

from remediation.errors import RegistrationError
from remediation.model.text import capped, printable
from remediation.settings import faults

M = TypeVar("M", bound=BaseModel)


def filled(model: type[M], table: Mapping[str, Any], where: str) -> M:
    """
    The options that `table` holds; `where` is the table's place, as a person finds it in the file.

    A key that the model does not have is refused, also where the model itself would overlook it (pydantic's default).

    Raises:
        RegistrationError: it can't be used; one sentence for each problem, and each begins with `where`.

    """
    said = [faults.unknown(location, model, where) for location in _overlooked(model, table)]
    try:
        made = model.model_validate(dict(table))
    except ValidationError as error:
        said += faults.of_table(error, model, where)
    except Exception as error:  # a validator of the plugin's
        said.append(f"{where} can't be used: {type(error).__name__}: {capped(printable(str(error)), 300)}")
    else:
        if not said:
            return made
    raise RegistrationError("\n".join(said)) from None


def _overlooked(model: type[BaseModel], table: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where `table` has keys that `model` would neither take nor refuse."""
    if issubclass(model, RootModel):
        return
    both = bool({"populate_by_name", "validate_by_name"} & {name for name, on in model.model_config.items() if on})
    fields = {name: field for key, field in model.model_fields.items() for name in _names(key, field, both)}
    for name, value in table.items():
        if name not in fields:
            if model.model_config.get("extra", "ignore") == "ignore":
                yield (*at, name)
        elif isinstance(value, Mapping) and (inner := faults.model_of(fields[name].annotation)) is not None:
            yield from _overlooked(inner, value, (*at, name))


def _names(key: str, field: FieldInfo, both: bool) -> set[str]:
    """The keys that `field` is read from; `both` says that its own name is one beside its alias."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias is not None else []
    named = {item if isinstance(item, str) else str(item.path[0]) for item in choices}
    return named | {key} if both or not named else named

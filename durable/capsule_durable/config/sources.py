"""Read the configuration from its sources, and tell where each value comes from.

A later source overrides an earlier one: defaults, ``capsule.toml`` of the user, ``capsule.toml`` of the project,
``CAPSULE_*`` variables, the kernelspec's arguments.

An unknown setting is a warning. A wrong value is a problem: the kernel starts with the default instead, but every cell
fails with the reason.
"""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from capsule_durable.config.fast_defaults import ENVIRONMENT_PREFIX, FILE_NAME
from capsule_durable.config.paths import configuration
from capsule_durable.config.settings import Settings
from capsule_durable.errors import CapsuleError

logger = logging.getLogger(__name__)

#: The origin of a setting that no source sets, and of one that the kernelspec's arguments set.
DEFAULT, ARGUMENT = "default", "argument"
#: How similar an environment variable must be to that of a setting to count as a misspelling of it: 0 to 1. Other
#: programs, and Capsule itself, use variables with the same prefix.
_SIMILARITY = 0.8


class ConfigurationError(CapsuleError):
    """A setting has a wrong value, or a file cannot be read. The message says which setting, and where it is set."""


class Configuration(NamedTuple):
    """The effective settings, and what is wrong with their sources.

    Args:
        settings: the settings. One with a wrong value has its default.
        origins: for each setting, where its value comes from: a file, an environment variable, ``argument`` or
            ``default``.
        warnings: the unknown settings, one sentence or two each.
        problem: the wrong values and unreadable files, one line each; empty if there are none.
    """

    settings: Settings
    origins: dict[str, str]
    warnings: tuple[str, ...] = ()
    problem: str = ""


def load(
    environ: Mapping[str, str],
    arguments: Mapping[str, Any],
    directory: Path,
    user_directory: Path | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Return the effective settings and their origins, for a command that cannot run with a wrong value.

    Unknown settings are logged as warnings, each once.

    Args:
        environ: as for ``read``.
        arguments: as for ``read``.
        directory: as for ``read``.
        user_directory: as for ``read``.

    Raises:
        ConfigurationError: a value is wrong, or a file cannot be read.
    """
    found = read(environ, arguments, directory, user_directory)
    for warning in found.warnings:
        _warn(warning)
    if found.problem:
        raise ConfigurationError(found.problem)
    return found.settings, found.origins


def read(
    environ: Mapping[str, str],
    arguments: Mapping[str, Any],
    directory: Path,
    user_directory: Path | None = None,
) -> Configuration:
    """Read the configuration. It never fails: the result tells what is wrong.

    Args:
        environ: the environment.
        arguments: settings given on the command line; None means not given.
        directory: the directory that may have the project's ``capsule.toml``.
        user_directory: the directory that may have the user's; None for the usual directory for configuration.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, DEFAULT)
    warnings, problems = [*_misspelt_variables(environ)], []
    for path in (user_directory or configuration(environ), directory):
        file = path / FILE_NAME
        try:
            found = _read_file(file)
        except ConfigurationError as error:
            problems.append(str(error))
            continue
        for name in sorted(found.keys() - origins.keys()):
            warnings.append(_unknown(name, str(file), difflib.get_close_matches(name, origins, 1)))
            del found[name]
        values |= found
        origins |= dict.fromkeys(found, str(file))
    variables = {name: _variable(name) for name in origins if _variable(name) in environ}
    values |= {name: environ[variable] for name, variable in variables.items()}
    given = {name: value for name, value in arguments.items() if value is not None}
    values |= given
    origins |= variables | dict.fromkeys(given, ARGUMENT)
    settings, wrong = _validate(values, origins)
    return Configuration(settings, origins, tuple(warnings), "\n".join([*problems, *wrong]))


def _validate(values: dict[str, Any], origins: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the settings, and what is wrong with each value that is replaced by its default."""
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        reasons = {str(item["loc"][0]): item["msg"] for item in error.errors()}
    problems = [_wrong(name, values[name], origins[name], reason) for name, reason in reasons.items()]
    return Settings.model_validate({name: value for name, value in values.items() if name not in reasons}), problems


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import tomllib  # most users have no such file

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        msg = f"Cannot read {path}: {error}."
        raise ConfigurationError(msg) from error


def _misspelt_variables(environ: Mapping[str, str]) -> Iterator[str]:
    variables = [_variable(name) for name in Settings.model_fields]
    names = {variable.removeprefix(ENVIRONMENT_PREFIX): variable for variable in variables}
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in variables:
            name = variable.removeprefix(ENVIRONMENT_PREFIX)
            close = difflib.get_close_matches(name, names, 1, _SIMILARITY)
            if close:
                yield _unknown(variable, "the environment", [names[close[0]]])


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _unknown(name: str, origin: str, similar: list[str]) -> str:
    suggestion = f' Did you mean "{similar[0]}"?' if similar else ""
    return f'Unknown setting "{name}" in {origin}.{suggestion}'


def _wrong(name: str, value: object, origin: str, reason: str) -> str:
    where = "the kernelspec's arguments" if origin == ARGUMENT else origin
    return f'Wrong value for "{name}" in {where}: {value!r} ({reason[:1].lower()}{reason[1:]}).'


@functools.cache  # once for each text: some commands read the configuration several times
def _warn(text: str) -> None:
    logger.warning("%s", text)

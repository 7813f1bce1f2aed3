"""The plan that a profile and its paths mean: which layers are active, why others are missing, and what is hidden."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from capsule_durable.config.limits import PathRules
from capsule_durable.sandbox.policy import (
    KEYS,
    PROFILES,
    Layer,
    Sandbox,
    SandboxPaths,
    SandboxRefused,
    plan,
    reported_layer,
    sandbox_paths,
)

PREFIX = ["/usr/bin/bwrap", "--unshare-user"]


def test_without_bubblewrap_the_plan_says_so_and_how_to_fix_it(paths: SandboxPaths) -> None:
    sandbox = plan("notebook", paths)
    (layer,) = sandbox.layers
    assert (layer.name, layer.is_active, sandbox.prefix) == ("namespaces", False, ())
    assert "install bubblewrap" in layer.fix
    assert sandbox.summary() == "notebook (namespaces are missing: bubblewrap is not installed)"


def test_where_bubblewrap_does_not_work_the_forkserver_gives_up_what_it_can(paths: SandboxPaths) -> None:
    sandbox = plan("notebook", paths, PREFIX, "no permission")
    assert (sandbox.prefix, sandbox.scratch) == ((), ())
    assert sandbox.layers[0].why == "no permission"
    assert "user namespaces" in sandbox.layers[0].fix
    assert sandbox.confinement is not None
    given_up = json.loads(sandbox.confinement)
    assert given_up["hidden"][:2] == [str(paths.home), str(paths.secrets[0])]
    assert given_up["shown"] == [str(paths.session)]
    assert given_up["fixed"] == [str(path) for path in paths.fixed]


def test_with_namespaces_the_plan_has_the_prefix_and_the_scratch_directories(paths: SandboxPaths) -> None:
    sandbox = plan("notebook", paths, PREFIX, "", ["/dev", "/tmp"])
    assert (sandbox.prefix, sandbox.scratch) == (tuple(PREFIX), ("/dev", "/tmp"))
    assert sandbox.layers == (Layer("namespaces"),)
    assert sandbox.summary([Layer("system calls")]) == "notebook (namespaces, system calls: active)"
    assert sandbox.summary([reported_layer("scopes", "Linux is too old")]) == (
        "notebook (namespaces: active; scopes are missing: Linux is too old)"
    )


def test_only_the_profile_restricted_requires_its_layers(paths: SandboxPaths) -> None:
    plan("notebook", paths).check()
    with pytest.raises(SandboxRefused, match=r"namespaces are missing: bubblewrap is not installed\. To fix that"):
        plan("restricted", paths).check()
    sandbox = plan("restricted", paths, PREFIX)
    sandbox.check()
    assert sandbox.confinement is not None
    assert json.loads(sandbox.confinement) == {"required": ["system calls"]}


def test_the_profile_open_has_no_layers(paths: SandboxPaths) -> None:
    assert plan("open", paths, PREFIX) == Sandbox("open")
    assert Sandbox("open").summary().startswith("open (no sandbox")


def test_a_reported_layer_has_a_fix_if_it_is_missing() -> None:
    assert reported_layer("system calls", "") == Layer("system calls")
    assert "CONFIG_SECCOMP_FILTER" in reported_layer("system calls", "not supported").fix


def test_rules_add_exceptions_to_the_paths(tmp_path: Path) -> None:
    rules = PathRules(hidden=["~/own"], readable=["~/own/open"], writable=["/more"])
    found = sandbox_paths(tmp_path / "kernel.json", tmp_path, None, {}, tmp_path, rules)
    assert found.hidden == [Path("/run"), Path("~/own").expanduser()]
    assert found.readable == [Path("~/own/open").expanduser()]
    assert found.writable == [Path("/more")]


@pytest.mark.parametrize("profile", PROFILES)
def test_keys_are_hidden_in_the_profile_restricted_only(tmp_path: Path, profile: str) -> None:
    found = sandbox_paths(tmp_path / "kernel.json", tmp_path, None, {}, None, None, profile)
    keys = {Path(path).expanduser() for path in KEYS}
    assert keys & set(found.hidden) == (keys if profile == "restricted" else set())


def test_connection_files_and_what_starts_kernels_are_protected(tmp_path: Path) -> None:
    environ = {"JUPYTER_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    found = sandbox_paths(tmp_path / "kernel.json", tmp_path, None, environ)
    assert found.secrets == [tmp_path / "data" / "runtime", tmp_path / "kernel.json"]
    assert found.fixed == [tmp_path / "data" / "kernels", tmp_path / "config" / "capsule"]


def test_cells_with_an_environment_of_their_own_cannot_write_to_the_front(tmp_path: Path) -> None:
    def fixed(profile: str, python: Path) -> set[Path]:
        found = sandbox_paths(tmp_path / "k", tmp_path, None, {}, None, None, profile, str(python))
        return {path for path in found.fixed if path.name not in ("kernels", "capsule")}

    own, other = Path(sys.prefix), tmp_path / "other"
    assert fixed("notebook", own / "bin" / "python") == set()
    assert {own, Path(sys.path[-1])} <= fixed("notebook", other / "bin" / "python")
    # An environment below the front's: cells install packages there, and the front's own stay as they are.
    below = fixed("notebook", own / "envs" / "one" / "bin" / "python")
    assert own not in below
    assert any(path.name == "site-packages" for path in below)
    assert {own, other} <= fixed("restricted", other / "bin" / "python")

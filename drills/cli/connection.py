"""The cluster that a command works on, found in kubeconfigs as kubectl finds it."""

from __future__ import annotations

import argparse
import logging
from typing import Any

import yaml
from kubernetes import client
from kubernetes.config import ConfigException, kube_config

from drills.cli.exits import Refusal
from drills.kubernetes.api import Api, Unavailable

DEFAULT = "default"
"""Namespace of a context that names none."""


class NoCluster(Refusal):
    """No cluster can be reached with this kubeconfig."""


class PluginFailed(Unavailable):
    """The exec plug-in of a kubeconfig gave no credentials."""


def connect(options: argparse.Namespace) -> Api:
    """Return the API of a kubeconfig's cluster. The options that were not given are filled in: the context, and its namespace.

    Raises:
        NoCluster: there is no such file or context, or its plug-in gives no credentials.
    """
    where = str(options.kubeconfig) if options.kubeconfig else str(kube_config.KUBE_CONFIG_DEFAULT_LOCATION)
    if options.kubeconfig and not options.kubeconfig.is_file():
        raise NoCluster(f"no cluster to look at: there is no file {where}; name one with --kubeconfig")
    settings = client.Configuration()
    try:
        merged: Any = kube_config.KubeConfigMerger(where)  # type: ignore[no-untyped-call]  # the package is half typed
        context = _context(merged, options.context, where)
        make: Any = _Loader
        loader = make(merged.config, context["name"], config_base_path=None, config_persister=merged.save_changes)
        loader.load_and_set(settings)
    except (ConfigException, PluginFailed) as error:
        raise NoCluster(f"no cluster to look at: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise NoCluster(f"no cluster to look at: {where} is no kubeconfig: {' '.join(str(error).split())}") from error
    options.context = context["name"]
    options.namespace = options.namespace or context["context"].get("namespace") or DEFAULT
    return Api(client.ApiClient(settings))


def _context(merged: Any, name: str | None, where: str) -> dict[str, Any]:
    """Return the context of that name, else the current one: of several files, that of the first one that has one, as for kubectl. The
    client would take the last one's."""
    if merged.config is None:
        raise NoCluster(f"no cluster to look at: there is no kubeconfig {where}; name one with --kubeconfig")
    known = {entry["name"]: getattr(entry, "value", entry) for entry in merged.config.value["contexts"]}
    chosen = name or next((str(found) for file in merged.paths if (found := merged.config_files[file].get("current-context"))), "")
    if chosen not in known:
        what = f"no context {chosen!r} in {where}" if chosen else f"no current context in {where}: name one with --context"
        raise NoCluster(f"no cluster to look at: {what}; there are: {', '.join(sorted(known)) or 'none'}")
    return dict(known[chosen])


class _Loader(kube_config.KubeConfigLoader):
    """Reads a context, with an error when its plug-in gives no credentials. The client itself only logs that, and then asks without
    any: the answer is about a certificate or a right, and not about the plug-in."""

    def _load_from_exec_plugin(self) -> Any:
        user: Any = self._user
        if "exec" not in user:
            return None
        log, said = logging.getLogger(), _Said()
        log.addHandler(said)
        try:
            found = super()._load_from_exec_plugin()  # type: ignore[no-untyped-call]
        finally:
            log.removeHandler(said)
        if not found:
            context: Any = self._current_context
            plugin, name = user["exec"], context["context"]["user"]
            hint = f" ({' '.join(str(plugin.safe_get('installHint')).split())})" if plugin.safe_get("installHint") else ""
            raise PluginFailed(f"the plug-in {plugin['command']} of user {name} gave no credentials: {'; '.join(said.lines)}{hint}")
        return found


class _Said(logging.Handler):
    """What is logged meanwhile, each entry as one line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().removeprefix("exec: ").split())[:300])

"""The connection to a Ray cluster, or to a local one that nobody else can reach."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ebox.errors import InputError, install_command

CONNECT_SECONDS = 10.0
AUTO, LOCAL = "auto", "local"
# Ray reads these when it is imported: one token for all local clusters of this process.
LOCAL_VARIABLES = {
    # Ray's own setting to stay on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


@contextmanager
def connect(address: str) -> Iterator[None]:
    """Connect to a cluster within a `with`: `auto`, `local` (a temporary one of this machine only), or an address.

    A local cluster listens only on loopback, and only to processes with its token. If this program is already
    connected to a cluster, that one is used.

    Raises:
        InputError: Ray is not installed, there is no cluster, or this program is connected to another one.
    """
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if address == LOCAL:
        variables |= LOCAL_VARIABLES
    with set_variables(variables):
        try:
            import ray
        except ImportError:
            raise InputError("Ray is not installed", remedy=install_command("cluster")) from None
        if ray.is_initialized():
            _check_connected(address, ray.get_runtime_context().gcs_address)
            yield
            return
        handler = signal.getsignal(signal.SIGTERM)
        _open(address)
        try:
            # Ray's own handler would end this program on SIGTERM, even after the cluster is gone.
            _handle_sigterm(handler)
            yield
        finally:
            ray.shutdown()
            _handle_sigterm(handler)


@contextmanager
def set_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within a `with`."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _handle_sigterm(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _open(address: str) -> None:
    """Connect this process."""
    import ray

    options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    if address == LOCAL and ray._private.ray_constants.ENABLE_RAY_CLUSTER:
        raise InputError(
            "Ray was already imported by this program, and would listen beyond this machine",
            remedy="import ray after ebox has trained, or start a cluster yourself and give its address",
        )
    try:
        _check_reachable(os.environ.get("RAY_ADDRESS", "") if address == AUTO else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"there is no Ray cluster at {address!r}: {str(error).splitlines()[0]}",
            remedy="start one (ray start --head), give its address, or let --cluster local start one on this machine",
        ) from None


def _check_connected(address: str, connected: str) -> None:
    if address not in (AUTO, LOCAL, connected):
        raise InputError(
            f"this program is connected to the Ray cluster at {connected} already, not to {address}",
            remedy="call ray.shutdown() first, or give that address",
        )


def _check_reachable(address: str) -> None:
    """Raise ConnectionError if nothing listens there; Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            raise ConnectionError(error.strerror or str(error)) from None

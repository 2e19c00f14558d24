"""The single-machine parts: PostgreSQL and Envoy from their wheels, and the supervisor that keeps them running.

Promises: what dies is started again; what the user can mend is one line (`StartError`: message, hint); a clean stop in
reverse order; nothing is left running, also after a kill -9 of the supervisor. How a program composes itself:

    async def compose(supervisor: Supervisor) -> str:            # runs inside `run`, returns the URL to show
        check_port_is_free(port)                                 # here, so that `up` twice is told as such
        server = prepare_cluster(supervisor.paths, supervisor.socket_dir)
        await supervisor.start(postgres_child(server))           # returns when ready; StartError when it can not
        await migrate(server.dsn(database="shop"))
        await supervisor.start(Child("psp", [...], ready=probe), *workers)
        await supervisor.start(envoy_child(bootstrap, supervisor.socket_dir / "envoy-admin.sock", port))
        return f"https://localhost:{port}"

    run(data_dir, compose, announce=print)                                                       # `up`
    url = start_detached([sys.executable, "-m", ..., "up"], prepare(data_dir))                   # `up --detach`
    stop_running(data_dir)                                                                       # `down`
    read_state(data_dir)                                                                         # `status`
"""

from doorbuster.engines.embedded.child import Child
from doorbuster.engines.embedded.cluster import (
    check_cluster,
    ensure_database,
    ensure_role,
    postgres_child,
    prepare_cluster,
)
from doorbuster.engines.embedded.detach import start_detached
from doorbuster.engines.embedded.envoy import ask_admin, envoy_child
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.memory import pss_bytes, pss_tree_bytes
from doorbuster.engines.embedded.paths import DataPaths, is_data_directory, prepare
from doorbuster.engines.embedded.postgres import PostgresServer, binary, kept_password
from doorbuster.engines.embedded.preflight import check_port_is_free, check_room
from doorbuster.engines.embedded.process_table import ChildState, RunState, read_state
from doorbuster.engines.embedded.running import run, stop_running
from doorbuster.engines.embedded.supervisor import Supervisor
from doorbuster.engines.embedded.temporary import temporary_postgres

__all__ = [
    "Child",
    "ChildState",
    "DataPaths",
    "PostgresServer",
    "RunState",
    "StartError",
    "Supervisor",
    "ask_admin",
    "binary",
    "check_cluster",
    "check_port_is_free",
    "check_room",
    "ensure_database",
    "ensure_role",
    "envoy_child",
    "is_data_directory",
    "kept_password",
    "postgres_child",
    "prepare",
    "prepare_cluster",
    "pss_bytes",
    "pss_tree_bytes",
    "read_state",
    "run",
    "start_detached",
    "stop_running",
    "temporary_postgres",
]

"""The command line against a real shop: import, status, tokens, and what it says to mistakes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil

from doorbuster.drills.temporary_shop import DrilledShop
from tests.shop.conftest import Run


def test_status_names_every_process_with_its_pid(doorbuster: Run) -> None:
    said = doorbuster("status", "--json")
    assert said.returncode == 0, said.stderr
    status = json.loads(said.stdout)
    assert status["healthy"] and status["status"] == "ready"
    names = {process["name"] for process in status["processes"]}
    assert names == {"postgres", "psp-sandbox", "worker-1", "worker-2", "envoy"}
    assert all(psutil.pid_exists(process["pid"]) for process in status["processes"])


def test_an_import_is_idempotent_by_handle(doorbuster: Run, products: Path) -> None:
    first = doorbuster("import", str(products))
    assert first.returncode == 0, first.stderr
    assert "2 created" in first.stdout
    assert first.stderr.count("ignored") == 1 and "Mystery" in first.stderr
    again = doorbuster("import", str(products))
    assert "0 created, 0 updated, 2 unchanged" in again.stdout


def test_one_bad_row_imports_nothing_and_is_named_by_line_and_column(doorbuster: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("Handle,Title,Variant Price,Variant Inventory Qty\nlamp,Lamp,20.00,4\nvase,Vase,12.345,4\n")
    refused = doorbuster("import", str(file))
    assert refused.returncode == 1
    assert ":3" in refused.stderr and "Variant Price" in refused.stderr
    assert "Nothing was imported" in refused.stderr
    tried = doorbuster("import", str(file), "--skip-bad", "--dry-run")
    assert tried.returncode == 0 and "1 products" in tried.stdout
    skipped = doorbuster("import", str(file), "--skip-bad")
    assert skipped.returncode == 0 and "1 created" in skipped.stdout and "1 skipped" in skipped.stdout


def test_a_second_up_on_the_same_data_says_who_runs(doorbuster: Run, shop_up: DrilledShop) -> None:
    again = doorbuster("up", "--detach", "--port", "1")
    assert again.returncode == 1
    assert "already runs" in again.stderr and shop_up.url in again.stderr


def test_tokens_of_many_shoppers_differ(doorbuster: Run) -> None:
    tokens = doorbuster("token", "--shoppers", "5").stdout.split()
    assert len(set(tokens)) == 5
    refused = doorbuster("token", "--role", "emperor")
    assert refused.returncode == 1 and "shopper, merchant, admin" in refused.stderr


def test_a_killed_worker_is_back_by_itself(doorbuster: Run) -> None:
    def worker() -> dict[str, object]:
        status = json.loads(doorbuster("status", "--json").stdout)
        return next(process for process in status["processes"] if process["name"] == "worker-1")

    before = worker()
    os.kill(int(str(before["pid"])), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        now = worker()
        if now["state"] == "ready" and now["pid"] != before["pid"]:
            break
        assert time.monotonic() < deadline, "the worker did not come back"
        time.sleep(0.2)
    assert int(str(now["restarts"])) >= 1


def test_every_invariant_holds_on_the_shop(doorbuster: Run) -> None:
    checked = doorbuster("check")
    assert checked.returncode == 0, checked.stdout
    assert "invariants hold" in checked.stdout

"""A shop with accounts of its own at payment providers: DATA/providers.toml, through the edge, at a real simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from doorbuster import provider_accounts
from doorbuster.client import Client, ShopRefused
from doorbuster.domains.commerce.payment import Session
from doorbuster.domains.commerce.payment.tests import buyers, psps
from doorbuster.domains.commerce.payment.tests.psps import Psp
from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop
from doorbuster.drills.timedeal.crowd_plan import Crowd
from doorbuster.drills.timedeal.hot_item import put_on_sale
from doorbuster.engines.embedded import StartError, read_state

_CROWD = Crowd(seed=0, shoppers=1, wishes=(), stock=(5,), allotment=(1,), per_customer_limit=1)


@pytest.fixture(scope="module")
def toss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Psp]:
    with psps.running(("toss",), tmp_path_factory.mktemp("psps")) as found:
        yield found[0]


@pytest.fixture(scope="module")
def shop(toss: Psp) -> Iterator[DrilledShop]:
    told = f'[won]\nkind = "toss"\nbase_url = "{toss.url}"\nsecret_file = "secrets/toss"\nclient_key = "test_ck_1"\n'
    files = {provider_accounts.FILE: told, "secrets/toss": toss.secret + "\n"}
    with temporary_shop(workers=1, overrides={}, files=files) as running:
        yield running


async def paid(shopper: Client, order_id: str) -> str:
    """The order's state, once it does not wait any more."""
    give_up, on_its_way = time.monotonic() + 20, ("payment_waiting", "captured")
    while (state := (await shopper.call("GET", f"/api/v1/order/{order_id}"))["state"]) in on_its_way:
        assert time.monotonic() < give_up, "it did not hear of its payment"
        await asyncio.sleep(0.05)
    return str(state)


async def test_an_order_is_paid_in_the_window_of_an_account_of_its_own(shop: DrilledShop, toss: Psp) -> None:
    state = read_state(shop.data)
    assert state is not None and "psp-sandbox" not in {child.name for child in state.children}
    sale = await put_on_sale(shop, _CROWD, "KRW")
    async with Client(shop.as_client(), "shopper") as shopper:
        lines = [{"option_id": sale.option_ids[0], "quantity": 1}]
        order = await shopper.call("POST", "/api/v1/order", {"lines": lines}, {"idempotency-key": uuid4().hex})
        wish = {"method": "window", "return_url": buyers.RETURN_URL}
        waits = await shopper.call("POST", f"/api/v1/order/{order['id']}/pay", wish, {"idempotency-key": uuid4().hex})
        assert (waits["state"], waits["session"]["account"]) == ("payment_waiting", "won")
        session = msgspec.convert(waits["session"], Session)
        form = await buyers.pays(toss, session)
        path = f"/api/v1/payment/{session.payment_id}/confirm"
        with pytest.raises(ShopRefused, match="window_return_refused"):
            await shopper.call("POST", path, {"form": form | {"amount": "1"}}, {"idempotency-key": uuid4().hex})
        answer = await shopper.call("POST", path, {"form": form}, {"idempotency-key": uuid4().hex})
        assert answer["state"] == "succeeded"
        assert await paid(shopper, order["id"]) == "paid"
    (taken,) = await toss.taken(UUID(str(session.payment_id)))
    assert taken.amount_minor == order["total_minor"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[toss", "cannot be read"),
        ("", "names no account"),
        ('["Toss!"]\nbase_url="https://x"\nsecret_file="s"', "no name for an account"),
        ('[a]\nkind="paypal"\nbase_url="https://x"\nsecret_file="s"', "speaks 'paypal'"),
        ('[toss]\nbase_url="https://x"\nsecret_file="s"', "has no client_key"),
        ('[toss]\nbase_url="https://x"\nsecret_file="gone"\nclient_key="c"', "cannot be read"),
        ('[toss]\nbase_url="https://x"\nsecret_file="empty"\nclient_key="c"', "is empty"),
        ('[toss]\nbase_url="https://u:p@x/"\nsecret_file="s"\nclient_key="c"', "base_url"),
        ('[toss]\nbase_url="https://x"\nsecret_file="s"\nclient_key="c"\nmore=1', "cannot be read"),
        ('[stripe]\nbase_url="https://x"\nsecret_file="s"', "webhook_secret_files"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_in_one_line_without_a_secret(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s").write_text("sk_live_secret\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / provider_accounts.FILE).write_text(text)
    with pytest.raises(StartError) as told:
        provider_accounts.read(tmp_path)
    assert said in str(told.value)
    assert "sk_live" not in str(told.value)


def test_without_the_file_there_is_the_sandbox(tmp_path: Path) -> None:
    assert provider_accounts.read(tmp_path) == {}

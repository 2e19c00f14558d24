"""The official `stripe` SDK 16.1.0, unchanged, against the simulator: only its base address is another."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

import pytest
import stripe as sdk

from doorbuster.simulators.host.tests.processes import SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.host.tests.processes import Shop
    from doorbuster.simulators.stripe.tests.conftest import Stripe

WEBHOOK_SECRET = "whsec_of_the_tests"


@pytest.fixture
def client(stripe: "Stripe") -> sdk.StripeClient:
    return sdk.StripeClient(SECRET, base_addresses={"api": f"http://127.0.0.1:{stripe.port}"}, max_network_retries=0)


@pytest.fixture
def module(stripe: "Stripe") -> Iterator[Any]:
    """The SDK's older face: module settings and class methods."""
    before = sdk.api_key, sdk.api_base, sdk.max_network_retries
    sdk.api_key, sdk.api_base, sdk.max_network_retries = SECRET, f"http://127.0.0.1:{stripe.port}", 0
    yield sdk
    sdk.api_key, sdk.api_base, sdk.max_network_retries = before


def order(amount: int = 2_000, **fields: Any) -> Any:
    return {
        "amount": amount,
        "currency": "usd",
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "metadata": {"order_id": "sdk-1.1"},
        **fields,
    }


def test_the_sdk_speaks_the_version_the_simulator_was_written_from() -> None:
    assert sdk.api_version == "2026-10-28.endive"


# The fields of the example in docs.stripe.com/api/payment_intents/search.
DOCUMENTED = frozenset(
    """id object amount amount_capturable amount_details amount_received application application_fee_amount
    automatic_payment_methods canceled_at cancellation_reason capture_method client_secret confirmation_method created
    currency customer description last_payment_error latest_charge livemode metadata next_action on_behalf_of
    payment_method payment_method_options payment_method_types processing receipt_email review setup_future_usage
    shipping statement_descriptor statement_descriptor_suffix status transfer_data transfer_group""".split()
)


def test_every_field_is_one_the_sdk_knows_and_none_it_always_expects_is_left_out(client: sdk.StripeClient) -> None:
    intent = client.v1.payment_intents.create(
        order(confirm=True, capture_method="automatic", expand=["latest_charge.balance_transaction", "payment_method"])
    )
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    event = client.v1.events.list({"limit": 1}).data[0]
    charge = intent.latest_charge
    assert isinstance(charge, sdk.Charge)
    transaction, method = charge.balance_transaction, intent.payment_method
    assert isinstance(transaction, sdk.BalanceTransaction) and isinstance(method, sdk.PaymentMethod)
    assert set(intent.to_dict()) >= DOCUMENTED
    for shown in (intent, charge, refund, transaction, method, event):
        typed = type(shown).__annotations__
        fields = set(shown.to_dict())
        needed = {n for n, kind in typed.items() if type(None) not in get_args(kind) and "ClassVar" not in str(kind)}
        assert fields - set(typed) == set(), f"unknown to the SDK: {shown.object}"
        assert {name for name in needed if not name.startswith("_")} - fields == set(), f"left out of {shown.object}"


def test_it_creates_confirms_and_retrieves(client: sdk.StripeClient) -> None:
    intent = client.v1.payment_intents.create(order())
    assert isinstance(intent, sdk.PaymentIntent)
    assert (intent.status, intent.client_secret is not None) == ("requires_confirmation", True)
    confirmed = client.v1.payment_intents.confirm(intent.id, {"expand": ["latest_charge"]})
    assert (confirmed.status, confirmed.amount_received) == ("succeeded", 2_000)
    charge = confirmed.latest_charge
    assert isinstance(charge, sdk.Charge)
    assert (charge.paid, charge.captured, charge.payment_intent) == (True, True, intent.id)
    assert charge.payment_method_details is not None and charge.payment_method_details.card is not None
    assert charge.payment_method_details.card.last4 == "4242"
    again = client.v1.payment_intents.retrieve(intent.id)
    assert (again.status, again.metadata["order_id"], again.latest_charge) == ("succeeded", "sdk-1.1", charge.id)
    assert again.last_response is not None
    assert str(again.last_response.request_id).startswith("req_")


def test_it_captures_a_part_and_cancels_the_rest(client: sdk.StripeClient) -> None:
    held = client.v1.payment_intents.create(order(confirm=True, capture_method="manual"))
    assert (held.status, held.amount_capturable) == ("requires_capture", 2_000)
    taken = client.v1.payment_intents.capture(held.id, {"amount_to_capture": 1_500})
    assert (taken.status, taken.amount_received, taken.amount_capturable) == ("succeeded", 1_500, 0)
    other = client.v1.payment_intents.create(order(confirm=True, capture_method="manual"))
    ended = client.v1.payment_intents.cancel(other.id, {"cancellation_reason": "requested_by_customer"})
    assert (ended.status, ended.cancellation_reason) == ("canceled", "requested_by_customer")
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.payment_intents.capture(other.id)
    assert (error.value.code, error.value.http_status) == ("payment_intent_unexpected_state", 400)
    assert error.value.error is not None and error.value.error.payment_intent is not None
    assert error.value.error.payment_intent.status == "canceled"


def test_it_refunds_in_parts_until_nothing_is_left(client: sdk.StripeClient) -> None:
    intent = client.v1.payment_intents.create(order(confirm=True))
    first = client.v1.refunds.create({"payment_intent": intent.id, "amount": 500, "reason": "requested_by_customer"})
    assert isinstance(first, sdk.Refund)
    assert (first.status, first.amount, first.charge) == ("succeeded", 500, intent.latest_charge)
    with pytest.raises(sdk.InvalidRequestError) as too_much:
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 1_501})
    assert too_much.value.param == "amount"
    rest = client.v1.refunds.create({"charge": str(intent.latest_charge), "metadata": {"why": "all"}})
    assert rest.amount == 1_500
    with pytest.raises(sdk.InvalidRequestError) as again:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert again.value.code == "charge_already_refunded"
    listed = client.v1.refunds.list({"payment_intent": intent.id})
    assert [refund.id for refund in listed.data] == [rest.id, first.id]
    kept = client.v1.refunds.retrieve(rest.id).metadata
    assert kept is not None and kept["why"] == "all"
    assert client.v1.charges.retrieve(str(intent.latest_charge)).refunded is True


def test_its_auto_pagination_sees_every_intent_once(client: sdk.StripeClient) -> None:
    made = [client.v1.payment_intents.create(order(100 + n)).id for n in range(7)]
    page = client.v1.payment_intents.list({"limit": 3})
    assert (len(page.data), page.has_more) == (3, True)
    listed: list[str] = []
    for intent in page.auto_paging_iter():
        listed.append(intent.id)
        if intent.id == made[0]:
            break
    assert listed == made[::-1]
    everything = [charge.id for charge in client.v1.charges.list({"limit": 2}).auto_paging_iter()]
    assert len(everything) == len(set(everything))


def test_a_declined_card_is_a_card_error_with_the_intent_in_it(client: sdk.StripeClient) -> None:
    with pytest.raises(sdk.CardError) as declined:
        client.v1.payment_intents.create(
            order(confirm=True, payment_method="pm_card_visa_chargeDeclinedInsufficientFunds")
        )
    error = declined.value
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.error is not None
    assert error.error.decline_code == "insufficient_funds"
    assert error.error.payment_intent is not None
    assert error.error.payment_intent.status == "requires_payment_method"
    assert error.error.charge == error.error.payment_intent.latest_charge
    assert error.error.payment_method is not None and error.error.payment_method.card is not None
    retried = client.v1.payment_intents.confirm(error.error.payment_intent.id, {"payment_method": "pm_card_mastercard"})
    assert retried.status == "succeeded"


def test_a_key_replays_and_another_request_with_it_is_an_idempotency_error(client: sdk.StripeClient) -> None:
    options: Any = {"idempotency_key": "sdk-key-1"}
    first = client.v1.payment_intents.create(order(confirm=True), options)
    again = client.v1.payment_intents.create(order(confirm=True), options)
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(sdk.IdempotencyError) as error:
        client.v1.payment_intents.create(order(2_001, confirm=True), options)
    assert error.value.http_status == 400


def test_wrong_requests_are_the_errors_the_sdk_knows(client: sdk.StripeClient, stripe: "Stripe") -> None:
    base: Any = {"api": f"http://127.0.0.1:{stripe.port}"}
    with pytest.raises(sdk.AuthenticationError):
        sdk.StripeClient("sk_test_wrong", base_addresses=base).v1.payment_intents.list()
    with pytest.raises(sdk.InvalidRequestError) as unknown:
        client.v1.payment_intents.retrieve("pi_none")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")
    with pytest.raises(sdk.InvalidRequestError) as missing:
        client.v1.payment_intents.create({"amount": 100})  # type: ignore[typeddict-item]
    assert (missing.value.code, missing.value.param) == ("parameter_missing", "currency")
    stripe.faults(rate_limit_rate=1)
    with pytest.raises(sdk.RateLimitError):
        client.v1.payment_intents.create(order())
    stripe.faults(error_rate=1)
    with pytest.raises(sdk.APIError) as broken:
        client.v1.payment_intents.create(order())
    assert broken.value.http_status == 500


def test_its_own_retries_take_the_money_once(stripe: "Stripe") -> None:
    """The SDK sends a key of its own and retries a lost answer with it."""
    before = stripe.summary()["captured"]
    stripe.faults(reset_after_capture_rate=1, times=1)
    base: Any = {"api": f"http://127.0.0.1:{stripe.port}"}
    client = sdk.StripeClient(SECRET, base_addresses=base, max_network_retries=2)
    intent = client.v1.payment_intents.create(order(confirm=True))
    assert intent.status == "succeeded"
    assert intent.last_response is not None
    assert intent.last_response.headers["Idempotent-Replayed"] == "true"
    assert stripe.summary()["captured"] == before + 1


def test_it_searches_by_metadata(client: sdk.StripeClient) -> None:
    intent = client.v1.payment_intents.create(order(metadata={"order_id": "sdk-search.1"}))
    found = client.v1.payment_intents.search({"query": "metadata['order_id']:'sdk-search.1'"})
    assert [hit.id for hit in found.data] == [intent.id]
    assert found.has_more is False


def test_it_lists_balance_transactions_with_their_sources(client: sdk.StripeClient) -> None:
    intent = client.v1.payment_intents.create(order(confirm=True, capture_method="automatic"))
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 700})
    rows = client.v1.balance_transactions.list({"limit": 2, "expand": ["data.source"]}).data
    assert [(row.type, row.amount, row.fee, row.net) for row in rows] == [
        ("refund", -700, 0, -700),
        ("charge", 2_000, 88, 1_912),
    ]
    assert [row.source.object for row in rows if isinstance(row.source, sdk.StripeObject)] == ["refund", "charge"]
    one = client.v1.balance_transactions.retrieve(rows[1].id)
    assert (one.reporting_category, one.status, one.source) == ("charge", "pending", intent.latest_charge)


def test_it_verifies_a_delivered_webhook_and_retrieves_the_event(
    client: sdk.StripeClient, stripe: "Stripe", shop: "Shop"
) -> None:
    intent = client.v1.payment_intents.create(order(confirm=True))
    stripe.settled_webhooks()
    at = [body["type"] for _, body in shop.got].index("payment_intent.succeeded")
    headers, raw = shop.got[at][0], shop.raw[at]
    event = sdk.Webhook.construct_event(raw, headers["stripe-signature"], WEBHOOK_SECRET)
    assert (event.type, event.data.object["id"]) == ("payment_intent.succeeded", intent.id)
    with pytest.raises(sdk.SignatureVerificationError):
        sdk.Webhook.construct_event(raw, headers["stripe-signature"], "whsec_of_somebody_else")
    kept = client.v1.events.retrieve(event.id)
    assert kept.data.object == event.data.object
    listed = client.v1.events.list({"type": "payment_intent.*", "limit": 2})
    assert [told.type for told in listed.data] == ["payment_intent.succeeded", "payment_intent.created"]


def test_the_older_face_works_too(module: Any) -> None:
    intent = module.PaymentIntent.create(**order())
    assert intent.confirm().status == "succeeded"
    assert module.Refund.create(payment_intent=intent.id, amount=1).amount == 1
    assert [r.amount for r in module.Refund.list(payment_intent=intent.id).auto_paging_iter()] == [1]
    with pytest.raises(module.CardError):
        module.PaymentIntent.create(**order(payment_method="pm_card_chargeDeclined", confirm=True))


async def test_its_asynchronous_calls_work(stripe: "Stripe") -> None:
    base: Any = {"api": f"http://127.0.0.1:{stripe.port}"}
    client = sdk.StripeClient(
        SECRET, base_addresses=base, http_client=sdk.HTTPXClient(allow_sync_methods=True), max_network_retries=0
    )
    intent = await client.v1.payment_intents.create_async(order(confirm=True))
    assert intent.status == "succeeded"

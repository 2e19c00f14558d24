"""Which call is at which path."""

import re

from doorbuster.simulators.stripe import calls, lists
from doorbuster.simulators.stripe.provider import Routes

ID = r"([A-Za-z0-9_]{1,200})"

ROUTES: Routes = (
    ("POST", re.compile(r"/v1/payment_intents"), calls.create_intent),
    ("GET", re.compile(r"/v1/payment_intents"), lists.list_intents),
    ("GET", re.compile(r"/v1/payment_intents/search"), lists.search_intents),
    ("GET", re.compile(rf"/v1/payment_intents/{ID}"), calls.retrieve_intent),
    ("POST", re.compile(rf"/v1/payment_intents/{ID}"), calls.update_intent),
    ("POST", re.compile(rf"/v1/payment_intents/{ID}/confirm"), calls.confirm_intent),
    ("POST", re.compile(rf"/v1/payment_intents/{ID}/capture"), calls.capture_intent),
    ("POST", re.compile(rf"/v1/payment_intents/{ID}/cancel"), calls.cancel_intent),
    ("POST", re.compile(r"/v1/refunds"), calls.create_refund),
    ("GET", re.compile(r"/v1/refunds"), lists.list_refunds),
    ("GET", re.compile(rf"/v1/refunds/{ID}"), calls.retrieve_refund),
    ("POST", re.compile(rf"/v1/refunds/{ID}"), calls.update_refund),
    ("GET", re.compile(r"/v1/charges"), lists.list_charges),
    ("GET", re.compile(rf"/v1/charges/{ID}"), lists.retrieve_charge),
    ("GET", re.compile(r"/v1/balance_transactions"), lists.list_transactions),
    ("GET", re.compile(rf"/v1/balance_transactions/{ID}"), lists.retrieve_transaction),
    ("GET", re.compile(r"/v1/events"), lists.list_events),
    ("GET", re.compile(rf"/v1/events/{ID}"), lists.retrieve_event),
)

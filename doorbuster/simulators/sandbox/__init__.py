"""The sandbox PSP: a payment provider in a process of its own, with a durable ledger and faults on demand.

It imports nothing of the shop, so what the shop believes about money can be compared with what was really captured.

Magic instruments, which work with no fault set (the list itself is `faults.MAGIC`):

    tok_visa                    captured; so does every other instrument that begins with `tok_`
    tok_declined                402 card_declined
    tok_insufficient_funds      402 insufficient_funds
    tok_expired                 402 expired_card
    tok_slow                    captured after 2 s
    tok_timeout_after_capture   captured, then no answer for `hold_ms`, then the connection closes
    tok_error                   500, nothing captured, the key stays unused
    tok_reset_after_capture     captured, then the connection is reset
    tok_malformed               captured, then 200 with broken JSON

Anything that does not begin with `tok_` gets 400 `invalid_instrument`.

What loses an answer happens once, on the request that captured: the same key asked again replays the recorded answer.
Only captures, declines and refunds are kept under their key; a refused request (another 4xx, 5xx) is judged anew.
"""

"""NICEPAY's result codes and what each is evidence of; what is in no list is UNKNOWN. Sources: docs/psp/nicepay.md."""

from __future__ import annotations

# What the card company, or the rules of the card, said no to.
DECLINES = frozenset({
    "3011", "3021", "3022", "3023", "3024", "3031", "3032", "3033", "3051", "3053", "3055", "3056", "3057", "3061",
    "3091", "3095", "A128", "A241", "F112", "F118", "N001", "P021",
})  # fmt: skip

# Refused before anything was done: our request, our keys, our contract. Not here, because a payment may stand behind
# them: U112, A127 and P015 (order id used), U114 and A225 (tid used), 2156 (request seen before), 2201 (approved
# before), A299 and U303 (delay), U501, X001 to X004, T001 to T005, 9002, S999 (communication), U503 and U504.
NOT_EXECUTED = frozenset({
    "3012", "3013", "3014", "3034", "3041", "3052", "2151", "2152", "2157", "9000", "9001", "A101", "A102", "A106",
    "A109", "A112", "A113", "A114", "A116", "A117", "A121", "A122", "A123", "A124", "A125", "A126", "A147", "A148",
    "A149", "A211", "A212", "A223", "A224", "A247", "A248", "A255", "P001", "P005", "P007", "P008", "P009", "P010",
    "P011", "P012", "P013", "P014", "P016", "P017", "P024", "P034", "P036", "P037", "U100", "U101", "U102", "U103",
    "U104", "U105", "U108", "U109", "U110", "U113", "U115", "U116", "U117", "U118", "U119", "U124", "U125", "U127",
    "U130", "U131", "U132", "U304", "U305", "U306", "U308", "U309", "U312", "U313", "U315", "U316", "U321",
})  # fmt: skip

# A cancel that was refused. Not here: 2013 (cancelled before), 2015 (cancel asked before), 2012 and U122 (no such
# payment), 2003 (failed, without a reason).
REFUND_NOT_EXECUTED = NOT_EXECUTED | frozenset({
    "1534", "2010", "2011", "2014", "2016", "2017", "2018", "2019", "2023", "2026", "2027", "2028", "2029", "2030",
    "2031", "2032", "2033", "2052", "U123", "U128", "U318", "U319",
})  # fmt: skip

NOT_FOUND = frozenset({"A118", "A251", "U107", "U111", "U126"})
"""An inquiry that knows of no such payment."""

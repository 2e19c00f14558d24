"""The hashes and ciphers of NICEPAY against the examples of its manual."""

import pytest

from doorbuster.simulators.nicepay.signing import (
    NotReadable,
    answer_signature,
    auth_signature,
    card_fields,
    fits,
    hashed,
)
from doorbuster.simulators.nicepay.tests.caller import encrypted

# common/test.md of nicepayments/nicepay-manual: the pair is the one in its Basic header.
CLIENT, SECRET = "58e3b578555e45738d6b569e53d5ae54", "4f13ca267dfa4fc6964148bedcda15ef"
# info/nicepay-info-sandbox.md of SeokRae/nicepay-manual-eng.
SANDBOX_SECRET = "13e969a77a0545799242ccc3915243d3"
# api/payment-subscribe.md of nicepayments/nicepay-manual.
CARD_SECRET = "2dcc2a0d63bf469490bb19a201be3735"
PLAIN = "cardNo=1234567890123456&expYear=25&expMonth=12&idNo=800101&cardPw=12"
AES_128 = (
    "2127975b6d82c36136ba8197a997a994f6c086ff75a6d35e514c54a1e686545e60b76f11bec706de1082e43dd74ae5c5"
    "f0709dc1eca6c3cd20e1c0e9e9b7a85c6505461c91c865d82072e41ba5284bd7"
)
AES_256 = (
    "6ecfe97e521bc67c3053d74a9dbdba53033d343fc9e8e38e730964b22ef2e4a59607171b00a9da977141b3f79fffa1e8"
    "0a16c08bc58666b479f554a966a363414347e62f2621f8df220c7a4a545592d0"
)


def test_the_window_signs_as_in_the_manuals_example() -> None:
    signature = auth_signature("NICEUNTT9FBBD87FD2393AFEE45A7DCA61C194AA", CLIENT, 1004, SECRET)
    assert signature == "7cc95c592e2a12f0292e1a20d68dd9eb8132fd3c0af675b981a4c1c2ce63a93b"


@pytest.mark.parametrize(
    ("tid", "edi_date", "secret", "signature"),
    [
        (
            "UT0000113m01012110051656331001",
            "2021-10-05T16:56:34.447+0900",
            SECRET,
            "28c2e8bae912847541d4885db17648f963c7cc8e8249ff010097d6f1395df993",
        ),
        (
            "UT0000104m00012303241646422011",
            "2023-03-24T16:55:22.018+0900",
            SANDBOX_SECRET,
            "c6bb1f74d4f3134cc2d01ecdfb1e04e154b6233c77cd9206fa48fd1666cbb8c5",
        ),
        (
            "UT0000104m01012303141557092002",
            "2023-03-14T16:37:24.776+0900",
            SANDBOX_SECRET,
            "26e3f763efc77a41a0bdad24b996b4ed7f1db2867e767d9472d064be300f758c",
        ),
    ],
)
def test_an_answer_is_signed_as_in_the_manuals_examples(tid: str, edi_date: str, secret: str, signature: str) -> None:
    """An approval, an inquiry and a cancel, which is signed with the amount of the payment."""
    assert answer_signature(tid, 1004, edi_date, secret) == signature


def test_sign_data_is_that_of_the_manuals_example_in_lower_case() -> None:
    parts = ("UT0000104m00012303241646422011", "2023-03-24T16:55:00.000+0900", SANDBOX_SECRET)
    sign_data = "c78d6b12b11036bc626a018d26320aa04ba0344e9c52fd0303ef23377ca3569b"
    assert hashed(*parts) == sign_data
    assert fits(sign_data, *parts)
    assert not fits(sign_data.upper(), *parts)
    assert not fits(sign_data[:-1] + "c", *parts)


@pytest.mark.parametrize(("enc_data", "mode"), [(AES_128, None), (AES_256, "A2")])
def test_the_manuals_encrypted_cards_are_read(enc_data: str, mode: str | None) -> None:
    card = card_fields(enc_data, mode, CARD_SECRET)
    assert (card.card_no, card.exp_year, card.exp_month) == ("1234567890123456", "25", "12")
    assert encrypted(PLAIN, CARD_SECRET, 32 if mode else 16) == enc_data


@pytest.mark.parametrize(
    ("enc_data", "mode", "secret"),
    [
        (AES_128, "A2", CARD_SECRET),
        (AES_256, None, CARD_SECRET),
        (AES_128, None, "0" * 32),
        (AES_128[:-2], None, CARD_SECRET),
        ("not hex", None, CARD_SECRET),
        ("", None, CARD_SECRET),
        (AES_128, None, "short"),
        (AES_256, "A2", CARD_SECRET[:31]),
    ],
)
def test_what_was_not_encrypted_with_this_key_cannot_be_read(enc_data: str, mode: str | None, secret: str) -> None:
    with pytest.raises(NotReadable):
        card_fields(enc_data, mode, secret)

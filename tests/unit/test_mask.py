"""Tokens and sealed bodies: their format, what comes back unchanged, and what is refused."""

import base64
import sqlite3
import traceback

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import mask
from etl.crypto import seal, tokens
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UnmaskError
from etl.mask import MaskedColumn

ONE = bytes(range(64))
TWO = bytes(range(64, 128))
RING = Keyring("k1", {"k1": ONE})
BOTH = Keyring("k2", {"k1": ONE, "k2": TWO})
PLAN = [MaskedColumn("ip", "masked_ip", "ip"), MaskedColumn("device_id", "masked_device", "device")]
NOT_A_TOKEN = "not made by this keyring for this column, or changed"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
unhurried = settings(deadline=None, database=None, derandomize=True, max_examples=60)


def by_hand(value: str, key: bytes = ONE, key_id: str = "k1", context: str = "ip") -> str:
    """Make one token in the documented format with another library."""
    padded = value.encode() + b"\x80"
    padded += bytes(-len(padded) % 16)
    sealed = AESSIV(key).encrypt(padded, [f"etl:v1:{key_id}:{context}".encode()])
    return f"{key_id}." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def forged(padded: bytes) -> str:
    """Make a token with the right key around any padded bytes."""
    sealed = AESSIV(ONE).encrypt(padded, [b"etl:v1:k1:ip"])
    return "k1." + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def logins() -> pd.DataFrame:
    """Return rows with duplicates and nulls under a shuffled index with duplicate labels."""
    return pd.DataFrame(
        {
            "message_id": ["a", "b", "c", "d", "e", "f"],
            "ip": pd.Series(["1.2.3.4", None, "::1", "1.2.3.4", "9.9.9.9", None], dtype=object),
            "locale": pd.Series([None, "RU", "NA", "FR", None, "US"], dtype=object),
            "device_id": pd.Series([None, "5-6", "5-6", "7-8", "1.2.3.4", "5-6"], dtype=object),
            "app_version": pd.array([1, None, 3, 4, 5, 6], dtype="Int64"),
        }
    ).set_axis([7, 3, 3, 9, 0, 7], axis=0)


def refusal(token: object, ring: Keyring = RING, context: str = "ip") -> str:
    with pytest.raises(UnmaskError) as caught:
        mask.unmask(token, ring, context)
    assert caught.value.__context__ is None
    return str(caught.value)


# Tokens


@pytest.mark.parametrize(
    "value",
    ["", "1.2.3.4", "x" * 15, "x" * 16, "x" * 17, "x" * 500, "Жук 🐞", "a\0b", "a\nb", "\x80"],
)
def test_a_token_is_what_another_library_makes(value):
    """Around the block borders, empty, and outside ASCII, tokens follow the documented format."""
    assert mask.tokens([value], RING, "ip").tolist() == [by_hand(value)]


def test_new_tokens_use_the_primary_key():
    """A new token names the primary key and is made with it."""
    assert mask.tokens(["1.2.3.4"], BOTH, "ip").tolist() == [by_hand("1.2.3.4", TWO, "k2")]


def test_equal_values_have_equal_tokens_and_others_do_not():
    """Two tokens are equal exactly when their values are."""
    values = ["a", "b", "a", "a\0", "A", "b"]
    masked = mask.tokens(values, RING, "ip")
    assert pd.factorize(masked)[0].tolist() == pd.factorize(np.array(values, object))[0].tolist()


def test_a_context_has_its_own_tokens():
    """The same value cannot be matched across two columns of different contexts."""
    assert mask.tokens(["a"], RING, "ip")[0] != mask.tokens(["a"], RING, "device_id")[0]


@pytest.mark.parametrize("null", [None, float("nan"), pd.NA, pd.NaT])
def test_null_stays_null(null):
    """Every value that pandas counts as null comes out as None."""
    masked = mask.tokens(["a", null, "b"], RING, "ip")
    assert masked.tolist() == [by_hand("a"), None, by_hand("b")]


@pytest.mark.parametrize("values", [[], [None, None]])
def test_a_column_of_nothing_is_masked_to_nothing(values):
    """No values, or nulls only, make no tokens."""
    assert mask.tokens(values, RING, "ip").tolist() == values


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        lambda values: np.array(values, object),
        lambda values: pd.Series(values, dtype=object),
        lambda values: pd.Series(values, dtype="str"),
        lambda values: pd.Series(values, dtype="string"),
        lambda values: pd.Series(values, dtype="category"),
        lambda values: pd.Series(values, index=[5, 5, 1], dtype=object),
    ],
)
def test_every_kind_of_sequence_is_masked_by_position(make):
    """Lists, arrays and Series of each dtype give the same array."""
    masked = mask.tokens(make(["a", None, "b"]), RING, "ip")
    assert (masked.dtype, masked.tolist()) == (object, [by_hand("a"), None, by_hand("b")])


def test_a_long_column_keeps_its_order_over_chunks():
    """Chunks change neither positions nor tokens, whatever lengths are mixed."""
    values = [f"{number % 9000}" * (number % 11) for number in range(2 * mask.CHUNK_ROWS + 50)]
    masked = mask.tokens(values, RING, "ip")
    wanted = {value: by_hand(value) for value in set(values)}
    assert masked.tolist() == [wanted[value] for value in values]


@pytest.mark.parametrize("strange", [5, 1.5, True, b"bytes", ["list"], {"a": 1}, (1,)])
def test_a_value_that_is_no_str_is_named_by_place(strange):
    """The error names the column and the row, without the value."""
    frame = logins()
    frame["ip"] = pd.Series(["1.1.1.1", None, "b", strange, "c", 7], dtype=object).array
    with pytest.raises(TypeError) as caught:
        mask.columns(frame, RING, [MaskedColumn("ip", "masked_ip", "other")])
    assert str(caught.value) == "column 'ip', row 3: only str and null can be masked"


def test_a_lone_surrogate_is_named_by_place():
    """The error names the column and the row, and no exception behind it holds the value."""
    values = ["fine", None, "secret\ud800"]
    with pytest.raises(ValueError, match="surrogate") as caught:
        mask.tokens(values, RING, "ip")
    assert str(caught.value) == "column 'ip', row 2: a lone surrogate is not text"
    assert caught.value.__context__ is None
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_the_row_of_a_fault_counts_from_the_start_of_the_column():
    """A fault in a later chunk has its position in the column."""
    values = ["a"] * (mask.CHUNK_ROWS + 5) + [5]
    with pytest.raises(TypeError, match=f"row {mask.CHUNK_ROWS + 5}:"):
        mask.tokens(values, RING, "ip")


@unhurried
@given(st.lists(st.none() | texts, max_size=40))
def test_any_text_comes_back(values):
    """Values of any Unicode text, with nulls and duplicates, come back from their tokens."""
    assert mask.unmask_tokens(mask.tokens(values, BOTH, "ip"), BOTH, "ip").tolist() == values


# Columns of a frame


def test_columns_puts_each_token_in_the_place_of_its_value():
    """This holds for a shuffled index with duplicate labels, and for duplicates and nulls."""
    frame = logins()
    masked = mask.columns(frame, RING, PLAN)
    ips = [None if ip is None else by_hand(ip) for ip in frame["ip"]]
    devices = [
        None if device is None else by_hand(device, context="device")
        for device in frame["device_id"]
    ]
    assert masked["masked_ip"].tolist() == ips
    assert masked["masked_device"].tolist() == devices


@pytest.mark.parametrize("seed", range(5))
def test_columns_commutes_with_a_permutation(seed):
    """Masking a shuffled frame gives the same as shuffling the masked frame."""
    order = np.random.default_rng(seed).permutation(6)
    shuffled = mask.columns(logins().iloc[order], RING, PLAN)
    pd.testing.assert_frame_equal(shuffled, mask.columns(logins(), RING, PLAN).iloc[order])


def test_columns_keeps_names_in_place_and_the_rest_untouched():
    """Targets are in the positions of their sources; index and other columns are the same."""
    frame = logins()
    masked = mask.columns(frame, RING, PLAN)
    assert masked.columns.tolist() == [
        "message_id",
        "masked_ip",
        "locale",
        "masked_device",
        "app_version",
    ]
    rest = ["message_id", "locale", "app_version"]
    pd.testing.assert_frame_equal(masked[rest], frame[rest])


def test_columns_leaves_no_plain_value():
    """No cell of the masked frame is one of the plain values."""
    frame = logins()
    cells = set(mask.columns(frame, RING, PLAN).astype(object).to_numpy().ravel())
    assert not cells & {*frame["ip"].dropna(), *frame["device_id"].dropna()}


def test_columns_does_not_change_the_frame_it_was_given():
    """The frame is equal to a new one after the call."""
    frame = logins()
    mask.columns(frame, RING, [MaskedColumn("ip", "ip", "ip"), PLAN[1]])
    pd.testing.assert_frame_equal(frame, logins())


def test_columns_may_swap_names():
    """A target may have the name of a source that is replaced."""
    plan = [MaskedColumn("ip", "device_id", "ip"), MaskedColumn("device_id", "ip", "device")]
    masked = mask.columns(logins(), RING, plan)
    assert masked["device_id"].tolist()[0] == by_hand("1.2.3.4")
    assert masked["ip"].tolist()[1] == by_hand("5-6", context="device")


def test_masked_nulls_arrive_in_sql_as_null():
    """Token columns are object, so that to_sql binds None as NULL and a token as text."""
    masked = mask.columns(logins(), RING, PLAN)
    assert masked["masked_ip"].dtype == object
    connection = sqlite3.connect(":memory:")
    masked.to_sql("logins", connection, index=False)
    kinds = connection.execute("select typeof(masked_ip), masked_ip is null from logins")
    assert kinds.fetchall() == [
        ("text", 0),
        ("null", 1),
        ("text", 0),
        ("text", 0),
        ("text", 0),
        ("null", 1),
    ]
    connection.close()


def test_columns_masks_a_frame_of_no_rows():
    """An empty frame keeps its columns."""
    masked = mask.columns(logins().head(0), RING, PLAN)
    assert (len(masked), masked["masked_ip"].dtype) == (0, object)


@pytest.mark.parametrize(
    ("plan", "column"),
    [
        ([MaskedColumn("gone", "x", "x")], "gone"),
        ([MaskedColumn("ip", "locale", "x")], "locale"),
        ([MaskedColumn("ip", "x", "x"), MaskedColumn("device_id", "x", "x")], "x"),
        ([MaskedColumn("ip", "x", "x"), MaskedColumn("ip", "y", "x")], "x"),
    ],
)
def test_a_plan_that_does_not_fit_the_frame_is_refused(plan, column):
    """A missing source, a target that is taken, and a source or target used twice are named."""
    with pytest.raises(ValueError, match=f"^column '{column}' "):
        mask.columns(logins(), RING, plan)


def test_a_source_that_appears_twice_is_refused():
    """One of two columns of the same name would stay plain."""
    frame = pd.DataFrame([["a", "b"]], columns=["ip", "ip"])
    with pytest.raises(ValueError, match="'ip' must be in the frame exactly once"):
        mask.columns(frame, RING, PLAN[:1])


# Unmasking


def test_unmask_recovers_a_token_made_by_another_library():
    """The documented format is all that another library needs."""
    assert mask.unmask(by_hand("198.51.100.7"), RING, "ip") == "198.51.100.7"


def test_every_key_of_the_keyring_unmasks():
    """Tokens of an old key stay readable, mixed with those of the primary key."""
    mixed = [by_hand("a"), None, by_hand("b", TWO, "k2"), by_hand("c" * 99), by_hand("a")]
    assert mask.unmask_tokens(mixed, BOTH, "ip").tolist() == ["a", None, "b", "c" * 99, "a"]


def test_a_newline_in_a_value_does_not_move_its_neighbours():
    """Values with newlines come back unchanged, and so do those beside them."""
    values = ["a", "b\nc", "\n", "", "d\n"]
    assert mask.unmask_tokens(mask.tokens(values, RING, "ip"), RING, "ip").tolist() == values


@pytest.mark.parametrize("value", ["", "1.2.3.4", "Жук" * 9, "x" * 40])
def test_every_flipped_bit_of_a_token_is_refused(value):
    """No bit of any character can change, base64's surplus bits and the key id included."""
    token = by_hand(value)
    changed = [
        token[:at] + chr(ord(token[at]) ^ 1 << bit) + token[at + 1 :]
        for at in range(len(token))
        for bit in range(8)
    ]
    assert {refusal(token) for token in changed} == {NOT_A_TOKEN}


WRONG = {
    "unknown key id": by_hand("a", ONE, "k9"),
    "wrong key": by_hand("a", TWO, "k1"),
    "wrong column": by_hand("a", context="device"),
    "another version": "k1." + base64.urlsafe_b64encode(bytes(32)).decode().rstrip("="),
    "no key id": by_hand("a")[3:],
    "no text": "",
    "key id only": "k1.",
    "cut short": by_hand("a")[:-1],
    "a block short": by_hand("x" * 20)[:-22],
    "one character more": by_hand("a") + "A",
    "base64 padding": by_hand("a") + "=",
    "surplus bits": by_hand("a")[:-1] + chr(ord(by_hand("a")[-1]) + 1),
    "the other alphabet": by_hand("a8").replace("-", "+").replace("_", "/"),
    "a space": by_hand("a")[:20] + " " + by_hand("a")[21:],
    "outside ASCII": by_hand("a")[:20] + "é" + by_hand("a")[21:],
    "a lone surrogate": by_hand("a")[:20] + "\ud800" + by_hand("a")[21:],
    "a newline": by_hand("a") + "\n",
    "no padding": forged(b"sixteen bytes ok"),
    "zeros alone": forged(bytes(16)),
    "wrong padding": forged(b"fifteen bytes!!\x81"),
    "padding a block too long": forged(b"a\x80" + bytes(30)),
    "not UTF-8": forged(b"\xff\x80" + bytes(14)),
    "an encoded surrogate": forged(b"\xed\xa0\x80\x80" + bytes(12)),
    "no str": 5,
    "bytes": by_hand("a").encode(),
    "a list": [by_hand("a")],
    "null": None,
}


def test_the_wrong_tokens_are_wrong_in_one_way():
    """The token in the other alphabet has a character on which the two alphabets differ."""
    assert WRONG["the other alphabet"] != by_hand("a8")
    assert mask.unmask(by_hand("a8"), RING, "ip") == "a8"
    assert mask.unmask(forged(b"fifteen bytes!!\x80"), RING, "ip") == "fifteen bytes!!"


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG.keys())
def test_every_fault_of_a_token_has_the_same_words(token):
    """The error does not say which check failed."""
    assert refusal(token) == NOT_A_TOKEN


@pytest.mark.parametrize(
    "token", [token for token in WRONG.values() if token is not None], ids=list(WRONG)[:-1]
)
def test_a_fault_in_a_column_is_named_by_row(token):
    """Among good tokens, of other lengths too, the error names the row and nothing else."""
    column = [by_hand("a"), None, by_hand("b" * 40), by_hand("a"), token, by_hand("c")]
    with pytest.raises(UnmaskError) as caught:
        mask.unmask_tokens(pd.Series(column, index=[9] * 6, dtype=object), RING, "ip")
    assert str(caught.value) == f"row 4: {NOT_A_TOKEN}"


def test_the_row_of_a_wrong_token_counts_from_the_start_of_the_column():
    """A wrong token in a later chunk has its position in the column."""
    column = [by_hand("a")] * (mask.CHUNK_ROWS + 2) + ["wrong"]
    with pytest.raises(UnmaskError, match=f"^row {mask.CHUNK_ROWS + 2}: "):
        mask.unmask_tokens(column, RING, "ip")


def test_remask_brings_tokens_of_every_key_under_the_primary():
    """Order and nulls stay; a token that cannot be opened becomes None."""
    values = ["1.2.3.4", "::1", "1.2.3.4", "é" * 20]
    old, new = mask.tokens(values, RING, "ip"), mask.tokens(values, BOTH, "ip")
    odd = [mask.tokens(["x"], RING, "device")[0], "k1.", "", 5, "k9." + old[0][3:]]
    masked = mask.remask([*old, None, *new, *odd], BOTH, "ip")
    assert masked.tolist() == [*new, None, *new, *[None] * len(odd)]
    assert mask.remask([], BOTH, "ip").tolist() == []


# Lengths


@pytest.mark.parametrize("value_bytes", [0, 1, 14, 15, 16, 31, 32, 47, 48, 159, 160])
@pytest.mark.parametrize("key_id", ["k", "key-2024-05-01__"])
def test_token_length_is_the_length_of_a_token(value_bytes, key_id):
    """The length follows from the sizes of the value and the key id."""
    (token,) = mask.tokens(["x" * value_bytes], Keyring(key_id, {key_id: ONE}), "ip")
    assert tokens.token_length(value_bytes, len(key_id)) == len(token)


@pytest.mark.parametrize("characters", range(46, 300))
def test_longest_value_is_the_last_that_fits(characters):
    """The longest value fits, and one byte more does not."""
    value_bytes = tokens.longest_value(characters, 2)
    assert tokens.token_length(value_bytes, 2) <= characters
    assert characters < tokens.token_length(value_bytes + 1, 2)


def test_a_column_too_short_for_any_token_is_refused():
    """The error says how long the column must be."""
    with pytest.raises(
        SettingsError, match=r"^a token does not fit into 45 characters; .* at least 46$"
    ):
        tokens.longest_value(45, 2)


# Sealed bodies


bodies = st.lists(st.tuples(st.text(max_size=60) | st.binary(max_size=60), st.text(max_size=40)))


@unhurried
@given(bodies)
def test_any_body_comes_back(pairs):
    """Bodies of text with lone surrogates and of bytes come back exactly, with their type."""
    plain = [body for body, _ in pairs]
    ids = [message_id for _, message_id in pairs]
    assert seal.unseal_each(seal.seal(plain, ids, RING), ids, RING) == plain


@pytest.mark.parametrize("body", ["\ud800 alone", "\ud83d\ude00", "\x80", "\0", "", b"\x80\0", b""])
def test_a_body_that_looks_like_padding_or_half_a_pair_comes_back(body):
    """Nothing is normalised, not even two surrogates that would make a character."""
    assert seal.unseal_each(seal.seal([body], ["m1"], RING), ["m1"], RING) == [body]


def test_a_long_body_comes_back():
    """A message of SQS's full size, 1 MiB, is sealed and opened."""
    body = "0123456789abcdef" * 65_536
    assert seal.unseal_each(seal.seal([body], ["m1"], RING), ["m1"], RING) == [body]


def test_two_seals_of_one_body_differ():
    """Equal bodies look different, whether sealed in one call or in two."""
    sealed = seal.seal(["body"] * 2, ["m1"] * 2, RING) + seal.seal(["body"], ["m1"], RING)
    assert len({body[20:] for body in sealed}) == 3


def test_a_sealed_body_is_what_another_library_opens():
    """It is version, key id and nonce, then RFC 5297 under the derived key with three strings."""
    (sealed,) = seal.seal(["body"], ["m1"], BOTH)
    assert sealed[:4] == b"\x01\x02k2"
    data = [b"etl:v1:k2:quarantine", b"m1", sealed[4:20]]
    opened = AESSIV(BOTH.derive("quarantine")).decrypt(sealed[20:], data)
    assert opened == b"tbody\x80" + bytes(10)


def test_every_key_of_the_keyring_unseals():
    """Bodies sealed under an old key open beside those of the primary key, in order."""
    sealed = seal.seal(["new"], ["m1"], BOTH) + seal.seal(["old"], ["m2"], RING)
    sealed += seal.seal(["newer"], ["m3"], BOTH)
    assert seal.unseal_each(sealed, ["m1", "m2", "m3"], BOTH) == ["new", "old", "newer"]


def test_unseal_takes_what_the_database_driver_gives():
    """The driver returns the bytes of a bytea column as a memoryview."""
    assert seal.unseal_each([memoryview(seal.seal(["body"], ["m1"], RING)[0])], ["m1"], RING) == [
        "body"
    ]


def unsealed(sealed: bytes, message_id: str = "m1", ring: Keyring = RING) -> str | bytes | None:
    """Unseal a body beside a good one, which comes back in any case."""
    good_sealed = seal.seal(["good"], ["m0"], ring)
    good, body = seal.unseal_each([*good_sealed, sealed], ["m0", message_id], ring)
    assert good == "good"
    return body


def test_every_flipped_bit_of_a_sealed_body_is_refused():
    """Version, key id, nonce, IV and ciphertext cannot change unnoticed."""
    (sealed,) = seal.seal(["body"], ["m1"], RING)
    number = int.from_bytes(sealed)
    changed = [(number ^ 1 << bit).to_bytes(len(sealed)) for bit in range(8 * len(sealed))]
    assert {unsealed(body) for body in changed} == {None}


def test_every_cut_of_a_sealed_body_is_refused():
    """A truncated body is not opened, wherever it is cut."""
    (sealed,) = seal.seal(["body"], ["m1"], RING)
    assert {unsealed(sealed[:length]) for length in range(len(sealed))} == {None}


def test_a_body_of_another_message_is_refused():
    """A sealed body is bound to its message id."""
    assert unsealed(seal.seal(["body"], ["m2"], RING)[0]) is None


def test_a_body_of_another_keyring_is_refused():
    """The same key id with another key does not open it."""
    (sealed,) = seal.seal(["body"], ["m1"], Keyring("k1", {"k1": TWO}))
    assert unsealed(sealed) is None


@pytest.mark.parametrize("inside", [b"", b"t", b"x\x80", b"\x80", b"t\xff\x80", b"tbody\x80\x01"])
def test_a_body_that_was_sealed_wrongly_is_refused(inside):
    """Plaintext without type mark and padding is refused even under the right key."""
    nonce = bytes(16)
    data = [b"etl:v1:k1:quarantine", b"m1", nonce]
    sealed = AESSIV(RING.derive("quarantine")).encrypt(inside, data)
    assert unsealed(b"\x01\x02k1" + nonce + sealed) is None


def test_a_missing_message_id_is_refused():
    """It would bind bodies to the wrong messages."""
    with pytest.raises(ValueError, match="each body needs"):
        seal.seal(["a", "b"], ["m1"], RING)
    with pytest.raises(ValueError, match="each sealed body needs"):
        seal.unseal_each([b""], [], RING)


def test_unseal_each_returns_none_for_what_cannot_be_opened():
    """The body is of another message, of another key, or is not a body at all."""
    sealed = seal.seal(["a", b"b"], ["m1", "m2"], RING)
    stranger = seal.seal(["c"], ["m3"], Keyring("k1", {"k1": TWO}))
    given = [sealed[0], sealed[1], sealed[0], stranger[0], b""]
    opened = seal.unseal_each(given, ["m1", "m2", "m2", "m3", "m4"], BOTH)
    assert opened == ["a", b"b", None, None, None]


def test_every_body_of_a_key_begins_with_its_header():
    """Bodies of another key do not begin with it, even if the key ids begin alike."""
    (body,) = seal.seal(["a"], ["m"], RING)
    assert body.startswith(seal.header("k1"))
    assert not body.startswith(seal.header("k"))

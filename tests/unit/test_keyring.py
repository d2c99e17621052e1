"""The keyring: where it comes from, what it refuses, and that it never shows a key."""

import base64
import copy
import datetime as dt
import json
import os
import pickle
import re
import stat
import traceback
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from moto import mock_aws

from etl.crypto.key_ids import new_key_id
from etl.crypto.keyring import Keyring, load_keyring
from etl.errors import KeyringError, SettingsError

ONE = bytes(range(64))
TWO = bytes(range(64, 128))


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


def text(primary="k1", **keys: bytes) -> str:
    spelled = {key_id: b64(key) for key_id, key in (keys or {"k1": ONE}).items()}
    return json.dumps({"primary": primary, "keys": spelled})


def refusal(document: str) -> str:
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(document, source="ETL_KEYRING")
    return str(caught.value)


def test_parse_reads_the_primary_and_every_key():
    """A keyring of two keys gives each by its id."""
    ring = Keyring.parse(text("k2", k1=ONE, k2=TWO), source="a test")
    assert (ring.primary, ring.key_ids) == ("k2", ("k1", "k2"))
    assert (ring.key("k1"), ring.key("k2")) == (ONE, TWO)


def test_dump_is_what_parse_reads():
    """Parsing the JSON of a keyring and dumping it again gives the same JSON."""
    ring = Keyring("k2", {"k1": ONE, "k2": TWO})
    assert (
        ring.dump()
        == Keyring.parse(ring.dump(), source="a test").dump()
        == text("k2", k1=ONE, k2=TWO)
    )


def test_new_keys_are_random():
    """Two new keyrings have two keys, of 64 bytes."""
    first, second = Keyring.new("k1"), Keyring.new("k2")
    assert (first.primary, second.primary) == ("k1", "k2")
    assert len(first.key("k1")) == 64
    assert first.key("k1") != second.key("k2")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"keys": {}}', "member 'primary' is missing"),
        ('{"primary": "k1"}', "member 'keys' is missing"),
        ('{"primary": "k1", "keys": {}, "note": 1}', "unknown member 'note'"),
        ('{"primary": 1, "keys": {}}', "member 'primary' must be a key id"),
        ('{"primary": "k1", "keys": []}', "member 'keys' must be an object"),
        ('{"primary": "k1", "keys": {}}', "primary 'k1' is not among its keys"),
        ('{"primary": "k1", "keys": {"k1": 5}}', "key 'k1' is not base64"),
        ('{"primary": "k1", "keys": {"k1": ""}}', "key 'k1' is not base64"),
        ('{"primary": "k1", "keys": {"k1": "AA*A"}}', "key 'k1' is not base64"),
        (f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)}="}}}}', "key 'k1' is not base64"),
        (f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)[:-3]}x=="}}}}', "key 'k1' is not base64"),
        (
            f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)}", "k1": "{b64(TWO)}"}}}}',
            "'k1' appears twice",
        ),
        ('{"primary": "k1", "primary": "k2", "keys": {}}', "'primary' appears twice"),
        (text(k1=ONE[:63]), "key 'k1' has 63 bytes, must have 64"),
        (text(k1=ONE + b"x"), "key 'k1' has 65 bytes, must have 64"),
        (text(k1=ONE[:32]), "key 'k1' has 32 bytes, must have 64"),
        (text(k1=bytes(64)), "key 'k1' is one byte repeated"),
        (text(k1=b"\xa5" * 64), "key 'k1' is one byte repeated"),
        (text(k1=ONE[:32] * 2), "key 'k1' has two equal halves"),
        (text(k1=ONE, k2=ONE), "two key ids have the same key"),
        (text("k3", k1=ONE, k2=TWO), "primary 'k3' is not among its keys"),
        (text("", **{"": ONE}), "the key id in position 1 must have 1 to 16"),
        (text("k.1", **{"k.1": ONE}), "the key id in position 1 must have 1 to 16"),
        (text("k1\n", **{"k1\n": ONE}), "the key id in position 1 must have 1 to 16"),
        (text("k" * 17, **{"k" * 17: ONE}), "the key id in position 1 must have 1 to 16"),
        (text("k1", k1=ONE, é=TWO), "the key id in position 2 must have 1 to 16"),
    ],
)
def test_parse_refuses_and_says_why(document, reason):
    """Each fault has a message of its own, after the name of the source."""
    assert refusal(document).startswith(f"keyring in ETL_KEYRING: {reason}")


WRAPPED = f"{b64(ONE)[:76]}\n{b64(ONE)[76:]}\n"
HANDED_OVER = {
    "a line end": f"{text()}\n",
    "a line end of Windows": f"{text()}\r\n",
    "blank lines": f" \n\t{text()}\n\n",
    "a mark": f"\ufeff{text()}",
    "single quotes": f"'{text()}'",
    "single quotes and a line end": f"'{text()}'\r\n",
    "double quotes": f'"{text()}"',
    "a JSON text": json.dumps(text()),
    "a JSON text in single quotes": f"'{json.dumps(text())}'",
    "a JSON text in a JSON text": json.dumps(json.dumps(text())),
    "single quotes around spaces": f"' {text()} '",
    "escaped for a shell": text().replace('"', '\\"'),
    "escaped and quoted": '"' + text().replace('"', '\\"') + '"',
    "escaped line ends": json.dumps(json.loads(text()), indent=1).replace("\n", "\\n"),
    "a mark before quotes": f"\ufeff'{text()}'",
    "many lines": json.dumps(json.loads(text()), indent=2).replace("\n", "\r\n"),
    "base64 of many lines": json.dumps({"primary": "k1", "keys": {"k1": WRAPPED}}),
    "base64 of lines that are not escaped": f'{{"primary": "k1", "keys": {{"k1": "{WRAPPED}"}}}}',
    "base64 of many lines, escaped": json.dumps(
        json.dumps({"primary": "k1", "keys": {"k1": WRAPPED}})
    ),
    "spaces around base64": f'{{"primary": "k1", "keys": {{"k1": " {b64(ONE)} "}}}}',
}


@pytest.mark.parametrize("given", HANDED_OVER.values(), ids=HANDED_OVER)
def test_what_a_shell_or_an_env_file_puts_around_a_keyring_is_taken_off(given, tmp_path):
    """From each source: no key and no id has a quote, a backslash or a space."""
    path = tmp_path / "keyring.json"
    path.write_text(given)
    path.chmod(0o600)
    for environment in ({"ETL_KEYRING": given}, {"ETL_KEYRING_FILE": str(path)}):
        ring = load_keyring(environment)
        assert (ring.primary, ring.key_ids, ring.key("k1")) == ("k1", ("k1",), ONE)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_of_windows_is_read_if_it_has_a_mark(encoding, tmp_path):
    """PowerShell writes UTF-16 with one."""
    path = tmp_path / "keyring.json"
    path.touch(0o600)
    mark = "\ufeff" if encoding.endswith("e") else ""
    path.write_bytes(f"{mark}{text()}\r\n".encode(encoding))
    assert load_keyring({"ETL_KEYRING_FILE": f'"{path}"\n'}).key("k1") == ONE
    path.write_bytes(text().encode("utf-16-le"))
    with pytest.raises(KeyringError, match="is not UTF-8 text"):
        load_keyring({"ETL_KEYRING_FILE": str(path)})


@pytest.mark.parametrize("wrap", [str, json.dumps, "'{}'".format, lambda t: t.replace('"', '\\"')])
def test_one_id_with_two_keys_is_refused_however_it_is_quoted(wrap):
    """Another reading of the text does not hide it."""
    document = f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)}", "k1": "{b64(TWO)}"}}}}'
    assert "'k1' appears twice" in refusal(wrap(document))


def test_a_keyring_in_base64_is_not_guessed_at():
    """Kubernetes shows its secrets so."""
    said = refusal(base64.b64encode(text().encode()).decode() + "\n")
    assert "not JSON, but base64 of it: decode it once" in said


DAMAGED = {
    "empty": "",
    "blank": " \n",
    "cut": text()[:-10],
    "another shape": "[]",
    "an empty object": "{}",
    "without keys": '{"primary": "k1"}',
    "without a primary": json.dumps({"keys": {"k1": b64(ONE)}}),
    "an empty list of keys": '{"primary": "k1", "keys": {}}',
    "a primary that is not a text": '{"primary": 1, "keys": {}}',
    "keys of another shape": '{"primary": "k1", "keys": []}',
    "a primary without its key": text("k2", k1=ONE),
    "a key cut short": text(k1=ONE[:63]),
    "a key too long": text(k1=ONE + b"x"),
    "a key of zeros": text(k1=bytes(64)),
    "a key of equal halves": text(k1=ONE[:32] * 2),
    "a key that is not base64": '{"primary": "k1", "keys": {"k1": "?"}}',
    "one key twice": text(k1=ONE, k2=ONE),
    "one id twice": f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)}", "k1": "{b64(TWO)}"}}}}',
}


@pytest.mark.parametrize("document", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("source", ["ETL_KEYRING", "ETL_KEYRING_FILE"])
def test_a_damaged_keyring_is_to_be_restored(document, source, tmp_path):
    """No error leads to a new key, which could not read what the lost one has masked."""
    path = tmp_path / "keyring.json"
    path.write_text(document)
    path.chmod(0o600)
    value = document if source == "ETL_KEYRING" else str(path)
    if not value:
        return  # an empty variable is one that is not set
    with pytest.raises(KeyringError) as caught:
        load_keyring({source: value})
    assert str(caught.value).endswith("; restore the copy of the keyring")
    assert "keys new" not in str(caught.value)


def test_a_file_that_is_gone_or_no_text_is_to_be_restored(tmp_path):
    """Neither error leads to a new key."""
    path = tmp_path / "keyring.json"
    for content in (None, b"\xff\xfe"):
        if content:
            path.write_bytes(content)
            path.chmod(0o600)
        with pytest.raises(KeyringError, match=r"restore the copy of the keyring$") as caught:
            load_keyring({"ETL_KEYRING_FILE": str(path)})
        assert "keys new" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        b64(ONE),
        json.dumps({"primary": b64(ONE), "keys": {"k1": b64(TWO)}}),
        json.dumps({"primary": "k1", "keys": {b64(ONE): "k1"}}),
        json.dumps({"primary": "k1", "keys": {"k1": b64(ONE) + "!"}}),
        json.dumps({"primary": "k1", "keys": {}, b64(ONE): 1}),
        f'{{"{b64(ONE)}": 1, "{b64(ONE)}": 2}}',
        f'{{"primary": "k1", "keys": {{"k1": "{b64(ONE)}"',
        text(k1=ONE[:32] * 2),
        text(k1=ONE, k2=ONE),
    ],
)
def test_an_error_holds_no_key_material(document):
    """Neither the message nor an exception behind it repeats anything that may be a key."""
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(document, source="ETL_KEYRING")
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(b64(key)[:12] in shown for key in (ONE, TWO))


def test_no_way_of_printing_shows_a_key():
    """The repr, str and format of a keyring are its ids."""
    ring = Keyring("k1", {"k1": ONE, "k2": TWO})
    wanted = "Keyring(primary='k1', keys=['k1', 'k2'])"
    assert [repr(ring), str(ring), f"{ring}"] == [wanted] * 3


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_keyring_is_not_pickled_or_copied(carry):
    """Its keys would go to another process or a file with it."""
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        carry(Keyring.new())


def test_a_keyring_is_frozen():
    """Its primary cannot be set, and it holds a copy of the keys that it was given."""
    keys = {"k1": ONE}
    ring = Keyring("k1", keys)
    keys["k1"] = TWO
    with pytest.raises(AttributeError):
        ring.primary = "k2"
    assert ring.key("k1") == ONE


@pytest.mark.parametrize("ids", [["k1"], ["k9", "k10"], ["old"], ["k261127-a3f9", "x"]])
def test_with_new_makes_a_random_key_primary_and_keeps_the_others(ids):
    """Two keys that are added to the same keyring apart from each other have different ids."""
    ring = Keyring(ids[0], {key_id: bytes([n]) + ONE[1:] for n, key_id in enumerate(ids, 1)})
    first, second = ring.with_new(), ring.with_new()
    assert first.key_ids == (*ids, first.primary)
    assert [first.key(key_id) for key_id in ids] == [ring.key(key_id) for key_id in ids]
    assert first.primary != second.primary
    assert first.key(first.primary) != second.key(second.primary)


def test_the_id_of_a_new_key_is_its_own():
    """It has the date and random digits, and 16 characters at most, as a token's prefix has."""
    made = {new_key_id() for _ in range(50)}
    assert len(made) > 45
    today = f"k{dt.datetime.now(dt.UTC):%y%m%d}"
    assert all(re.fullmatch(r"k\d{6}-[0-9a-f]{4}", key_id) for key_id in made)
    assert {key_id[:7] for key_id in made} <= {today, f"k{dt.datetime.now(dt.UTC):%y%m%d}"}
    assert Keyring.new().primary != Keyring.new().primary


def test_the_id_of_a_new_key_is_never_one_that_is_taken(monkeypatch):
    """However unlikely it is."""
    digits = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(digits))
    taken = new_key_id()
    assert new_key_id([taken]) == taken.replace("aaaa", "bbbb")


def test_with_new_refuses_an_id_that_is_taken():
    """Tokens name their key by its id, so an id is never given to a second key."""
    with pytest.raises(KeyringError, match="'k1' is taken"):
        Keyring.new("k1").with_new("k1")
    with pytest.raises(KeyringError, match="the key id in position 2 must have 1 to 16"):
        Keyring.new().with_new("k.2")


def test_with_primary_changes_nothing_else():
    """The keys stay, and so does the order of their ids."""
    ring = Keyring("k2", {"k1": ONE, "k2": TWO}).with_primary("k1")
    assert (ring.primary, ring.key_ids, ring.key("k2")) == ("k1", ("k1", "k2"), TWO)
    with pytest.raises(KeyringError, match="'k9' is not among its keys"):
        ring.with_primary("k9")


def test_an_unknown_key_id_is_named():
    """Asking for a key that is not there is an error that names it."""
    with pytest.raises(KeyringError, match="no key 'k9' in the keyring"):
        Keyring.new().key("k9")


@pytest.mark.parametrize("key_id", ["k1", "k2"])
def test_derive_is_hkdf_with_sha_512(key_id):
    """Another library's HKDF (RFC 5869) derives the same key."""
    ring = Keyring("k1", {"k1": ONE, "k2": TWO})
    info = f"etl:v1:{key_id}:quarantine".encode()
    wanted = HKDF(SHA512(), 64, None, info).derive(ring.key(key_id))
    assert ring.derive("quarantine", key_id) == wanted


def test_derive_differs_by_purpose_and_is_never_the_key():
    """A key for one purpose says nothing about the other purposes' keys."""
    ring = Keyring("k1", {"k1": ONE, "k2": TWO})
    derived = {ring.derive("one"), ring.derive("two"), ring.derive("one", "k2"), ONE, TWO}
    assert len(derived) == 5
    assert ring.derive("one") == ring.derive("one", "k1")


def test_load_reads_the_variable():
    """ETL_KEYRING is the JSON itself; the empty others count as unset."""
    environment = {"ETL_KEYRING": text(), "ETL_KEYRING_FILE": "", "ETL_KEYRING_SECRET": ""}
    assert load_keyring(environment).key("k1") == ONE


def test_load_says_how_to_make_a_keyring():
    """Without a keyring the error names the variables and the command."""
    with pytest.raises(KeyringError) as caught:
        load_keyring({"ETL_KEYRING": ""})
    assert str(caught.value) == (
        "no keyring: set one of ETL_KEYRING, ETL_KEYRING_FILE, ETL_KEYRING_SECRET; "
        "if the job has run before, restore the copy of its keyring, since a new key cannot read "
        "what an earlier one masked; for a first set-up, make one with: etl keys new"
    )


def test_load_refuses_two_sources():
    """The program does not guess which of two keyrings was meant."""
    with pytest.raises(KeyringError, match=r"all but one of ETL_KEYRING, ETL_KEYRING_SECRET$"):
        load_keyring({"ETL_KEYRING_SECRET": "a", "ETL_KEYRING": text()})


def test_load_reads_a_file_of_its_owner(tmp_path):
    """A file with mode 0600 is read."""
    path = tmp_path / "keyring.json"
    path.write_text(text())
    path.chmod(0o600)
    assert load_keyring({"ETL_KEYRING_FILE": str(path)}).key("k1") == ONE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_load_refuses_a_file_that_others_can_read(tmp_path, mode):
    """The error names the mode and the command that corrects it."""
    path = tmp_path / "keyring.json"
    path.write_text(text())
    path.chmod(mode)
    with pytest.raises(KeyringError) as caught:
        load_keyring({"ETL_KEYRING_FILE": str(path)})
    assert str(caught.value) == (
        f"keyring file {str(path)!r} has mode {mode:04o}, so other users can use it; "
        f"run: chmod 600 {path}"
    )


USER, OTHER = 1000, 2000
MOUNT = (
    "for a secret mounted by Kubernetes, set defaultMode: 0400 on the volume and, if the job does "
    "not run as root, fsGroup on the pod; for one of Docker, set its mode to 0400 and its uid; or "
    "pass the keyring in ETL_KEYRING"
)


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Return a function that loads a file as a user finds it in a mount."""

    def load(mode: int, owner: int, *, read_only: bool, user: int = USER) -> Keyring:
        path = tmp_path / "keyring.json"
        path.write_text(text())
        status = SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=owner)
        flags = SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID if read_only else 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda _: status)
            patch.setattr(os, "fstatvfs", lambda _: flags)
            patch.setattr(os, "geteuid", lambda: user)
            return load_keyring({"ETL_KEYRING_FILE": str(path)})

    return load


@pytest.mark.parametrize("owner", [0, USER])
@pytest.mark.parametrize("mode", [0o440, 0o640, 0o040, 0o400])
def test_the_group_may_read_a_secret_on_a_read_only_mount(mounted, mode, owner):
    """Kubernetes gives a pod with fsGroup no other mode; nobody there can change it."""
    assert mounted(mode, owner, read_only=True).key("k1") == ONE


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o460, 0o450, 0o404])
@pytest.mark.parametrize("user", [0, USER])
def test_a_secret_on_a_read_only_mount_that_others_can_use_is_refused(mounted, mode, user):
    """The error says what to write where it is mounted; chmod would be refused there."""
    with pytest.raises(KeyringError) as caught:
        mounted(mode, 0, read_only=True, user=user)
    assert f"has mode {mode:04o}, so other users can use it, and is on a" in str(caught.value)
    assert str(caught.value).endswith(f"read-only mount; {MOUNT}")


def test_a_secret_on_a_read_only_mount_that_a_third_user_owns_is_refused(mounted):
    """Neither root nor this user has put it there."""
    with pytest.raises(KeyringError, match="has mode 0440"):
        mounted(0o440, OTHER, read_only=True)


@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_file_of_another_user_needs_another_owner(mounted, mode):
    """With chmod 600 alone this user could not read it any more."""
    with pytest.raises(KeyringError, match=r"let root run: chown 1000 /\S+ && chmod 600 /"):
        mounted(mode, 0, read_only=False)


@pytest.mark.parametrize("user", [0, USER])
def test_who_can_change_the_mode_is_told_to(mounted, user):
    """On a file system that can be written there is no reason for another mode."""
    with pytest.raises(KeyringError, match=r"has mode 0440.*; run: chmod 600 /"):
        mounted(0o440, USER, read_only=False, user=user)


def test_a_file_that_this_user_cannot_read_names_the_user(tmp_path, monkeypatch):
    """A secret of mode 0400 that belongs to root, in a container that runs as another user."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: USER)
    monkeypatch.setattr(os, "getegid", lambda: 3000)
    with pytest.raises(KeyringError) as caught:
        load_keyring({"ETL_KEYRING_FILE": str(tmp_path / "keyring.json")})
    assert str(caught.value).endswith(
        f"Permission denied; this process runs as user 1000, group 3000; {MOUNT}"
    )


def test_load_names_a_file_that_is_not_there(tmp_path):
    """The path is in the error."""
    with pytest.raises(KeyringError, match=r"nowhere\.json' cannot be read: No such file"):
        load_keyring({"ETL_KEYRING_FILE": str(tmp_path / "nowhere.json")})


def test_load_refuses_a_file_that_is_no_text(tmp_path):
    """The 64 bytes themselves are not a keyring, and are not kept behind the error."""
    path = tmp_path / "keyring.json"
    path.write_bytes(b"\xff" + ONE)
    path.chmod(0o600)
    with pytest.raises(KeyringError, match="is not UTF-8 text") as caught:
        load_keyring({"ETL_KEYRING_FILE": str(path)})
    assert caught.value.__context__ is None


def test_a_fault_in_a_file_names_the_file(tmp_path):
    """An error about the contents of a file names its path."""
    path = tmp_path / "keyring.json"
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(
        KeyringError, match=r"^keyring in ETL_KEYRING_FILE '.*keyring\.json': member"
    ):
        load_keyring({"ETL_KEYRING_FILE": str(path)})


AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-west-3",
}


@pytest.fixture
def secrets(monkeypatch):
    """Return AWS Secrets Manager, played by moto in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")  # of this test's own client
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-west-3")


def test_load_reads_a_secret_of_the_region(secrets):
    """The secret's string is the JSON, and AWS_REGION says where it is."""
    secrets.create_secret(Name="etl/keyring", SecretString=json.dumps(text()) + "\r\n")
    environment = {**AWS, "ETL_KEYRING_SECRET": "'etl/keyring'\n"}
    assert load_keyring(environment).key("k1") == ONE


def test_load_names_a_secret_that_is_not_there(secrets):
    """AWS's own error code is in the error."""
    environment = {**AWS, "ETL_KEYRING_SECRET": "gone"}
    with pytest.raises(
        KeyringError, match=r"^keyring secret 'gone' .*'ResourceNotFoundException'; "
    ):
        load_keyring(environment)


def test_load_refuses_a_binary_secret(secrets):
    """Bytes in place of the JSON text are refused without showing them."""
    secrets.create_secret(Name="bin", SecretBinary=ONE)
    environment = {**AWS, "ETL_KEYRING_SECRET": "bin"}
    with pytest.raises(KeyringError, match=r"^keyring secret 'bin' has no SecretString"):
        load_keyring(environment)


def test_load_says_that_no_region_is_set(tmp_path):
    """Without a region AWS cannot be asked, and one of this process is not taken instead."""
    environment = {
        **AWS,
        "AWS_REGION": "",
        "AWS_CONFIG_FILE": str(tmp_path / "nowhere"),
        "ETL_KEYRING_SECRET": "etl/keyring",
    }
    with pytest.raises(SettingsError, match=r"^no AWS region: set AWS_REGION"):
        load_keyring(environment)


@pytest.mark.parametrize("source", ["ETL_KEYRING_FILE", "ETL_KEYRING_SECRET"])
@pytest.mark.parametrize(
    "pasted",
    [
        text(),
        f" {text()}\n",
        base64.b64encode(ONE).decode(),
        f"k1:{base64.b64encode(ONE).decode()}",
        "postgresql://etl:Sw0rdfish@db.example.com/etl",
        "https://etl:Sw0rdfish@vault.example.com/keyring",
    ],
)
def test_a_secret_in_place_of_a_name_is_not_shown(source, pasted, monkeypatch):
    """Neither in the error nor to AWS, which logs the names that it is asked for."""
    monkeypatch.setattr("etl.crypto.keyring.read_secret", None)
    with pytest.raises(KeyringError, match=f"^{source} must name") as caught:
        load_keyring({source: pasted})
    assert "belongs in ETL_KEYRING" in str(caught.value)
    assert "Sw0rdfish" not in str(caught.value)
    assert base64.b64encode(ONE).decode()[:8] not in str(caught.value)


@pytest.mark.parametrize("name", ["a:b/c.json", "/run/keys/" + "long/" * 30 + "k", "k+/=@.json"])
def test_an_unusual_path_is_taken_for_a_path(name):
    """Its error is about the file."""
    with pytest.raises(KeyringError, match="cannot be read: "):
        load_keyring({"ETL_KEYRING_FILE": name})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/run/secrets/keyring.json", "a file is named by ETL_KEYRING_FILE"),
        ("keyring.json\n", "a file is named by ETL_KEYRING_FILE"),
        ("export ETL_KEYRING={}", "take out the name of the variable"),
    ],
)
def test_what_was_put_in_the_variable_by_mistake_is_said(text: str, hint: str) -> None:
    """Nobody is led to make a new key."""
    with pytest.raises(KeyringError) as caught:
        load_keyring({"ETL_KEYRING": text})
    assert hint in str(caught.value)
    assert "keys new" not in str(caught.value)
    assert text.strip() not in str(caught.value)


@pytest.mark.parametrize("text", [" ", '""', "'' "])
def test_a_blank_name_of_a_file_is_not_the_current_folder(text: str) -> None:
    """Nor is it nothing, after which a new key might be made."""
    with pytest.raises(KeyringError, match="ETL_KEYRING_FILE is blank") as caught:
        load_keyring({"ETL_KEYRING_FILE": text})
    assert "keys new" not in str(caught.value)

"""Whether a field looks personal: by its name in several languages, or by the shape of its values.

A draft masks what looks personal, and a person decides. So a rule here may take too much, which
costs a look; what it misses would be stored in plain. Lists of words suffice for that; a library
that finds names in prose is large, and the words of a log line are rarely prose.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Iterable, Sequence

EMAIL = "an e-mail address"
PHONE = "a phone number"
NETWORK = "a network address"
POSTAL = "a postal address"
DEVICE = "the id of a device or a browser"
NAME = "the name of a person"
OFFICIAL = "an official or a bank's number of a person"
BIRTH = "a date of birth"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A word of a name, or all of its words written as one; lower case, without accents.
_NAMES: dict[str, frozenset[str]] = {
    EMAIL: _words(
        "email emails mail mails emailaddress mailaddress courriel correo epost eposta mailadresse "
        "почта メール 邮箱 邮件 이메일"
    ),
    PHONE: _words(
        "phone phones telephone tel telefon telefono telefone mobile mobil handy cellphone celular "
        "cellulare movil portable msisdn fax telefonnummer phonenumber handynummer mobilenumber "
        "telefoon puhelin whatsapp телефон 電話 电话 手机 전화"
    ),
    NETWORK: _words(
        "ip ips ipaddr ipaddress ipv4 ipv6 remoteaddr remotehost clientip sourceip xforwardedfor "
        "forwardedfor mac macaddr macaddress bssid"
    ),
    POSTAL: _words(
        "address addr addresses adresse adressen anschrift direccion domicilio endereco indirizzo "
        "adres adresa osoite street streetname strasse rue calle rua housenumber hausnummer plz "
        "zip zipcode postcode postalcode codepostal codigopostal cep адрес 住所 地址 주소"
    ),
    DEVICE: _words(
        "deviceid devid deviceuuid deviceserial imei imei1 imei2 meid imsi iccid idfa idfv gaid "
        "adid aaid androidid advertisingid advertiserid udid serialnumber serialno seriennummer "
        "fingerprint cookie cookieid visitorid anonymousid installid installationid pushtoken "
        "fcmtoken devicetoken gerateid geraeteid idappareil iddispositivo hardwareid machineid"
    ),
    NAME: _words(
        "firstname lastname surname forename givenname familyname fullname middlename maidenname "
        "nickname username displayname screenname login realname personname contactname "
        "customername recipientname sendername cardholder accountholder vorname nachname "
        "familienname benutzername kontoinhaber prenom nomdefamille nomcomplet apellido apellidos "
        "nombrecompleto cognome sobrenome nomecompleto voornaam achternaam fornavn etternavn "
        "efternavn fornamn efternamn imie nazwisko jmeno prijmeni etunimi sukunimi имя фамилия "
        "отчество 姓名 氏名 名前 이름"
    ),
    OFFICIAL: _words(
        "ssn socialsecurity socialsecuritynumber passport passportnumber passportno nationalid "
        "taxid steuernummer steuerid personnummer personalausweis nif nie dni cpf curp bsn pesel "
        "aadhaar nino insurancenumber patientid driverlicense driverslicense licenseplate "
        "kennzeichen iban cardnumber creditcard pan accountnumber bankaccount kontonummer"
    ),
    BIRTH: _words(
        "birth birthday birthdate dob dateofbirth geburtsdatum geburtstag naissance datenaissance "
        "nacimiento nascimento geboortedatum"
    ),
}
# Words that are long enough to be looked for inside of others, as in "customeremail".
_INSIDE = {
    word: kind
    for kind, words in _NAMES.items()
    for word in words
    if len(word) >= 7 or word in ("email", "phone", "telefon")
}
# A name is that of a person beside one of these.
_NAME_WORDS = _words("name names nom nombre nome naam namn navn nimi")
_PERSONS = _words(
    "user users customer client cliente kunde contact person patient employee member recipient "
    "sender owner buyer seller driver passenger guest author student teacher parent child "
    "utilisateur usuario utente benutzer empfanger absender klant shipping billing beneficiary "
    "payer payee holder profile actor subject subscriber agent"
)
# What is said about a personal value is mostly not personal.
_ABOUT = _words(
    "type kind status count verified valid enabled version domain class category format provider "
    "length size model brand os country countrycode city region state opted consent label"
)
_ID_WORDS = _words("id ids uid uuid guid key number no nr")

# An address is found anywhere in a text, as in X-Forwarded-For or in a line of a log.
_EMAIL = re.compile(r"[^\s@<>,;]@[^\s@<>,;]+\.[^\W\d_]{2,}")
_IPV4 = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"
)
_MAC = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f])")
_BETWEEN = re.compile(r"[\s,;\"'\[\]()=]+")
_PHONE = re.compile(r"\(?\+?[0-9(][0-9 ()./-]{5,22}[0-9]")
_DATE = re.compile(r"[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{4}")
_CARD = re.compile(r"[0-9]{14,19}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,38}")
_PARTS = re.compile(r"[^\W_]+")
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without accents: ``deviceId`` is *device* and *id*."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    # NFKD takes Japanese and Korean letters apart, which are no accents.
    plain = unicodedata.normalize("NFC", plain)
    return [word.lower() for word in _PARTS.findall(_CAPITALS.sub("_", plain))]


def kind_by_name(path: Sequence[str]) -> str | None:
    """What a field holds of a person, as its name and those around it say; None if nothing.

    :param path: the names from the outside in
    """
    words = words_of(path[-1])
    if not words or words[-1] in _ABOUT:
        return None
    around = [word for name in path[:-1] for word in words_of(name)]
    for kind, known in _NAMES.items():
        if known & {*words, "".join(words), "".join([*around[-1:], *words])}:
            return kind
    joined = "".join(words)
    if found := next((kind for word, kind in _INSIDE.items() if word in joined), None):
        return found
    if _NAME_WORDS & {*words} and _PERSONS & {*words, *around}:
        return NAME
    if "device" in {*words, *around} and _ID_WORDS & {*words}:
        return DEVICE
    # The parts of an address, a name or a phone are as personal as the whole.
    return kind_by_name(path[:-1]) if len(path) > 1 else None


def kind_by_shape(texts: Iterable[str]) -> str | None:
    """What one of the texts looks like; None if none of them looks personal."""
    for text in texts:
        if kind := _kind_of(text):
            return kind
    return None


def _kind_of(text: str) -> str | None:
    if "@" in text and _EMAIL.search(text):
        return EMAIL
    if _IPV4.search(text) or _MAC.search(text) or _has_ipv6(text):
        return NETWORK
    bare = text.replace(" ", "")
    if (_CARD.fullmatch(bare) and _is_luhn(bare)) or (_IBAN.fullmatch(text) and _is_iban(bare)):
        return OFFICIAL
    digits = sum(character.isdigit() for character in text)
    if digits >= 7 and _PHONE.fullmatch(text) and not text.isdigit() and not _DATE.match(text):
        return PHONE
    return None


def _has_ipv6(text: str) -> bool:
    return text.count(":") > 1 and any(map(_is_ipv6, _BETWEEN.split(text)))


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0].partition("/")[0])
    except (OSError, ValueError):
        return False
    return True


def _is_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: card numbers, and IMEIs too."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 7064, MOD 97-10."""
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def why_personal(paths: Iterable[Sequence[str]], texts: Iterable[str]) -> str | None:
    """What a field holds of a person, and whether its name or a value says so; None if nothing.

    :param paths: of the field, and of what is inside of it
    """
    for path in paths:
        if kind := kind_by_name(path):
            return f"{kind} (by the field's name)"
    kind = kind_by_shape(texts)
    return kind and f"{kind} (by its values)"


def doubt(path: Sequence[str], texts: Sequence[str]) -> str | None:
    """Why a field that does not look personal may be so all the same; None if nothing says so."""
    words = {*words_of(path[-1])}
    around = {word for name in path for word in words_of(name)}
    is_id = bool(words & _ID_WORDS) and bool(around & (_PERSONS | {"account", "session"}))
    if is_id or words & (_PERSONS | {"uid"}):
        return "it may identify a person; if so, add mask: true"
    if words & _words("lat latitude lon lng longitude geo gps location"):
        return "a place can identify a person"
    if words & _NAME_WORDS:
        return "a name: if it is a person's, add mask: true"
    if any(text.count(" ") >= 4 for text in texts):
        return "free text can hold anything; if that is personal, add mask: true"
    return None

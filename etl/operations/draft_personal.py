"""Whether a field looks personal: by its name in several languages, or by the shape of its values.

A draft masks what looks personal, and a person decides. So a rule here may take too much, which
costs a look; what it misses would be stored in plain. Lists of words suffice for that; a library
that finds names in prose is large, and the words of a log line are rarely prose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etl.operations.draft_values import (
    BIRTH,
    DEVICE,
    EMAIL,
    NAME,
    NETWORK,
    OFFICIAL,
    PHONE,
    POSTAL,
    are_small_numbers,
    kind_by_shape,
)
from etl.operations.draft_words import IDS, PERSONS, listed, words_of

# A word of a name, or all of its words written as one; lower case, without accents.
_NAMES: dict[str, frozenset[str]] = {
    EMAIL: listed(
        "email emails mail mails emailaddress mailaddress courriel correo epost eposta mailadresse "
        "почта メール 邮箱 邮件 이메일"
    ),
    PHONE: listed(
        "phone phones telephone tel telefon telefono telefone mobile mobil handy cellphone celular "
        "cellulare movil portable msisdn fax telefonnummer phonenumber handynummer mobilenumber "
        "telefoon puhelin whatsapp телефон 電話 电话 手机 전화"
    ),
    NETWORK: listed(
        "ip ips ipaddr ipaddress ipv4 ipv6 remoteaddr remotehost clientip sourceip xforwardedfor "
        "forwardedfor mac macaddr macaddress bssid"
    ),
    POSTAL: listed(
        "address addr addresses adresse adressen anschrift direccion domicilio endereco indirizzo "
        "adres adresa osoite street streetname strasse rue calle rua housenumber hausnummer plz "
        "zip zipcode postcode postalcode codepostal codigopostal cep адрес 住所 地址 주소"
    ),
    DEVICE: listed(
        "deviceid devid deviceuuid deviceserial imei imei1 imei2 meid imsi iccid idfa idfv gaid "
        "adid aaid androidid advertisingid advertiserid udid serialnumber serialno seriennummer "
        "fingerprint cookie cookieid visitorid anonymousid installid installationid pushtoken "
        "fcmtoken devicetoken gerateid geraeteid idappareil iddispositivo hardwareid machineid ga "
        "gclid fbclid fbp"
    ),
    NAME: listed(
        "firstname lastname surname forename givenname familyname fullname middlename maidenname "
        "nickname username displayname screenname login realname personname contactname "
        "customername recipientname sendername cardholder accountholder vorname nachname "
        "familienname benutzername kontoinhaber prenom nomdefamille nomcomplet apellido apellidos "
        "nombrecompleto cognome sobrenome nomecompleto voornaam achternaam fornavn etternavn "
        "efternavn fornamn efternamn imie nazwisko jmeno prijmeni etunimi sukunimi имя фамилия "
        "отчество 姓名 氏名 名前 이름"
    ),
    OFFICIAL: listed(
        "ssn socialsecurity socialsecuritynumber passport passportnumber passportno nationalid "
        "taxid steuernummer steuerid personnummer personalausweis nif nie dni cpf curp bsn pesel "
        "aadhaar nino insurancenumber patientid driverlicense driverslicense licensenumber "
        "licenseplate kennzeichen iban cardnumber creditcard pan accountnumber bankaccount "
        "kontonummer"
    ),
    BIRTH: listed(
        "birth birthday birthdate dob dateofbirth geburtsdatum geburtstag naissance datenaissance "
        "nacimiento nascimento geboortedatum"
    ),
}
# What counts or flags them is none: "mobile_orders".
_NO_SMALL_NUMBERS = (EMAIL, PHONE, NETWORK)
# Words that are long enough to be looked for inside of others, as in "customeremail".
_INSIDE = {
    word: kind
    for kind, words in _NAMES.items()
    for word in words
    if len(word) >= 7 or word in ("email", "phone", "telefon")
}
# A name is that of a person beside one of these.
_NAME_WORDS = listed("name names nom nombre nome naam namn navn nimi")
# What is said about a personal value is mostly not personal.
_ABOUT = listed(
    "type kind status count verified valid enabled version domain class category format provider "
    "length size model brand os country countrycode city region state opted consent label amount "
    "price total subtotal cost fee balance sum discount quantity qty views clicks signal score rate"
)
_PLACES = listed("lat latitude lon lng longitude geo gps location coord coords coordinates")
# Each of them has few values, of which tokens would hide little.
_SENSITIVE = listed(
    "gender sex geschlecht genero sexe religion nationality citizenship ethnicity race marital "
    "health disability diagnosis pregnancy orientation union"
)


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
    if _NAME_WORDS & {*words} and PERSONS & {*words, *around}:
        return NAME
    if "device" in {*words, *around} and IDS & {*words}:
        return DEVICE
    # The parts of an address, a name or a phone are as personal as the whole.
    return kind_by_name(path[:-1]) if len(path) > 1 else None


def why_personal(values: Mapping[tuple[str, ...], Sequence[Any]]) -> str | None:
    """What a field holds of a person, and whether its name or a value says so; None if nothing.

    :param values: of the field and of what is inside of it, by path
    """
    for path, found in values.items():
        kind = kind_by_name(path)
        if kind and not (kind in _NO_SMALL_NUMBERS and are_small_numbers(found)):
            return f"{kind} (by the field's name)"
    for path, found in values.items():
        if kind := kind_by_shape(found, path[-1]):
            return f"{kind} (by its values)"
    return None


def doubt(path: Sequence[str], texts: Sequence[str]) -> str | None:
    """Why a field that does not look personal may be so all the same; None if nothing says so."""
    words = {*words_of(path[-1])}
    around = {word for name in path for word in words_of(name)}
    is_id = bool(words & IDS) and bool(around & (PERSONS | {"account", "session"}))
    if is_id or words & (PERSONS | {"uid"}):
        return "it may identify a person; if so, add mask: true"
    if words & _PLACES:
        return "a place can identify a person"
    if words & _NAME_WORDS:
        return "a name: if it is a person's, add mask: true"
    if words & _SENSITIVE:
        return "it may tell something sensitive of a person; if so, leave it out"
    if any(text.count(" ") >= 4 for text in texts):
        return "free text can hold anything; if that is personal, add mask: true"
    return None

"""The words of names of fields, by which a draft tells what a field is about."""

from __future__ import annotations

import re
import unicodedata

_PARTS = re.compile(r"[^\W_]+")
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def listed(text: str) -> frozenset[str]:
    """The words of a list: lower case, without accents."""
    return frozenset(text.split())


MONEY = listed(
    "amount price total subtotal cost fee tax vat balance sum discount payment revenue salary "
    "betrag preis summe gebuhr prix montant cout precio importe coste prezzo importo valor"
)
# What is measured or counted.
QUANTITIES = MONEY | listed(
    "bonus wage rate percent score quantity qty count counter weight volume distance duration "
    "dimension dimensions size length width height depth range coord coords coordinates lat lon "
    "energy power pressure temperature voltage days hours minutes seconds bytes menge anzahl"
)
# What has a number, and is no person.
THINGS = listed(
    "order invoice transaction tx shipment tracking parcel package container route ticket case "
    "contract quote product article item part model batch lot session request trace thread message "
    "event bestellung auftrag rechnung artikel commande facture pedido factura ordine fattura"
)
CODES = listed("sku ean gtin isbn version build firmware release")
IDS = listed("id ids uid uuid guid key number no nr")
PERSONS = listed(
    "user users customer client cliente kunde contact person patient employee member recipient "
    "sender owner buyer seller driver passenger guest author student teacher parent child "
    "utilisateur usuario utente benutzer empfanger absender klant shipping billing beneficiary "
    "payer payee holder profile actor subject subscriber agent manager supervisor assignee "
    "approver colleague spouse witness"
)


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without accents: ``deviceId`` is *device* and *id*."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    # NFKD takes Japanese and Korean letters apart, which are no accents.
    plain = unicodedata.normalize("NFC", plain)
    return [word.lower() for word in _PARTS.findall(_CAPITALS.sub("_", plain))]
